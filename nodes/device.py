"""The modelled processor of a node: one job at a time in order of arrival, at FLOP/s less background load.

`Processor` and `Memory` are the model: plain numbers, time is an argument. `Device` is the thread that lives by it:
it runs the real numbers of a job, then sleeps until the modelled end. In virtual time the run costs nothing; in real
time a run that takes longer than the model says is reported as an overrun and moves the end.

    modelled time = flops / (flops_per_s * (1 - load)); a change of load applies to what is left of the running job.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from nodes.clock import Clock, wait_until

PPM = 1_000_000
Result = TypeVar("Result")


class Processor:
    """Speed, load, what is left of the running job, and what waits."""

    def __init__(self, flops_per_s: int) -> None:
        if flops_per_s <= 0:
            raise ValueError(f"flops_per_s is {flops_per_s}; a processor does more than nothing")
        self.flops_per_s = flops_per_s
        self.load_ppm = 0
        self.waiting_flops = 0
        self.running = False
        self._left_flops = 0
        self._since_us = 0

    @property
    def rate(self) -> int:
        """FLOP/s that the load leaves; never 0, so that every end is a number."""
        return max(1, self.flops_per_s * (PPM - self.load_ppm) // PPM)

    def set_load(self, load_ppm: int, now_us: int) -> None:
        if not 0 <= load_ppm <= PPM:
            raise ValueError(f"load is {load_ppm} ppm; 0 to {PPM} is right")
        self._left_flops = self._left(now_us)
        self._since_us = max(self._since_us, now_us)
        self.load_ppm = load_ppm

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

    def _us(self, flops: int) -> int:
        return -(-flops * PPM // self.rate)


class MemoryRefused(Exception):
    """What was asked for does not fit; nothing was taken."""

    def __init__(self, node: str, what: str, need_bytes: int, free_bytes: int) -> None:
        super().__init__(f"{node}: {what} needs {need_bytes} bytes, {free_bytes} are free")


class Memory:
    """Weights of blocks (each counted once), the largest working set of a slice, and tensors that wait or run."""

    def __init__(self, node: str, limit_bytes: int) -> None:
        self.node = node
        self.limit_bytes = limit_bytes
        self._blocks: dict[tuple[str, int], tuple[int, int]] = {}  # block -> bytes, slices that hold it
        self._working: dict[tuple[str, int, int], int] = {}
        self._tensor_bytes = 0

    @property
    def used_bytes(self) -> int:
        weights = sum(size for size, _ in self._blocks.values())
        return weights + max(self._working.values(), default=0) + self._tensor_bytes

    def hold(self, piece: tuple[str, int, int], weight_bytes: Mapping[int, int], working_bytes: int) -> None:
        """Takes the blocks of a slice (block -> bytes); raises `MemoryRefused`. A slice that is held is left alone."""
        if piece in self._working:
            return
        model, first, last = piece
        new_bytes = sum(size for block, size in weight_bytes.items() if (model, block) not in self._blocks)
        more_bytes = max(0, working_bytes - max(self._working.values(), default=0))
        self._need(f"{model}[{first}:{last}]", new_bytes + more_bytes)
        for block, size in weight_bytes.items():
            self._blocks[model, block] = (size, self._blocks.get((model, block), (size, 0))[1] + 1)
        self._working[piece] = working_bytes

    def drop(self, piece: tuple[str, int, int]) -> None:
        """The inverse of `hold`; dropping what is not held does nothing."""
        if self._working.pop(piece, None) is None:
            return
        model, first, last = piece
        for block in range(first, last):
            size, holders = self._blocks.pop((model, block))
            if holders > 1:
                self._blocks[model, block] = (size, holders - 1)

    def take(self, what: str, size_bytes: int) -> None:
        self._need(what, size_bytes)
        self._tensor_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        self._tensor_bytes -= size_bytes

    def clear(self) -> None:
        self._blocks.clear()
        self._working.clear()
        self._tensor_bytes = 0

    def _need(self, what: str, size_bytes: int) -> None:
        free_bytes = self.limit_bytes - self.used_bytes
        if size_bytes > free_bytes:
            raise MemoryRefused(self.node, what, size_bytes, free_bytes)


@dataclass(frozen=True, slots=True)
class Job(Generic[Result]):
    """`run` computes on the device's thread, `done` is told (start_us, end_us, late_us, result) when the time is up."""

    flops: int
    arrival_us: int
    run: Callable[[], Result]
    done: Callable[[int, int, int, Result], None]


class Device:
    """A processor, and the thread that spends the modelled time."""

    def __init__(self, flops_per_s: int, clock: Clock) -> None:
        self._processor = Processor(flops_per_s)
        self._clock = clock
        self._condition = threading.Condition()
        self._queue: deque[Job[object]] = deque()
        self._life = 0  # work of an earlier life ends in silence
        self._free_us = 0
        self._busy_us = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Result]) -> None:
        with self._condition:
            self._queue.append(job)  # type: ignore[arg-type]  # a job is closed over its own result
            self._processor.waiting_flops += job.flops
            self._condition.notify_all()

    def set_load(self, load_ppm: int) -> None:
        with self._condition:
            self._processor.set_load(load_ppm, self._clock.now_us())
            self._condition.notify_all()

    def clear(self) -> None:
        """Loses what waits and what runs."""
        with self._condition:
            self._queue.clear()
            self._processor.waiting_flops = 0
            self._life += 1
            self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._life += 1
            self._condition.notify_all()
        self._thread.join()

    def state(self) -> tuple[int, int, int, int]:
        """load_ppm, queue_us, jobs waiting or running, busy_us."""
        with self._condition:
            processor = self._processor
            queued = len(self._queue) + processor.running
            return processor.load_ppm, processor.queue_us(self._clock.now_us()), queued, self._busy_us

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            job, start_us, life = taken
            result = job.run()
            ended = self._spend(start_us, life)
            if ended is not None:
                job.done(start_us, *ended, result)

    def _next(self) -> tuple[Job[object], int, int] | None:
        with self._condition:
            while not self._queue and not self._closed:
                self._condition.wait()
            if self._closed:
                return None
            job = self._queue.popleft()
            # the modelled start: waking up late does not add up over a busy period
            start_us = max(job.arrival_us, self._free_us)
            self._processor.waiting_flops -= job.flops
            self._processor.begin(job.flops, start_us)
            return job, start_us, self._life

    def _spend(self, start_us: int, life: int) -> tuple[int, int] | None:
        """Waits for the modelled end: (end_us, late_us), None when the work was lost meanwhile."""
        with self._condition:
            computed_us = self._clock.now_us()
            late_us = max(0, computed_us - self._processor.end_us())
            while life == self._life and self._clock.now_us() < self._processor.end_us():
                wait_until(self._condition, self._clock, self._processor.end_us())
            lost = life != self._life
            end_us = self._clock.now_us() if lost else self._processor.end_us() + late_us
            self._processor.stop()
            self._free_us = end_us
            self._busy_us += max(0, end_us - start_us)
            return None if lost else (end_us, late_us)
