"""Placement of all streams: the exact programme for one stream at a time, in rounds of best response.

What is minimised is the weighted sum of the predicted latencies; a stream's turn also counts what it makes the
others wait, so every accepted turn lowers the sum and the rounds end. They start from the current placement and
from the best of: one stream after the other in several orders, all on one node. The lowest sum wins. With several
streams on crowded nodes it need not be the global optimum; `bound_us` says how far it can be away.

A plan always fits beside the slices that are loaded now, because a move loads the new ones before it releases the
old.

A stream whose phone has no path to any host is *stranded*: no placement helps it, so it keeps what it has and
does not stand in the way of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controller.chain import alone, chain_cost, overfull_in, room_beside, solve_within
from controller.cost import (
    Row,
    Rows,
    Table,
    load_of,
    memory_bytes,
    predict,
    runs,
    speed_now,
    tabulate,
)
from controller.model import Problem, Snapshot

ROUNDS = 8
ORDERS = 4  # orders of the streams in which they choose, starting from nothing
WHOLE = 16  # nodes tried with everything on them
STARTS = 4  # placements from which best responses are followed to their end


@dataclass(frozen=True, slots=True)
class Plan:
    rows: Mapping[str, Row] | None  # None: some stream that has paths fits nowhere
    stranded: tuple[str, ...]
    unplaced: tuple[str, ...]  # why `rows` is None
    bound_us: float  # the sum of latencies is never below this


class Planner:
    """Plans for one problem; holds its arrays and nothing that changes."""

    def __init__(self, problem: Problem) -> None:
        self.table: Table = tabulate(problem)

    def plan(
        self, snapshot: Snapshot, order: Sequence[str], weights: Mapping[str, float], current: Rows | None = None
    ) -> Plan:
        """The best placement found for the streams in `order`, those first in it choosing first."""
        best = {stream: alone(self.table, snapshot, stream) for stream in order}
        stranded = tuple(s for s in order if best[s] is None)
        free = [s for s in order if s not in stranded]
        bound = sum(found.cost_us for found in best.values() if found is not None)
        current, weights = current or {}, weights_without(weights, stranded)
        kept = {s: current[s] for s in stranded if s in current}
        turn = _Turn(self.table, snapshot, weights, current)
        starts, unplaced = self._from_nothing(turn, free, kept)
        starts += [{**kept, **rows} for rows in self.together(snapshot, free, kept, current)]
        starts.sort(key=turn.total)
        if self._usable(snapshot, free, current):
            starts.insert(0, dict(current))
        found = [turn.settle(rows, free) for rows in starts[:STARTS]]
        if not found:
            return Plan(None, stranded, unplaced, bound)
        return Plan(min(found, key=turn.total), stranded, (), bound)

    def total_us(self, snapshot: Snapshot, rows: Rows, weights: Mapping[str, float]) -> float:
        """The weighted sum of predicted latencies."""
        return _Turn(self.table, snapshot, weights, {}).total(rows)

    def fits(self, rows: Rows, current: Rows) -> bool:
        """Whether `rows` fit into memory beside what is loaded now."""
        return bool((memory_bytes(self.table, rows, current) <= self.table.memory).all())

    def permitted(self, snapshot: Snapshot, rows: Rows) -> bool:
        """Whether every node is up and every block is where its data may be."""
        return all(
            snapshot.nodes[n].up and self.table.chain(stream).allowed[first:last, n].all()
            for stream, row in rows.items()
            for first, last, n in runs(row)
        )

    @staticmethod
    def _from_nothing(turn: "_Turn", free: list[str], kept: Rows) -> tuple[list[dict[str, Row]], tuple[str, ...]]:
        """One stream after the other, in several orders; and who found no room in the first order that failed."""
        starts, unplaced = list[dict[str, Row]](), tuple[str, ...]()
        for shift in range(min(len(free), ORDERS)):
            rows, missing = dict(kept), list[str]()
            for stream in free[shift:] + free[:shift]:
                row = turn.best(stream, rows)
                if row is None:
                    missing.append(stream)
                else:
                    rows[stream] = row
            if not missing:
                starts.append(rows)
            unplaced = unplaced or tuple(missing)
        return starts, unplaced

    def together(self, snapshot: Snapshot, streams: Sequence[str], kept: Rows, current: Rows) -> list[dict[str, Row]]:
        """`streams` whole on one node, for each of the `WHOLE` fastest nodes where that can be beside the rest."""
        speed = speed_now(self.table, snapshot)
        whole = {s: len(self.table.chain(s).weight) for s in streams}
        found = list[dict[str, Row]]()
        for n in np.argsort(-speed, kind="stable")[:WHOLE].tolist() if streams else ():
            rows = {s: (n,) * blocks for s, blocks in whole.items()}
            if self.permitted(snapshot, rows) and self.fits({**kept, **rows}, current):
                found.append(rows)
        return found

    def _usable(self, snapshot: Snapshot, free: list[str], current: Rows) -> bool:
        placed = {s: current[s] for s in free if s in current}
        return bool(free) and len(placed) == len(free) and self.permitted(snapshot, placed)


def weights_without(weights: Mapping[str, float], stranded: Sequence[str]) -> dict[str, float]:
    """The weights with nothing for stranded streams: their endless latency must not drown the others."""
    return {**weights, **dict.fromkeys(stranded, 0.0)}


class _Turn:
    """One snapshot's best responses."""

    def __init__(self, table: Table, snapshot: Snapshot, weights: Mapping[str, float], loaded: Rows) -> None:
        self._table, self._snapshot, self._weights, self._loaded = table, snapshot, weights, loaded
        # different starts lead to the same questions
        self._bests: dict[object, Row | None] = {}
        self._totals: dict[object, float] = {}

    def total(self, rows: Rows) -> float:
        key = frozenset(rows.items())
        if key not in self._totals:
            parts = predict(self._table, self._snapshot, rows)
            self._totals[key] = sum(self._weights.get(s, 1.0) * latency.total_us for s, latency in parts.items())
        return self._totals[key]

    def best(self, stream: str, rows: Rows) -> Row | None:
        """The best row of a stream while the others stay."""
        others = {s: row for s, row in rows.items() if s != stream}
        key = stream, frozenset(others.items())
        if key not in self._bests:
            self._bests[key] = self._respond(stream, others)
        return self._bests[key]

    def _respond(self, stream: str, others: Rows) -> Row | None:
        load = load_of(self._table, self._snapshot, others, self._weights)
        room = room_beside(self._table, stream, others, self._loaded)
        weight = self._weights.get(stream, 1.0)
        cost = chain_cost(self._table, self._snapshot, stream, others=load, weight=weight, room=room)
        found = solve_within(cost, overfull_in(self._table, stream, room))
        return found.row if found else None

    def settle(self, rows: Rows, order: Sequence[str]) -> dict[str, Row]:
        """Rounds of best response until none changes."""
        settled, total = dict(rows), self.total(rows)
        for _ in range(ROUNDS):
            changed = False
            for stream in order:
                row = self.best(stream, settled)
                if row is None or row == settled[stream]:
                    continue
                trial = {**settled, stream: row}
                lower = self.total(trial)
                if lower < total:
                    settled, total, changed = trial, lower, True
            if not changed or len(order) == 1:
                break
        return settled
