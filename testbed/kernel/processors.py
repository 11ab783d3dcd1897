"""Which processor a guest gets.

A guest has one virtual processor but several host processes that take turns (kernel and user code); kept on one
processor they hand over about three times faster than across two, where each turn wakes an idle processor.
"""

import os
import time
from pathlib import Path

SAMPLE_S = 0.05


def idlest() -> int:
    """The allowed processor that did least in a short sample."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return allowed[0]
    before = _busy()
    time.sleep(SAMPLE_S)
    after = _busy()
    return min(allowed, key=lambda cpu: (after.get(cpu, 0) - before.get(cpu, 0), -cpu))


def spread(count: int) -> list[int]:
    """A processor for each of `count` guests that run side by side."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[number % len(allowed)] for number in range(count)]


def _busy() -> dict[int, int]:
    """Processor -> ticks spent on anything but idling."""
    ticks = {}
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0].startswith("cpu") and words[0] != "cpu":
            user, nice, system, _idle, _iowait, *interrupts = map(int, words[1:9])
            ticks[int(words[0][3:])] = user + nice + system + sum(interrupts)
    return ticks
