"""One stream as EdgeShard sees it, and its throughput programme over sets of devices."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.cost import speed_now
from controller.policies.rival import Scene
from controller.table import Floats, Row


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """One stream as the paper sees it: L layers, N devices, infinite where it cannot be."""

    compute: Floats  # (L, N) microseconds
    hop: Floats  # (L+1, N, N) crossing before layer l, diagonal 0
    memory: Floats  # (L, N) bytes a layer adds
    free: Floats  # (N,)
    phone: int


def shards_of(scene: Scene) -> Shards:
    table, snapshot = scene.table, scene.snapshot
    chain, speed, rate = table.chain(scene.stream), speed_now(table, snapshot), np.asarray(snapshot.rate_bps)
    may = chain.allowed & (speed > 0)
    compute = np.where(may, np.diff(chain.work)[:, None] / np.where(speed > 0, speed, 1.0), np.inf)
    wire = chain.data[:, None, None] * 8e6 / np.where(rate > 0, rate, 1)
    hop = np.where(rate > 0, wire + np.asarray(snapshot.delay_us) + table.problem.hop_overhead_us, np.inf)
    hop[:, np.arange(len(speed)), np.arange(len(speed))] = 0.0
    memory = chain.weight[:, None] * ~scene.room.held + chain.working[:, None]  # a layer's own, so never too little
    return Shards(compute, hop, memory, scene.room.free, scene.source)


@dataclass(slots=True, eq=False)
class _Reached:
    """The best ways to begin each layer on one node after one set of nodes; (L+1,) each."""

    worst: Floats  # the bottleneck so far
    total: Floats  # the sum, which decides between equal bottlenecks
    began: npt.NDArray[np.intp]  # where the run before began
    before: npt.NDArray[np.intp]  # and on which node


class Bottleneck:
    """The least time of the slowest stage, compute or transfer, each node used once: O(4^w w^2 L^2) at worst."""

    def __init__(self, shards: Shards, nodes: list[int]) -> None:
        self._shards, self._nodes = shards, nodes
        self._layers = shards.compute.shape[0]
        self._times = {n: self._runs(n) for n in nodes}
        self._reached: dict[tuple[int, int], _Reached] = {}  # (set of nodes, the node that runs next)

    def row(self) -> Row | None:
        for k, n in enumerate(self._nodes):
            self._reached[1 << k, n] = first = self._nothing()
            first.worst[0] = first.total[0] = self._shards.hop[0, self._shards.phone, n]
        best, end = (float("inf"), float("inf")), (0, 0, 0)
        for used in range(1, 1 << len(self._nodes)):
            for node in self._nodes:
                if (used, node) not in self._reached:
                    continue
                closed = self._close(used, node)
                home = float(self._shards.hop[self._layers, node, self._shards.phone])
                ended = max(float(closed.worst[-1]), home), float(closed.total[-1]) + home
                if ended < best:
                    best, end = ended, (used, node, int(closed.began[-1]))
                self._go_on(used, node, closed)
        return self._trace(*end) if np.isfinite(best[0]) else None

    def _nothing(self) -> _Reached:
        size = self._layers + 1
        never, nowhere = np.full(size, np.inf), np.zeros(size, dtype=np.intp)
        return _Reached(never, never.copy(), nowhere, nowhere.copy())

    def _runs(self, node: int) -> Floats:
        """(L+1, L+1) the compute time of layers i..j-1 on the node, infinite where they do not fit."""
        times = np.full((self._layers + 1, self._layers + 1), np.inf)
        for first in range(self._layers):
            total = np.cumsum(self._shards.compute[first:, node])
            fits = np.cumsum(self._shards.memory[first:, node]) <= self._shards.free[node]
            times[first, first + 1 :] = np.where(fits, total, np.inf)
        return times

    def _close(self, used: int, node: int) -> _Reached:
        """The node's run added: the best ways to have done the layers before each cut."""
        opened, times, cuts = self._reached[used, node], self._times[node], np.arange(self._layers + 1)
        worst, total = np.maximum(opened.worst[:, None], times), opened.total[:, None] + times
        began = (worst + total * 1e-9).argmin(axis=0)
        return _Reached(worst[began, cuts], total[began, cuts], began, np.full(len(cuts), node))

    def _go_on(self, used: int, node: int, closed: _Reached) -> None:
        """Over to each node that was not used yet, wherever that is better than what is known."""
        for k, other in enumerate(self._nodes):
            if used & 1 << k:
                continue
            hop = self._shards.hop[:, node, other]
            worst, total = np.maximum(closed.worst, hop), closed.total + hop
            held = self._reached.setdefault((used | 1 << k, other), self._nothing())
            better = (worst < held.worst) | ((worst == held.worst) & (total < held.total))
            held.worst[better], held.total[better] = worst[better], total[better]
            held.began[better], held.before[better] = closed.began[better], node

    def _trace(self, used: int, node: int, began: int) -> Row:
        row: Row = (node,) * (self._layers - began)
        last = began
        while last > 0:
            reached = self._reached[used, node]
            used &= ~(1 << self._nodes.index(node))
            node, began = int(reached.before[last]), int(reached.began[last])
            row, last = (node,) * (last - began) + row, began
        return row
