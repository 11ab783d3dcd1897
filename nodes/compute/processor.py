"""The modelled processor of a node in plain numbers: how long work takes, and who gets how much of it.

    time of a block = max(flops / flops_per_s, bytes / memory_bytes_per_s) / (1 - load)

Rules: time is an argument. The blocks of a slice run one after another, so their times add up and no cut changes the
sum. Requests that run together read the weights once. Background load takes its share of processor and memory alike.
Time is kept as `effort`, the FLOP that the processor would have done in it, so that a change of load applies to what
is left.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from nodes.slices import Work

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Speed:
    flops_per_s: int
    memory_bytes_per_s: int = 0  # 0: not known, memory costs no time

    def __post_init__(self) -> None:
        if self.flops_per_s <= 0:
            raise ValueError(f"flops_per_s is {self.flops_per_s}; a processor does more than nothing")

    def effort(self, requests: Sequence[Sequence[Work]]) -> int:
        """FLOP that go by while these requests run together; each is the blocks of the same slice."""
        return sum(self._block(together) for together in zip(*requests, strict=True))

    def _block(self, together: Sequence[Work]) -> int:
        flops = sum(work.flops for work in together)
        if not self.memory_bytes_per_s:
            return flops
        read_bytes = max(work.shared_bytes for work in together) + sum(work.own_bytes for work in together)
        return max(flops, -(-read_bytes * self.flops_per_s // self.memory_bytes_per_s))


class _Loaded:
    """A speed, of which background load leaves a share."""

    def __init__(self, flops_per_s: int) -> None:
        self.flops_per_s = flops_per_s
        self.load_ppm = 0

    @property
    def rate(self) -> int:
        """FLOP/s that the load leaves; never 0, so that every end is a number."""
        return max(1, self.flops_per_s * (PPM - self.load_ppm) // PPM)

    def _take_load(self, load_ppm: int) -> None:
        if not 0 <= load_ppm <= PPM:
            raise ValueError(f"load is {load_ppm} ppm; 0 to {PPM} is right")
        self.load_ppm = load_ppm

    def _us(self, flops: int) -> int:
        return -(-flops * PPM // self.rate)


class Processor(_Loaded):
    """One job at a time: load, what is left of the running job, and what waits."""

    def __init__(self, flops_per_s: int) -> None:
        super().__init__(flops_per_s)
        self.waiting_flops = 0
        self.running = False
        self._left_flops = 0
        self._since_us = 0

    def set_load(self, load_ppm: int, now_us: int) -> None:
        left_flops = self._left(now_us)
        self._take_load(load_ppm)
        self._left_flops = left_flops
        self._since_us = max(self._since_us, now_us)

    def begin(self, flops: int, start_us: int) -> None:
        self.running, self._left_flops, self._since_us = True, flops, start_us

    def stop(self) -> None:
        self.running, self._left_flops = False, 0

    def end_us(self) -> int:
        """When the running job ends if the load stays as it is."""
        return self._since_us + self._us(self._left_flops)

    def queue_us(self, now_us: int) -> int:
        """Modelled work not yet done: the rest of the running job and all that waits."""
        return self._us(self._left(now_us) + self.waiting_flops)

    def _left(self, now_us: int) -> int:
        passed_us = max(0, now_us - self._since_us)
        return max(0, self._left_flops - passed_us * self.rate // PPM)


class Sharing(_Loaded):
    """All jobs at once, each at an equal part of what the load leaves (processor sharing).

    What a job has had since it began is what every other has had in that time: it ends when the common account
    reaches a mark of its own.
    """

    def __init__(self, flops_per_s: int) -> None:
        super().__init__(flops_per_s)
        self.busy_us = 0
        self._had_flops = 0  # by a job that was there from the beginning
        self._since_us = 0
        self._marks: list[tuple[int, int, Hashable]] = []
        self._order = count()
        self._ended: list[tuple[Hashable, int]] = []

    def __len__(self) -> int:
        return len(self._marks)

    def set_load(self, load_ppm: int, now_us: int) -> None:
        self._advance(now_us)
        self._take_load(load_ppm)

    def begin(self, job: Hashable, flops: int, start_us: int) -> None:
        self._advance(start_us)
        heappush(self._marks, (self._had_flops + flops, next(self._order), job))

    def ended(self, now_us: int) -> list[tuple[Hashable, int]]:
        """Jobs that have ended since the last call, and when."""
        self._advance(now_us)
        ended, self._ended = self._ended, []
        return ended

    def next_end_us(self) -> int | None:
        """When the next job ends if nothing changes."""
        if not self._marks:
            return None
        return self._since_us + self._us((self._marks[0][0] - self._had_flops) * len(self._marks))

    def queue_us(self, now_us: int) -> int:
        self._advance(now_us)
        return self._us(sum(mark - self._had_flops for mark, _, _ in self._marks))

    def clear(self, now_us: int) -> None:
        self._advance(now_us)
        self._marks, self._ended = [], []

    def _advance(self, now_us: int) -> None:
        while (end_us := self.next_end_us()) is not None and end_us <= now_us:
            self._pass(end_us)
            self._had_flops, _, job = heappop(self._marks)
            self._ended.append((job, end_us))
        if not self._marks:
            self._since_us = now_us  # back too: time zero is set while nothing runs
        elif now_us > self._since_us:
            self._had_flops += (now_us - self._since_us) * self.rate // (PPM * len(self._marks))
            self._pass(now_us)

    def _pass(self, now_us: int) -> None:
        self.busy_us += now_us - self._since_us
        self._since_us = now_us
