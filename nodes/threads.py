"""A thread that fails takes its process along: a host that answers half of what it should is worse than one that ended.

Whoever watches the process sees the exit code, and the journal says why.
"""

import os
import sys
import threading

from nodes.agent import Record
from nodes.clock import Clock
from nodes.zygote import FAILED


def fail_loudly(record: Record, clock: Clock) -> None:
    """From now on an exception that no thread handles becomes a `fault` record and exit code 70."""

    def fail(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_type is SystemExit:
            return
        name = failure.thread.name if failure.thread else "?"
        try:
            threading.__excepthook__(failure)
            why = f"{name}: {failure.exc_type.__name__}: {failure.exc_value}"
            record("fault", clock.now_us(), what="thread", why=why)
        finally:
            sys.stderr.flush()
            os._exit(FAILED)

    threading.excepthook = fail
