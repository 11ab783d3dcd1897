"""The node selection algorithm of AMP4EC (algorithm 1): which node a task goes to. Pure.

A node whose load is over `OVERLOAD`, or whose latency is over the threshold, or which has not the processor or memory
that the task asks for, is passed over; the others are scored by equation 7, and the best takes the task.
  S_R  resources   mean of available / requested, processor and memory      (8)
  S_L  load        1 - load                                                 (9)
  S_P  performance 1 / (1 + mean execution time in ms), 0.5 without history (10)
  S_B  balance     1 / (1 + 2 tasks)                                        (11)
In `paper` mode S_R has no upper limit, so that a node with much to spare outweighs all else and gets nearly every task;
the load is the mean of the last five execution times in units of 100 ms; a task that has ended still counts. In
`physical` mode each ratio of S_R is at most 2, the load is the measured one, and `ended` takes a task off again.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["paper", "physical"]

WEIGHTS = (0.2, 0.2, 0.1, 0.5)  # of S_R, S_L, S_P, S_B: equation 7
OVERLOAD = 0.8
LATENCY_MS = 100.0  # the paper names no value
RATIO_MOST = 2.0
RECENT, HISTORY = 5, 100
LOAD_MS = 100.0  # execution time that counts as full load


@dataclass(frozen=True, slots=True)
class Request:
    """What a task needs: share of a reference processor, bytes."""

    cpu: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node has left, and how far away it is."""

    name: str
    cpu: float
    memory_bytes: float
    load: float  # measured, 0..1
    latency_ms: float


@dataclass(slots=True)
class History:
    """Of one node: its last execution times, and the tasks that it has."""

    times_ms: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    tasks: int = 0
    total_ms: float = 0.0

    def ran(self, time_ms: float) -> None:
        if len(self.times_ms) == self.times_ms.maxlen:
            self.total_ms -= self.times_ms[0]
        self.times_ms.append(time_ms)
        self.total_ms += time_ms

    @property
    def mean_ms(self) -> float | None:
        return self.total_ms / len(self.times_ms) if self.times_ms else None

    @property
    def recent_load(self) -> float:
        """Equation 9's load: 0 until there are five."""
        if len(self.times_ms) < RECENT:
            return 0.0
        recent = [self.times_ms[-i] for i in range(1, RECENT + 1)]
        return min(1.0, sum(recent) / RECENT / LOAD_MS)


class Scheduler:
    """Remembers what each node ran and has; a node that it does not know begins with nothing."""

    def __init__(
        self,
        mode: Mode = "physical",
        weights: tuple[float, float, float, float] = WEIGHTS,
        latency_ms: float = LATENCY_MS,
        overload: float = OVERLOAD,
    ) -> None:
        self.mode, self.weights = mode, weights
        self._latency_ms, self._overload = latency_ms, overload
        self._of: dict[str, History] = {}

    def select(self, request: Request, offers: Sequence[Offer]) -> str | None:
        """The node that takes the task, which it then has; None when none may. Of equals the first."""
        best, chosen = -1.0, None
        for offer in offers:
            if self.refusal(request, offer) is None:
                score = self.score(request, offer)
                if score > best:
                    best, chosen = score, offer.name
        if chosen is not None:
            self._history(chosen).tasks += 1
        return chosen

    def refusal(self, request: Request, offer: Offer) -> str | None:
        """Why a node is passed over; None when it is not."""
        load = self._load(offer)
        if load > self._overload:
            return f"load {load:.0%} is over {self._overload:.0%}"
        if offer.latency_ms > self._latency_ms:
            return f"{offer.latency_ms:.1f} ms away, at most {self._latency_ms:g}"
        if offer.cpu < request.cpu:
            return f"processor {offer.cpu:.2f}, {request.cpu:.2f} are asked for"
        if offer.memory_bytes < request.memory_bytes:
            return f"{offer.memory_bytes / 2**20:.0f} MiB, {request.memory_bytes / 2**20:.0f} are asked for"
        return None

    def score(self, request: Request, offer: Offer) -> float:
        """Equation 7."""
        return sum(w * s for w, s in zip(self.weights, self.parts(request, offer).values(), strict=True))

    def parts(self, request: Request, offer: Offer) -> dict[str, float]:
        """S_R, S_L, S_P, S_B of equations 8 to 11."""
        history = self._of.get(offer.name) or History()
        ratios = offer.cpu / request.cpu, offer.memory_bytes / request.memory_bytes
        if self.mode == "physical":
            ratios = min(ratios[0], RATIO_MOST), min(ratios[1], RATIO_MOST)
        mean = history.mean_ms
        return {
            "S_R": sum(ratios) / 2,
            "S_L": 1 - self._load(offer),
            "S_P": 0.5 if mean is None else 1 / (1 + mean),
            "S_B": 1 / (1 + 2 * history.tasks),
        }

    def ran(self, node: str, time_ms: float) -> None:
        self._history(node).ran(time_ms)

    def ended(self, node: str) -> None:
        """A task has left the node; in paper mode it counts for ever."""
        history = self._history(node)
        if self.mode == "physical" and history.tasks:
            history.tasks -= 1

    def forget(self, node: str) -> None:
        """It has left; should it come back, it begins with nothing."""
        self._of.pop(node, None)

    def tasks(self) -> Mapping[str, int]:
        return {name: history.tasks for name, history in sorted(self._of.items())}

    def _load(self, offer: Offer) -> float:
        if self.mode == "physical":
            return offer.load
        history = self._of.get(offer.name)
        return history.recent_load if history else 0.0

    def _history(self, node: str) -> History:
        return self._of.setdefault(node, History())


def balance(tasks: Sequence[int]) -> float:
    """Jain's index of the tasks of all nodes: 1 when they have equally many, 1/n when one has all."""
    square = sum(n * n for n in tasks)
    return sum(tasks) ** 2 / (len(tasks) * square) if square else 1.0
