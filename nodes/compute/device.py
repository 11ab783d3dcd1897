"""The threads that live by the modelled processor: one job at a time in order of arrival, or all at once.

`nodes.compute.processor` is the model. A device runs the real numbers of a job, then sleeps until the modelled end. In
virtual time the run costs nothing; in real time a run that takes longer than the model says is reported as late and
moves the end. Where compute is not modelled (`modelled=False`), a job ends when its numbers are there.

    device = device_of("fifo", Speed(flops_per_s), clock)
    device.submit(Job(work, clock.now_us(), run, done))
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from nodes.clock import Clock, wait_until
from nodes.compute.processor import Processor, Sharing, Speed
from nodes.slices import Work

Result = TypeVar("Result")
Discipline = Literal["fifo", "ps"]


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[Result]):
    """`run` computes on the device's thread, `done` is told (start_us, end_us, late_us, result) when the time is up."""

    work: tuple[Work, ...]  # of each block
    arrival_us: int
    run: Callable[[], Result]
    done: Callable[[int, int, int, Result], None]
    alike: Hashable = None  # jobs that are alike may run together, at most `batch` of them
    batch: int = 1


def device_of(discipline: Discipline, speed: Speed, clock: Clock, *, modelled: bool = True) -> "Device":
    if discipline == "ps" and modelled:
        return Shared(speed, clock)
    return Queueing(speed, clock, modelled=modelled)


class Device(ABC):
    """A model of a processor, and the thread that spends the modelled time."""

    _model: Processor | Sharing

    def __init__(self, speed: Speed, clock: Clock) -> None:
        self._speed = speed
        self._clock = clock
        self._condition = threading.Condition()
        self._queue: deque[Job[object]] = deque()
        self._life = 0  # work of an earlier life ends in silence
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Result]) -> None:
        with self._condition:
            self._queue.append(job)  # type: ignore[arg-type]  # a job is closed over its own result
            self._submitted(job)  # type: ignore[arg-type]
            self._condition.notify_all()

    def set_load(self, load_ppm: int) -> None:
        with self._condition:
            self._model.set_load(load_ppm, self._clock.now_us())
            self._condition.notify_all()

    def clear(self) -> None:
        """Loses what waits and what runs."""
        with self._condition:
            self._queue.clear()
            self._cleared()
            self._life += 1
            self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._life += 1
            self._condition.notify_all()
        self._thread.join()

    @abstractmethod
    def state(self) -> tuple[int, int, int, int]:
        """load_ppm, queue_us, jobs waiting or running, busy_us."""

    @abstractmethod
    def _work(self) -> None:
        """The thread's life."""

    def _submitted(self, job: Job[object]) -> None:  # noqa: B027 most have nothing to do
        """A job has come; the lock is held."""

    def _cleared(self) -> None:  # noqa: B027 as above
        """What waits and what runs is lost; the lock is held."""


