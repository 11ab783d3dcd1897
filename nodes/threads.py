"""A thread that fails takes its process along: a host that answers half of what it should is worse than one that ended.

Whoever watches the process sees the exit code, and the journal says why.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.clock import Clock
from nodes.zygote import FAILED

if TYPE_CHECKING:
    from nodes.agent import Record  # costly to import, and not every process that is guarded holds an agent


def _exit() -> None:
    os._exit(FAILED)


def fail_loudly(record: "Record", clock: Clock, end: Callable[[], None] = _exit) -> None:
    """From now on an exception that no thread handles becomes a `fault` record and exit code 70, or what `end` does."""

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
            end()

    threading.excepthook = fail
