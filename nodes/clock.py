"""Time since the experiment's time zero, and one thread a process that calls back at set times.

Rules: time never comes from anywhere else; nothing polls; waiting never ends early (sleeps are rounded up).
"""

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

WAIT_MAX_US = 3_600_000_000  # one wait; longer ones are waited in pieces


class Clock(Protocol):
    def now_us(self) -> int:
        """Microseconds since time zero, negative before it."""
        ...

    def sleep_until(self, t_us: int) -> None: ...


class MonotonicClock:
    """CLOCK_MONOTONIC, which all processes of a run share, minus time zero."""

    def __init__(self, t0_us: int = 0) -> None:
        self.t0_us = t0_us

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000 - self.t0_us

    def sleep_until(self, t_us: int) -> None:
        while (left_us := t_us - self.now_us()) > 0:
            time.sleep(left_us / 1e6)


class PreparationClock(MonotonicClock):
    """Stands at 0 until time zero is set: what is prepared happens before everything else, however long it takes."""

    def now_us(self) -> int:
        return super().now_us() if self.t0_us else 0


def wait_until(condition: threading.Condition, clock: Clock, t_us: int | None) -> None:
    """One wait on a held condition: until notified, or until `t_us` when there is one."""
    if t_us is None:
        condition.wait()
    elif (left_us := t_us - clock.now_us()) > 0:
        condition.wait(min(left_us, WAIT_MAX_US) / 1e6)


class Alarm:
    """A set time; `cancel` frees what the callback holds."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Timer:
    """Calls back in order of time, on its own thread; callbacks must be short."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._heap: list[tuple[int, int, Alarm]] = []
        self._order = count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="timer", daemon=True)
        self._thread.start()

    def at(self, t_us: int, call: Callable[[], None]) -> Alarm:
        alarm = Alarm(call)
        with self._condition:
            entry = (t_us, next(self._order), alarm)
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._condition.notify()
        return alarm

    def rearm(self) -> None:
        """The clock was set: look again."""
        with self._condition:
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (alarm := self._due()) is not None:
            call = alarm.call
            if call is not None:
                call()

    def _due(self) -> Alarm | None:
        with self._condition:
            while not self._closed:
                while self._heap and self._heap[0][2].call is None:
                    heapq.heappop(self._heap)  # cancelled ones need no waking up
                first = self._heap[0][0] if self._heap else None
                if first is not None and first <= self._clock.now_us():
                    return heapq.heappop(self._heap)[2]
                wait_until(self._condition, self._clock, first)
        return None
