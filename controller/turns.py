"""One plan at work: each stream alone, and what is best for streams while the others stay. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from controller.chain import Best, Costs, Group, Room, overfull_in, room_beside, solve
from controller.cost import Forecast, Load, Row, Rows, Table, overfull, runs
from controller.labels import Chain, Fitted, fitted
from controller.model import Snapshot
from controller.objective import Objective
from controller.tiers import frontier

RESPONSES = 20  # best responses in one plan
ROUNDS = 8
LEAST_GAIN = 1e-3  # of a round, else it is the last
CLOSE = 1e-6  # a gap that is rounding
PLAIN = Objective()


class Scene:
    """A snapshot before anything is placed: the nodes worth considering, and what each stream alone would do."""

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        streams: Sequence[str],
        current: Rows,
        *,
        objective: Objective = PLAIN,
        tight: frozenset[int] = frozenset(),
        known: Forecast | None = None,
    ) -> None:
        self.table, self.snapshot, self.objective = table, snapshot, objective
        self.forecast, self.tight = known or Forecast(table, snapshot), tight
        self.groups: list[Group] = []
        self.at: dict[str, tuple[int, int]] = {}  # stream -> its group, its position there
        self.alone: dict[str, Fitted] = {}  # by latency only; what is least holds for all nodes
        self.cut_off: set[str] = set()  # no node can be reached, may hold a block and is big enough for it
        kinds: dict[str, list[str]] = {}
        for stream in streams:
            kinds.setdefault(table.streams[stream].model, []).append(stream)
        for members in kinds.values():
            self._add(members, current)

    def _add(self, members: list[str], current: Rows) -> None:
        kept = [{self.table.source(s), *current.get(s, ())} for s in members]
        front = frontier(self.table, self.snapshot, members, kept)
        everywhere = len(front.nodes[0]) == len(self.table.memory)
        nodes = np.array(front.nodes[:1] if everywhere else front.nodes)
        self.at |= {s: (len(self.groups), b) for b, s in enumerate(members)}
        self.groups.append(Group(self.table, self.snapshot, members, nodes, self.objective))
        plain = self.groups[-1] if self.objective == PLAIN else Group(self.table, self.snapshot, members, nodes)
        costs = plain.costs(range(len(members)), [Load()] * len(members), [1.0] * len(members))
        for b, (stream, best) in enumerate(zip(members, solve(costs), strict=True)):
            room = Room(self.table.memory, np.zeros(self.table.chain(stream).allowed.shape, dtype=bool))
            found = within(plain, costs, (b, b), best, room)
            if best is None and front.beyond_us[b] == float("inf"):
                self.cut_off.add(stream)
            self.alone[stream] = Fitted(found.best, min(found.least_us, front.beyond_us[b]))


def tight_nodes(table: Table) -> frozenset[int]:
    """The nodes of which the memory may not suffice, whatever is placed there."""
    return frozenset(np.flatnonzero(table.memory < _most(table)).tolist())


def _most(table: Table) -> float:
    """Bytes that always suffice: every block of every model, and the working sets of all runs twice, old and new."""
    working = 0.0
    for stream in table.streams:
        sizes = np.sort(table.chain(stream).working)[::-1]
        working += float(sizes[: (len(sizes) + 1) // 2].sum())  # of two runs on one node something is between
    return sum(float(chain.weight.sum()) for chain in table.chains.values()) + 2 * working


def within(group: Group, costs: Costs, places: tuple[int, int], best: Best | None, room: Room) -> Fitted:
    """The best row that fits, `best` if it does. `places` of the stream: in the costs, and in the group."""
    b, stream = places
    if best is None:
        return Fitted(None, float("inf"))
    name = group.streams[stream]
    if overfull_in(group.table, name, room)(best.row) is None:
        return Fitted(best, best.cost_us)
    working = group.table.chain(name).working
    return fitted(Chain(costs, b, group.missing(stream, room), working, room.free[costs.nodes[b]]))


def alone(table: Table, snapshot: Snapshot, streams: Sequence[str]) -> dict[str, Fitted]:
    """Each stream when nobody else is there: its best row, and the least it can ever cost."""
    return Scene(table, snapshot, streams, {}).alone


class Turn:
    """Best responses of the streams `free`; the other ones of `current` stay as they are. Remembers its answers."""

    def __init__(self, scene: Scene, free: Sequence[str], weights: Mapping[str, float], current: Rows) -> None:
        self.scene, self.free, self.current = scene, list(free), current
        self.kept = {s: row for s, row in current.items() if s not in free}
        self.asked = 0
        self._weights = weights
        self._base = scene.forecast.base(self.kept, weights)
        self._worth: dict[object, float] = {}
        self._permitted: dict[tuple[str, Row], bool] = {}
        goal = sum(weights.get(s, 1.0) * scene.alone[s].least_us for s in free)
        goal = goal * (1 + CLOSE) + self._base.total_us
        self.goal_us = goal if scene.objective == PLAIN else -float("inf")

    def worth(self, rows: Rows) -> float:
        """The objective when the free streams are at `rows`, infinite when that cannot be."""
        key = frozenset(rows.items())
        found = self._worth.get(key)
        if found is None:
            found = self._worth[key] = self._judged(rows)
        return found

    def _judged(self, rows: Rows) -> float:
        scene, every = self.scene, {**self.kept, **rows}
        if not all(self._may(stream, row) for stream, row in rows.items()):
            return float("inf")
        tight = any(n in scene.tight for row in rows.values() for n in set(row))
        if tight and overfull(scene.table, every, self.current):
            return float("inf")
        if scene.objective.limited and not scene.objective.kept(scene.forecast.load(every, {})):
            return float("inf")
        if scene.objective.latency_alone:
            return scene.forecast.total_us(rows, self._weights, self._base)
        return scene.objective.total_us(scene.table, scene.forecast, every, self._weights, self.current)

    def _may(self, stream: str, row: Row) -> bool:
        found = self._permitted.get((stream, row))
        if found is None:
            allowed, nodes = self.scene.table.chain(stream).allowed, self.scene.snapshot.nodes
            found = all(nodes[n].up and allowed[first:last, n].all() for first, last, n in runs(row))
            self._permitted[stream, row] = found
        return found

    def responses(self, streams: Sequence[str], rows: Rows) -> list[Row | None]:
        """The best row of each of `streams` while the others stay at `rows`."""
        answers: dict[str, Row | None] = {}
        self.asked += len(streams)
        for at, group in enumerate(self.scene.groups):
            mine = [s for s in streams if self.scene.at[s][0] == at]
            if mine:
                answers |= zip(mine, self._respond(group, mine, rows), strict=True)
        return [answers[s] for s in streams]

    def _respond(self, group: Group, streams: Sequence[str], rows: Rows) -> list[Row | None]:
        table, pick = self.scene.table, [self.scene.at[s][1] for s in streams]
        others = [{s: row for s, row in rows.items() if s != stream} for stream in streams]
        loads = [self.scene.forecast.load(other, self._weights, base=self._base.load) for other in others]
        weights = [self._weights.get(s, 1.0) for s in streams]
        costs = group.costs(pick, loads, weights, current=self.current)
        found = solve(costs)
        for b, best in enumerate(found):
            if best is not None and any(n in self.scene.tight for n in best.row):
                room = room_beside(table, streams[b], {**self.kept, **others[b]}, self.current)
                if overfull_in(table, streams[b], room)(best.row):
                    one = group.costs([pick[b]], [loads[b]], [weights[b]], [room], self.current)
                    found[b] = within(group, one, (0, pick[b]), solve(one)[0], room).best
        return [best.row if best else None for best in found]

    def settled(self, rows: Rows) -> tuple[Rows, float]:
        """Rounds of best response from `rows`: the end, and what it is worth."""
        total = self.worth(rows)
        for _ in range(ROUNDS):
            if total <= self.goal_us or self.asked >= RESPONSES:
                break
            before, changed = total, False
            for stream, row in zip(self.free, self.responses(self.free, rows), strict=True):
                if row is None or row == rows[stream]:
                    continue
                trial = {**rows, stream: row}
                lower = self.worth(trial)
                if lower < total:
                    rows, total, changed = trial, lower, True
            if not changed or len(self.free) == 1 or before - total < LEAST_GAIN * (before - self._base.total_us):
                break
        return rows, total
