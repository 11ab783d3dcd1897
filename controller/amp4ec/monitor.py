"""What AMP4EC's resource monitor keeps of each node: the last state, and how stable it was. Pure.

Stability is the share of the recent samples in which the node was there, times 1 / (1 + the load's deviation over
what it has on average left): a node that comes and goes, or whose load jumps, is worth less. The paper reports a
stability score and does not define one.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from controller.model import NodeState

RECENT = 30  # samples


@dataclass(frozen=True, slots=True)
class Seen:
    up: bool
    load: float
    queue_us: int
    stability: float


class Monitor:
    """One `observe` each telemetry period."""

    def __init__(self) -> None:
        self._loads: dict[str, deque[float | None]] = {}  # None: it was not there
        self._states: dict[str, NodeState] = {}

    def observe(self, states: Mapping[str, NodeState]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(who came, who left) since the observation before; at the first nobody."""
        first = not self._states
        before = {name for name, state in self._states.items() if state.up}
        now = {name for name, state in states.items() if state.up}
        self._states = dict(states)
        for name, state in states.items():
            loads = self._loads.setdefault(name, deque(maxlen=RECENT))
            loads.append(state.load_ppm / 1e6 if state.up else None)
        return ((), ()) if first else (tuple(sorted(now - before)), tuple(sorted(before - now)))

    def of(self, node: str) -> Seen:
        """KeyError for a node that was never observed."""
        state = self._states[node]
        return Seen(state.up, state.load_ppm / 1e6, state.queue_us, self.stability(node))

    def stability(self, node: str) -> float:
        samples = self._loads[node]
        there = [load for load in samples if load is not None]
        if not there:
            return 0.0
        mean = sum(there) / len(there)
        deviation = sqrt(sum((load - mean) ** 2 for load in there) / len(there))
        return len(there) / len(samples) / (1 + deviation / max(1 - mean, 0.01))
