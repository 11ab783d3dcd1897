"""What the machine has left, once a second of real time: idle processors, and how late a thread of the run wakes."""

from collections.abc import Callable
from typing import Any

from nodes.clock import Clock

FIRST_US, EACH_US = 57_191, 1_000_000


def watch(clock: Clock, end_us: int, record: Callable[..., Any]) -> None:
    """Until `end_us`; the kernel's own figures, of all its processors."""
    import psutil  # only in real time

    before = psutil.cpu_times()
    for t_us in range(FIRST_US, end_us, EACH_US):
        clock.sleep_until(t_us)
        now_us, now = clock.now_us(), psutil.cpu_times()
        whole = sum(now) - sum(before)
        idle = now.idle - before.idle
        before = now
        if whole > 0 and t_us > FIRST_US:
            record("headroom", now_us, idle_ppm=round(1e6 * min(1.0, idle / whole)), late_us=now_us - t_us)
