"""Sockets of servers that a test has started: a path is there a moment before anybody listens."""

import time

TRIES, EACH_S = 1200, 0.05  # a minute: a machine may be busy


def opened(connect):
    """What `connect()` gives, once the server listens."""
    for _ in range(TRIES):
        try:
            return connect()
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(EACH_S)
    return connect()
