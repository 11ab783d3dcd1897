"""Which of the event engines in gRPC's core a process runs on: chosen before grpc is first imported.

The newest hands what comes through three threads of its own before the one that waits for it, and the one before it
through whichever thread of the process looks first. With the oldest, a thread that waits for events finds its own
connections' itself: that is half the way of a small tensor (docs/dataplane.md). It looks at all of them each time, some
0.3 us for each, which is little for as many as a host has. Who has set one of these has the last word.
"""

import os

ENVIRONMENT = {
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener,-event_engine_for_all_other_endpoints",
    "GRPC_POLL_STRATEGY": "poll",
}


def choose() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
