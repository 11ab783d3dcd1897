"""One plan at work: each stream alone, and what is best for streams while the others stay. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from controller.chain import Best, Costs, Group, Room, overfull_in, room_beside, solve, tables
from controller.choices import Choices, Picked, choices, joined
from controller.cost import Forecast, Load, backlog_us
from controller.labels import Chain, Fitted, fitted
from controller.memory import overfull
from controller.model import Snapshot
from controller.objective import Objective
from controller.table import Floats, Row, Rows, Table
from controller.tiers import frontier
from controller.together import Together

RESPONSES, HANDFUL, MORE = 20, 4, 40  # best responses in one plan; of so few streams there may be more
ROUNDS = 8
LEAST_GAIN = 1e-3  # of a round, else it is the last
COMPANY = 12  # streams that are bounded together
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
        known: Forecast | None = None,
    ) -> None:
        self.table, self.snapshot, self.objective = table, snapshot, objective
        self.forecast = known or Forecast(table, snapshot)
        self.groups: list[Group] = []
        self.at: dict[str, tuple[int, int]] = {}  # stream -> its group, its position there
        self.quiet: list[tuple[Costs, tuple[Floats, Floats]]] = []  # of each group, when nobody else is there
        self.alone: dict[str, Fitted] = {}  # by latency only; what is least holds for all nodes
        self.beyond_us: dict[str, float] = {}  # a row that uses a node which is not considered costs at least this
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
        self.quiet.append((costs, tables(costs)))
        for b, (stream, best) in enumerate(zip(members, solve(*self.quiet[-1]), strict=True)):
            room = Room(self.table.memory, np.zeros(self.table.chain(stream).allowed.shape, dtype=bool))
            found = within(plain, costs, (b, b), best, room)
            if best is None and front.beyond_us[b] == float("inf"):
                self.cut_off.add(stream)
            self.beyond_us[stream] = front.beyond_us[b]
            self.alone[stream] = Fitted(found.best, min(found.least_us, front.beyond_us[b]))


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
        self.asked, self.most = 0, RESPONSES if len(free) > HANDFUL else MORE
        self._weights = weights
        self._base = scene.forecast.base(self.kept, weights)
        self._beside: dict[Group, Load] = {}
        self.bounded = False  # `together` was asked
        self.least_us = 0.0  # the sum of the latencies of the free streams is never below this, where that is known
        self._worth: dict[object, float] = {}
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
        may = scene.table.permits
        if not all(may(stream, row) and scene.forecast.up(row) for stream, row in rows.items()):
            return float("inf")
        if self._tight(rows) and overfull(scene.table, every, self.current):
            return float("inf")
        if scene.objective.limited and not scene.objective.kept(scene.forecast.load(every, {})):
            return float("inf")
        if scene.objective.latency_alone:
            return scene.forecast.total_us(rows, self._weights, self._base)
        return scene.objective.total_us(scene.table, scene.forecast, every, self._weights, self.current)

    def _tight(self, rows: Rows) -> bool:
        tight = self.scene.table.tight
        return bool(tight) and any(not tight.isdisjoint(row) for row in rows.values())

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
        near, forecast = self._near(group), self.scene.forecast
        placed = all(stream in rows for stream in streams)
        without = forecast.loads_without(rows, self._weights, near) if placed and len(streams) > 1 else {}
        loads = [
            without.get(stream) or forecast.load(other, self._weights, base=near)
            for stream, other in zip(streams, others, strict=True)
        ]
        weights = [self._weights.get(s, 1.0) for s in streams]
        costs = group.costs(pick, loads, weights, current=self.current)
        found = solve(costs)
        for b, best in enumerate(found):
            if best is not None and self._tight({streams[b]: best.row}):
                room = room_beside(table, streams[b], {**self.kept, **others[b]}, self.current)
                if overfull_in(table, streams[b], room)(best.row):
                    one = group.costs([pick[b]], [loads[b]], [weights[b]], [room], self.current)
                    found[b] = within(group, one, (0, pick[b]), solve(one)[0], room).best
        return [best.row if best else None for best in found]

    def _near(self, group: Group) -> Load:
        """Of the load of those who stay, what is on the nodes considered by a group."""
        found = self._beside.get(group)
        if found is None:
            nodes, base = set(group.nodes.ravel().tolist()), self._base.load
            found = self._beside[group] = Load(
                {n: parts for n, parts in base.nodes.items() if n in nodes},
                {way: parts for way, parts in base.paths.items() if nodes.issuperset(way)},
            )
        return found

    def together(self, rows: Rows) -> Rows | None:
        """Raises the goal to the least that the free streams cost together, below `rows`; the rows that it suggests."""
        scene, known = self.scene, self.worth(rows)
        slack = known - self.goal_us
        if not 2 <= len(self.free) <= COMPANY or scene.objective != PLAIN or not 0 < slack < float("inf"):
            return None
        self.bounded = True
        order, parts, near = list[str](), list[Choices](), Load()
        for at, group in enumerate(scene.groups):
            mine = [s for s in self.free if scene.at[s][0] == at]
            if mine:
                order += mine
                parts.append(choices(self._picked(group, mine), slack))
                here = self._near(group)
                near = Load(near.nodes | here.nodes, near.paths | here.paths)
        weights = np.array([self._weights.get(s, 1.0) for s in order])
        guess = scene.forecast.load(rows, self._weights, base=near)
        asked = Together(joined(parts), weights, near, guess, backlog_us(scene.snapshot))
        found = asked.found(known - self._base.total_us)
        if asked.sure:
            if not self.kept and (weights == 1.0).all():
                self.least_us = found.least_us
            self.goal_us = max(self.goal_us, found.least_us * (1 + CLOSE) + self._base.total_us)
        return dict(zip(order, found.rows, strict=True)) if found.rows else None

    def _picked(self, group: Group, streams: Sequence[str]) -> Picked:
        scene, pick = self.scene, [self.scene.at[s][1] for s in streams]
        weights = np.array([self._weights.get(s, 1.0) for s in streams])
        near, known = self._near(group), None
        if not near.nodes and not near.paths and (weights == 1.0).all() and pick == [*range(len(group.streams))]:
            costs, known = scene.quiet[scene.groups.index(group)]
        else:
            costs = group.costs(pick, [near] * len(pick), weights.tolist(), current=self.current)
        least = np.array([scene.alone[s].least_us for s in streams])
        beyond = np.array([scene.beyond_us[s] for s in streams])
        return Picked(group, pick, costs, weights * least, weights * beyond, known)

    def settled(self, rows: Rows, rounds: int = ROUNDS) -> tuple[Rows, float]:
        """Rounds of best response from `rows`: the end, and what it is worth."""
        total = self.worth(rows)
        for _ in range(rounds):
            if total <= self.goal_us or self.asked >= self.most:
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