class Queueing(Device):
    """One job at a time in order of arrival; those that wait and are alike with the first run together with it."""

    def __init__(self, speed: Speed, clock: Clock, *, modelled: bool = True) -> None:
        self._model: Processor = Processor(speed.flops_per_s)
        self._modelled = modelled
        self._free_us = 0
        self._busy_us = 0
        super().__init__(speed, clock)

    def state(self) -> tuple[int, int, int, int]:
        with self._condition:
            queued = len(self._queue) + self._model.running
            self._model.waiting_flops = sum(
                self._speed.effort([job.work for job in together]) for together in batches(self._queue)
            )
            return self._model.load_ppm, self._model.queue_us(self._clock.now_us()), queued, self._busy_us

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            jobs, start_us, life = taken
            results = [job.run() for job in jobs]
            ended = self._spend(start_us, life)
            if ended is not None:
                for job, result in zip(jobs, results, strict=True):
                    job.done(start_us, *ended, result)

    def _next(self) -> tuple[list[Job[object]], int, int] | None:
        with self._condition:
            while not self._queue and not self._closed:
                self._condition.wait()
            if self._closed:
                return None
            # the modelled start: waking up late does not add up over a busy period
            start_us = max(self._queue[0].arrival_us, self._free_us)
            if not self._modelled:
                start_us = max(start_us, self._clock.now_us())
            jobs = batches(job for job in self._queue if job.arrival_us <= start_us)[0]
            taken = set(jobs)
            self._queue = deque(job for job in self._queue if job not in taken)
            self._model.begin(self._speed.effort([job.work for job in jobs]), start_us)
            return jobs, start_us, self._life

    def _spend(self, start_us: int, life: int) -> tuple[int, int] | None:
        """Waits for the modelled end: (end_us, late_us), None when the work was lost meanwhile."""
        with self._condition:
            computed_us = self._clock.now_us()
            late_us = max(0, computed_us - self._model.end_us())
            while self._modelled and life == self._life and self._clock.now_us() < self._model.end_us():
                wait_until(self._condition, self._clock, self._model.end_us())
            lost = life != self._life
            end_us = self._model.end_us() + late_us if self._modelled and not lost else self._clock.now_us()
            self._model.stop()
            self._free_us = end_us
            self._busy_us += max(0, end_us - start_us)
            return None if lost else (end_us, late_us if self._modelled else 0)


def batches(jobs: Iterable[Job[object]]) -> list[list[Job[object]]]:
    """In the order of their first jobs: each with those behind it that may run together with it."""
    found: list[list[Job[object]]] = []
    open_: dict[Hashable, list[Job[object]]] = {}
    for job in jobs:
        key = job.alike, len(job.work)  # a beginning of a generation may pass more blocks than its steps
        together = open_.get(key, []) if job.batch > 1 else []
        if not together or len(together) == job.batch:
            together = open_[key] = []
            found.append(together)
        together.append(job)
    return found


class Shared(Device):
    """All jobs at once, at equal parts; nothing waits, so nothing is batched. A late job slows no other down."""

    def __init__(self, speed: Speed, clock: Clock) -> None:
        self._model: Sharing = Sharing(speed.flops_per_s)
        self._computed: dict[Job[object], tuple[object, int]] = {}  # result, and when it was there
        self._over: dict[Job[object], int] = {}  # modelled ends that are not told yet
        super().__init__(speed, clock)

    def state(self) -> tuple[int, int, int, int]:
        with self._condition:
            queue_us = self._model.queue_us(self._clock.now_us())
            return self._model.load_ppm, queue_us, len(self._model), self._model.busy_us

    def _submitted(self, job: Job[object]) -> None:
        self._model.begin(job, self._speed.effort([job.work]), job.arrival_us)

    def _cleared(self) -> None:
        self._model.clear(self._clock.now_us())
        self._computed.clear()
        self._over.clear()

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            ended, job, life = turn
            for one, end_us, late_us, result in ended:
                one.done(one.arrival_us, end_us, late_us, result)
            if job is not None:
                result = job.run()
                with self._condition:
                    if life == self._life:
                        self._computed[job] = result, self._clock.now_us()

    def _next(self) -> tuple[list[tuple[Job[object], int, int, object]], Job[object] | None, int] | None:
        """Jobs that have ended, and one to compute; waits until there is either."""
        with self._condition:
            while not self._closed:
                ended = list(self._take_ended())
                if ended or self._queue:
                    return ended, self._queue.popleft() if self._queue else None, self._life
                wait_until(self._condition, self._clock, self._model.next_end_us())
            return None

    def _take_ended(self) -> Iterator[tuple[Job[object], int, int, object]]:
        self._over.update(self._model.ended(self._clock.now_us()))  # type: ignore[arg-type]  # the keys are jobs
        for job in [job for job in self._over if job in self._computed]:
            end_us, (result, computed_us) = self._over.pop(job), self._computed.pop(job)
            late_us = max(0, computed_us - end_us)
            yield job, end_us + late_us, late_us, result
