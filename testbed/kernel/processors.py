"""Which processor a guest gets.

A guest has one virtual processor but several host processes that take turns (kernel and user code); kept on one
processor they hand over about three times faster than across two, where each turn wakes an idle processor. Two guests
on one processor take twice as long: a guest claims its own by a name that the kernel frees when the claimant ends.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAMPLE_S = 0.05
NAME = "\0mec-testbed/processor/"  # abstract: no file, the whole machine sees it


@contextmanager
def claimed() -> Iterator[int]:
    """An allowed processor that no other guest has claimed; when all are, the idlest. The claim lasts as the block."""
    order = by_idleness()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        yield next((cpu for cpu in order if _bound(claim, cpu)), order[0])


def _bound(claim: socket.socket, cpu: int) -> bool:
    try:
        claim.bind(f"{NAME}{cpu}")
    except OSError:  # another guest's
        return False
    return True


def by_idleness() -> list[int]:
    """The allowed processors, the one first that did least in a short sample."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return allowed
    before = _busy()
    time.sleep(SAMPLE_S)
    after = _busy()
    return sorted(allowed, key=lambda cpu: (after.get(cpu, 0) - before.get(cpu, 0), -cpu))


def _busy() -> dict[int, int]:
    """Processor -> ticks spent on anything but idling."""
    ticks = {}
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0].startswith("cpu") and words[0] != "cpu":
            user, nice, system, _idle, _iowait, *interrupts = map(int, words[1:9])
            ticks[int(words[0][3:])] = user + nice + system + sum(interrupts)
    return ticks
