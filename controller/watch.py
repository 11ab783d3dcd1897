"""A limit of real time for a stranger's code that may never come back.

In virtual time no timer helps: the clock stands still while anything computes. So the code is traced, line by line, and
the stopwatch is read now and then; when its time is up, `TimeUp` is raised inside it. Lines of the testbed and of NumPy
are not traced, only calls. What loops inside a library written in C is not seen until it returns. Tracing slows Python
code several times, so the policies that come with the testbed are not watched, nor anything while a debugger traces.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EVENTS = 500  # lines and calls between two looks at the stopwatch
OWN = frozenset({"controller", "nodes", "testbed", "numpy", "importlib"})


class TimeUp(BaseException):
    """Not an Exception, so that no `except Exception` of the code that is stopped holds it back."""


@contextmanager
def watched(stopwatch: Callable[[], int], limit_us: int) -> Iterator[None]:
    """Raises TimeUp inside the block soon after `limit_us` of the stopwatch."""
    if sys.gettrace() is not None:
        yield
        return
    end_us, left = stopwatch() + limit_us, EVENTS

    def trace(frame: FrameType, _event: str, _arg: Any) -> Callable[..., Any] | None:
        nonlocal left
        left -= 1
        if left <= 0:
            left = EVENTS
            if stopwatch() > end_us:
                raise TimeUp
        return None if str(frame.f_globals.get("__name__", "")).partition(".")[0] in OWN else trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
