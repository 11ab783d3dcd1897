"""Placement as a mixed integer programme for HiGHS: the exact measure of the planner, and what it costs to have it so.

Layered flow, of each stream: r[i, j, n] is the run of blocks i..j-1 on node n, h[j, n, m] the hop before block j. Each
layer keeps the flow, each node its memory. Streams of one model share it: y[l, n] says that block l is loaded on n, and
z[i, j, n] that the working set of a run is. Streams do not wait for each other here. The costs are those of the
planner's own programme, so both minimise the same. It stays out of the guest, which has no scipy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from controller.chain import Costs, Group, Indices, run_ends
from controller.cost import Load
from controller.model import Problem, Snapshot
from controller.table import Chain, Floats, Row, Table, tabulate


@dataclass(frozen=True, slots=True)
class Solved:
    cost_us: float  # infinite: nothing fits
    rows: tuple[Row, ...]  # of the streams
    proven: bool


def optimum(problem: Problem, snapshot: Snapshot, streams: Sequence[str], limit_s: float = 60.0) -> Solved:
    """The cheapest placement of streams that never meet, all nodes and their memory considered."""
    table = tabulate(problem)
    nodes, asked = np.arange(len(table.memory))[None], _Asked(table)
    costs = {stream: Group(table, snapshot, [stream], nodes).costs([0], [Load()], [1.0]) for stream in streams}
    parts = {stream: asked.add(costs[stream]) for stream in streams}
    for members in table.by_model(streams):
        asked.share(table.chain(members[0]), [parts[stream] for stream in members])
    return asked.solved(list(parts.values()), limit_s)


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the variables of a stream are: (P, N) runs."""

    run: Indices
    blocks: int


class _Asked:
    """The programme as it grows: variables with what they cost, and sparse rows with their bounds."""

    def __init__(self, table: Table) -> None:
        self._memory = table.memory
        self._prices, self._whole = list[Floats](), list[Floats]()
        self._entries = list[tuple[Indices, Indices, Floats]]()
        self._low, self._high = list[Floats](), list[Floats]()
        self._variables = self._rows = 0
        self._room = self._new_rows(table.memory)

    def _new(self, prices: Floats, whole: float) -> Indices:
        """Variables from 0 to 1, integers if `whole` is 1; those that cost endlessly are 0."""
        at = self._variables + np.arange(prices.size).reshape(prices.shape)
        self._prices.append(prices.ravel())
        self._whole.append(np.full(prices.size, whole))
        self._variables += prices.size
        return at

    def _new_rows(self, high: Floats, *, equal: bool = False) -> Indices:
        at = self._rows + np.arange(len(high))
        self._low.append(high if equal else np.full(len(high), -np.inf))
        self._high.append(high)
        self._rows += len(high)
        return at

    def _put(self, row: Indices, column: Indices, factor: float | Floats) -> None:
        row, column, factors = np.broadcast_arrays(row, column, np.asarray(factor, dtype=float))
        self._entries.append((row.ravel(), column.ravel(), factors.ravel()))

    def add(self, costs: Costs) -> _Part:
        blocks, hosts = len(costs.kind) - 1, costs.run.shape[2]
        first, last = run_ends(blocks)
        price = costs.run[0].copy()  # (P, N)
        price[first == 0] += costs.enter[0]
        price[last == blocks] += costs.leave[0]
        run = self._new(price, 1.0)
        hop = self._new(costs.hop[0, list(costs.kind[1:-1])], 0.0)
        flow = np.zeros((blocks - 1) * hosts)
        ended, begun = (self._new_rows(flow, equal=True).reshape(-1, hosts) for _ in range(2))
        self._put(ended[last[last < blocks] - 1], run[last < blocks], 1.0)
        self._put(ended[:, :, None], hop, -1.0)  # what a hop takes was a run's end
        self._put(begun[first[first > 0] - 1], run[first > 0], 1.0)
        self._put(begun[:, None], hop, -1.0)  # what it brings is a run's beginning
        self._put(self._new_rows(np.ones(1), equal=True), run[first == 0], 1.0)
        return _Part(run, blocks)

    def share(self, chain: Chain, parts: Sequence[_Part]) -> None:
        """The memory of the streams of one model."""
        first, last = run_ends(parts[0].blocks)
        peak = np.array([chain.working[i:j].max() for i, j in zip(first, last, strict=True)])[:, None]
        if len(parts) == 1:
            total = np.concatenate(([0.0], np.cumsum(chain.weight)))
            self._put(self._room, parts[0].run, (total[last] - total[first])[:, None] + peak)
            return
        hosts = len(self._memory)
        block, working = (self._new(np.zeros((rows, hosts)), 0.0) for rows in (parts[0].blocks, len(first)))
        self._put(self._room, block, chain.weight[:, None])
        self._put(self._room, working, peak)
        for part in parts:
            for one in range(part.blocks):
                loaded = self._new_rows(np.zeros(hosts))
                self._put(loaded, part.run[(first <= one) & (one < last)], 1.0)
                self._put(loaded, block[one], -1.0)
            used = self._new_rows(np.zeros(working.size)).reshape(working.shape)
            self._put(used, part.run, 1.0)
            self._put(used, working, -1.0)

    def solved(self, parts: Sequence[_Part], limit_s: float) -> Solved:
        price = np.concatenate(self._prices)
        row, column, factor = (np.concatenate(each) for each in zip(*self._entries, strict=True))
        rules = coo_array((factor, (row, column)), shape=(self._rows, self._variables)).tocsr()
        found = milp(
            np.where(np.isfinite(price), price, 0.0),
            constraints=LinearConstraint(rules, np.concatenate(self._low), np.concatenate(self._high)),
            integrality=np.concatenate(self._whole),
            bounds=Bounds(0, np.isfinite(price).astype(float)),
            options={"time_limit": limit_s, "mip_rel_gap": 1e-9},
        )
        if found.x is None:
            return Solved(float("inf"), (), found.status == 2)
        return Solved(float(found.fun), tuple(_row(part, found.x) for part in parts), found.status == 0)


def _row(part: _Part, chosen: Floats) -> Row:
    first, last = run_ends(part.blocks)
    runs = sorted(
        (int(first[p]), int(last[p]), int(n)) for p, n in zip(*np.nonzero(chosen[part.run] > 0.5), strict=True)
    )
    return tuple(n for i, j, n in runs for _ in range(i, j))
