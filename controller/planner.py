"""Placement of all streams: the exact programme for one stream at a time, in rounds of best response.

What is minimised is the weighted sum of the predicted latencies; a stream's turn also counts what it makes the
others wait, so every accepted turn lowers the sum and the rounds end. One run starts from nothing, one from the
current placement; the lower sum wins. A plan always fits beside the slices that are loaded now, because a move
loads the new ones before it releases the old.

A stream whose phone has no path to any host is *stranded*: no placement helps it, so it keeps what it has and
does not stand in the way of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controller.chain import Room, chain_cost, overfull_in, solve, solve_within
from controller.cost import Row, Rows, Table, load_of, memory_bytes, predict, resident, speed_now, tabulate
from controller.model import Problem, Snapshot

ROUNDS = 8
ORDERS = 8  # orders of the streams tried before a start from nothing is given up


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
        alone = {stream: self._alone(snapshot, stream) for stream in order}
        stranded = tuple(s for s in order if alone[s] is None)
        free = [s for s in order if s not in stranded]
        bound = sum(cost for cost in alone.values() if cost is not None)
        current, weights = current or {}, weights_without(weights, stranded)
        kept = {s: current[s] for s in stranded if s in current}
        turn = _Turn(self.table, snapshot, weights, current)
        scratch, unplaced = self._from_nothing(turn, free, kept)
        starts = [rows for rows in (scratch, self._from_current(snapshot, free, current)) if rows]
        found = [turn.settle(rows, free) for rows in starts]
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
        speed = speed_now(self.table, snapshot)
        return all(
            speed[n] > 0 and self.table.chain(stream).allowed[block, n]
            for stream, row in rows.items()
            for block, n in enumerate(row)
        )

    def _alone(self, snapshot: Snapshot, stream: str) -> float | None:
        """The latency of a stream that has the world and its memory to itself; None when it has no path."""
        empty = load_of(self.table, snapshot, {}, {})
        held = np.zeros(self.table.chain(stream).allowed.shape, dtype=bool)
        room = Room(self.table.memory, held)
        best = solve(chain_cost(self.table, snapshot, stream, others=empty, weight=1.0, room=room))
        return best.cost_us if best else None

    @staticmethod
    def _from_nothing(turn: "_Turn", free: list[str], kept: Rows) -> tuple[Rows | None, tuple[str, ...]]:
        first_failure: tuple[str, ...] = ()
        for shift in range(min(len(free), ORDERS) or 1):
            rows, missing = dict(kept), []
            for stream in free[shift:] + free[:shift]:
                row = turn.best(stream, rows)
                if row is None:
                    missing.append(stream)
                else:
                    rows[stream] = row
            if not missing:
                return rows or None, ()
            first_failure = first_failure or tuple(missing)
        return None, first_failure

    def _from_current(self, snapshot: Snapshot, free: list[str], current: Rows) -> Rows | None:
        usable = all(s in current for s in free) and self.permitted(snapshot, {s: current[s] for s in free})
        return current if current and usable else None


def weights_without(weights: Mapping[str, float], stranded: Sequence[str]) -> dict[str, float]:
    """The weights with nothing for stranded streams: their endless latency must not drown the others."""
    return {**weights, **dict.fromkeys(stranded, 0.0)}


class _Turn:
    """One snapshot's best responses."""

    def __init__(self, table: Table, snapshot: Snapshot, weights: Mapping[str, float], loaded: Rows) -> None:
        self._table, self._snapshot, self._weights, self._loaded = table, snapshot, weights, loaded

    def total(self, rows: Rows) -> float:
        parts = predict(self._table, self._snapshot, rows)
        return sum(self._weights.get(stream, 1.0) * latency.total_us for stream, latency in parts.items())

    def best(self, stream: str, rows: Rows) -> Row | None:
        """The best row of a stream while the others stay."""
        others = {s: row for s, row in rows.items() if s != stream}
        load = load_of(self._table, self._snapshot, others, self._weights)
        room = self._room(stream, others)
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

    def _room(self, stream: str, others: Rows) -> Room:
        table = self._table
        held = resident(table, others, self._loaded)
        free = table.memory - memory_bytes(table, others, self._loaded)
        return Room(free, held[table.streams[stream].model])
