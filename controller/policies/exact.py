"""The best placement of all streams together, by search: for small cases and as the measure of the others.

Depth first over the runs of one stream after the other. A branch ends when what its placed streams cost together,
the way so far, and the least that is still to come (more streams never make one cheaper) is not below the best that
is known; that begins with the planner's. What is found is the least sum of predicted latencies
(`cost.Forecast`, waiting included). After `steps` (5000) branches it gives
up: the best so far is taken and the reason says so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.chain import Group, Room, overfull_in, room_beside
from controller.cost import UNREACHABLE_US, Forecast
from controller.model import Problem, Snapshot
from controller.planner import Planner
from controller.policies.chain_cost import ChainCost, cost_of
from controller.policies.rival import Rival
from controller.policies.start import number
from controller.table import Floats, Row, Rows, Table


class Exact(Rival):
    rule = "exact"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._planner = Planner(problem)
        self._steps = round(number(options, "steps", 5_000))
        self._proven_us: int | None = None

    def rezone(self, problem: Problem) -> None:
        super().rezone(problem)
        self._planner = Planner(problem)

    def rows(self, snapshot: Snapshot, current: Rows, epoch: int) -> dict[str, Row]:  # noqa: ARG002
        streams = sorted(self._table.streams)
        plan = self._planner.plan(snapshot, streams, {}, current)
        free = [stream for stream in streams if stream not in plan.stranded]
        fixed = {stream: current[stream] for stream in plan.stranded if stream in current}
        search = Search(self._table, snapshot, current, fixed, self._steps)
        known = plan.rows if plan.rows is not None and self._planner.fits(plan.rows, current) else None
        found = search.best(free, known)
        proven = search.steps <= self._steps
        self.rule = "exact" if proven else f"the best found in {self._steps} steps, not proven"
        self._proven_us = round(search.least_us) if proven and found and not fixed else None
        return {stream: row for stream, row in found.items() if stream in free}

    def _bound(self, snapshot: Snapshot) -> int:
        return super()._bound(snapshot) if self._proven_us is None else self._proven_us


@dataclass(slots=True, eq=False)
class Search:
    table: Table
    snapshot: Snapshot
    loaded: Rows
    fixed: Rows  # streams that have no path stay, and count for memory only
    limit: int
    steps: int = 0
    least_us: float = float("inf")
    _best: dict[str, Row] = field(default_factory=dict)
    _groups: dict[str, Group] = field(default_factory=dict)
    _forecast: Forecast = field(init=False)

    def __post_init__(self) -> None:
        self._forecast = Forecast(self.table, self.snapshot)

    def best(self, streams: list[str], known: Rows | None) -> dict[str, Row]:
        """The best rows of the streams; empty when there are none. `known`: a placement to begin with."""
        if known is not None and streams:
            self._keep({stream: known[stream] for stream in streams})
        alone = {}
        for stream in streams:
            cost = self._cost(stream, {})
            alone[stream] = float((cost.enter + still_to_come(cost)[0][0]).min())
        self._place(streams, {}, alone)
        return self._best

    def _cost(self, stream: str, others: Rows) -> ChainCost:
        """What the stream itself pays beside the others, memory left out."""
        table = self.table
        room = Room(table.memory, np.zeros(table.chain(stream).allowed.shape, dtype=bool))
        if stream not in self._groups:
            self._groups[stream] = Group(table, self.snapshot, [stream], np.arange(len(table.memory))[None])
        load = self._forecast.load(others, dict.fromkeys(others, 0.0))
        return cost_of(self._groups[stream], load, 1.0, room)

    def _place(self, streams: list[str], rows: dict[str, Row], alone: Mapping[str, float]) -> None:
        if not streams:
            self._keep(rows)
            return
        stream, rest = streams[0], streams[1:]
        base = self._total(rows) + sum(alone[s] for s in rest)
        for row in self._rows_of(stream, rows, base):
            self._place(rest, {**rows, stream: row}, alone)

    def _rows_of(self, stream: str, rows: Rows, base: float) -> Iterator[Row]:
        """The rows that may still lead below the best known, cheapest beginnings first."""
        cost = self._cost(stream, rows)
        to_come, after = still_to_come(cost)
        room = room_beside(self.table, stream, {**self.fixed, **rows}, self.loaded)
        overfull, blocks = overfull_in(self.table, stream, room), to_come.shape[0]
        stack: list[tuple[float, Row, int]] = []  # (cost up to the next run, the row so far, the node of that run)

        def push(ready: Floats, row: Row) -> None:
            bound = base + ready + to_come[len(row)]
            for n in np.argsort(-bound, kind="stable").tolist():
                if bound[n] < self.least_us:
                    stack.append((float(ready[n]), row, n))

        push(cost.enter, ())
        while stack and self.steps <= self.limit:
            ready, row, n = stack.pop()
            done = ready + cost.run[len(row), :, n]
            done[: len(row) + 1] = np.inf
            for last in np.flatnonzero(base + done + after[:, n] < self.least_us).tolist():
                self.steps += 1
                longer = (*row, *(n,) * (last - len(row)))
                if base + done[last] + after[last, n] >= self.least_us or overfull(longer) is not None:
                    continue
                if last < blocks:
                    push(done[last] + cost.hop[last][n], longer)
                else:
                    yield longer

    def _keep(self, rows: Rows) -> None:
        total = self._total(rows)
        if total < self.least_us and total < UNREACHABLE_US:
            self.least_us, self._best = total, dict(rows)

    def _total(self, rows: Rows) -> float:
        return self._forecast.total_us(rows, {})


def still_to_come(cost: ChainCost) -> tuple[Floats, Floats]:
    """The least that a stream still costs: (L, N) ready to run block i on n; (L+1, N) with blocks 0..j-1 done on n."""
    blocks, nodes = cost.run.shape[0] - 1, cost.run.shape[2]
    ready, after = np.full((blocks, nodes), np.inf), np.full((blocks + 1, nodes), np.inf)
    after[blocks] = cost.leave
    for i in range(blocks - 1, -1, -1):
        ready[i] = (cost.run[i, i + 1 :] + after[i + 1 :]).min(axis=0)
        if i:
            after[i] = (cost.hop[i] + ready[i]).min(axis=1)
    return ready, after
