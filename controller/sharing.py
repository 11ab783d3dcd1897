"""Where memory is short: one row for all streams of a model, which then share what is loaded. Pure.

Streams that answer each other one by one never get there: the first that moves would have to load for itself what the
others have elsewhere. As one stream with all their rates they have an exact best row; ways from and to the phones are
added up. The models stand end to end in one chain, so that memory goes to that which gains most by it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from controller.chain import Costs, Group, Indices, room_in, run_at
from controller.cost import speed_now
from controller.labels import FEWER, Together, fitted_together
from controller.programme import solve
from controller.table import Floats, Row, Rows, runs
from controller.tight import Tight, climb, end_to_end, tight
from controller.turns import Turn

NODES = 48  # on which all of them are placed
ENTRIES = 300  # blocks of all streams times nodes, above which they are not gone through by themselves
STEPS = 24  # of that
STEPS_AS_ONE = 12, 8  # of all streams of a model as one
ROUNDS = 12  # of better prices
PASSES = 1  # more of them, each with the load of the models as they were placed before


class Sharing:
    """The streams of each model as one, in a turn."""

    def __init__(self, turn: Turn) -> None:
        self._turn, scene = turn, turn.scene
        self._models = scene.table.by_model(turn.free)
        self._names = [scene.table.streams[members[0]].model for members in self._models]
        self._nodes = _nodes(turn)[None]
        self._place = {n: k for k, n in enumerate(self._nodes[0].tolist())}
        self._rooms = [room_in(scene.table, members[0], turn.loaded, {}) for members in self._models]
        some = scene.table, scene.snapshot
        asked = self._nodes, scene.objective
        self._as_one = [Group(*some, members, *asked, as_one=True) for members in self._models]
        self._each = [Group(*some, members, *asked) for members in self._models]

    @property
    def few(self) -> bool:
        """Whether there are so few blocks and nodes that each stream can be gone through by itself."""
        blocks = sum(group.blocks * len(group.streams) for group in self._each)
        return bool(blocks * self._nodes.shape[1] <= ENTRIES)

    def start(self) -> dict[str, Row]:
        """All of them placed at once, each model in one row; nothing if none is found."""
        best, turn = dict[str, Row](), self._turn
        for _ in range(1 if len(self._models) == 1 else 1 + PASSES):
            chain = end_to_end([self._chain(at, best) for at in range(len(self._models))], self._names)
            judged = None if best else lambda rows: turn.worth(self._rows(rows))
            rows = self._rows(fitted_together(chain, judged, steps=STEPS_AS_ONE, rounds=ROUNDS).rows)
            if not rows or rows == best:
                break
            turn.scene.forecast.learn(rows.items())
            if best and turn.worth(rows) >= turn.worth(best):
                break
            best = rows
        return best

    def apart(self, known_us: float) -> Together:
        """Each stream by itself, sharing what they have in common; for less than what is known. Rows are of `order`."""
        turn, of = self._turn, [(at, b) for at, members in enumerate(self._models) for b in range(len(members))]
        chains = list[Tight]()
        for at, b in of:
            group, stream = self._each[at], self._models[at][b]
            room = self._rooms[at]
            costs = group.costs([b], [turn.near()], [turn.weights.get(stream, 1.0)], [room], turn.current)
            chains.append(tight(costs, group, b, room))
        models = [self._names[at] for at, _ in of]

        def judged(rows: Sequence[Row]) -> float:
            return turn.worth(dict(zip(self.order, rows, strict=True)))

        found = fitted_together(end_to_end(chains, models), judged, known_us, (STEPS,), ROUNDS)
        return replace(found, least_us=min(found.least_us, self._beyond_us))

    @cached_property
    def _beyond_us(self) -> float:
        """What all of them cost at least if one uses a node that is not considered here."""
        scene = self._turn.scene
        if self._nodes.shape[1] == len(scene.table.memory):
            return float("inf")
        if any(not self._place.keys() >= set(group.nodes.ravel().tolist()) for group in scene.groups):
            return 0.0
        return self._turn.beyond_us

    def least_us(self, known_us: float) -> float:
        """What no placement costs less than, by prices of memory alone: all streams of a model at once.

        One stream of each model must fit beside one of each other; each such choice has prices of its own.
        """
        turn, best, free = self._turn, -float("inf"), np.zeros(0)
        choices, parts = max(map(len, self._models)), list[tuple[Costs, Floats, list[list[int]]]]()
        for group, members, room in zip(self._each, self._models, self._rooms, strict=True):
            free = room.free[self._nodes[0]]
            weights = [turn.weights.get(s, 1.0) for s in members]
            rooms, near = [room] * len(members), [turn.near()] * len(members)
            costs = group.costs(range(len(members)), near, weights, rooms, turn.current)
            mine = [[c for c in range(choices) if c % len(members) == b] for b in range(len(members))]
            parts.append((costs, group.need(0, room), mine))

        def least(prices: Floats) -> tuple[float, Floats]:
            nonlocal best
            each = prices.reshape(choices, -1)
            total, charged = -float((each @ free).sum()), np.zeros_like(each)
            for costs, need, mine in parts:
                rent = np.array([each[some].sum(axis=0) for some in mine])[:, None]
                for some, found in zip(mine, solve(replace(costs, run=costs.run + need * rent)), strict=True):
                    if found is None:
                        return float("inf"), prices
                    total += found.cost_us
                    for first, last, node in runs(found.row):
                        charged[some, self._place[node]] += need[run_at(first, last), self._place[node]]
            best = max(best, total)
            return total, charged.ravel()

        climb(least, np.zeros(choices * len(free)), np.tile(free, choices), lambda: known_us, FEWER)
        return min(best, self._beyond_us)

    @property
    def order(self) -> list[str]:
        return [stream for members in self._models for stream in members]

    def _rows(self, found: Sequence[Row]) -> dict[str, Row]:
        """The rows of the models are those of their streams."""
        return {s: row for members, row in zip(self._models, found, strict=False) for s in members}

    def _chain(self, at: int, rows: Rows) -> Tight:
        """Of one model, beside the load of the others at `rows`; their memory is left out."""
        turn, members, room = self._turn, self._models[at], self._rooms[at]
        others = {s: row for s, row in rows.items() if s not in members}
        load = turn.scene.forecast.load(others, turn.weights, base=turn.near())
        weights = [turn.weights.get(s, 1.0) for s in members]
        each = self._each[at].costs(range(len(members)), [load] * len(members), weights)
        costs = self._as_one[at].costs([0], [load], [sum(weights)], [room])
        ends = each.enter.sum(axis=0, keepdims=True), each.leave.sum(axis=0, keepdims=True)
        every = Costs(costs.nodes, costs.run, costs.hop, costs.kind, *ends)
        return tight(every, self._as_one[at], 0, room)


def _nodes(turn: Turn) -> Indices:
    """Those considered for any stream, or the fastest of them; and the phones."""
    scene = turn.scene
    every = np.unique(np.concatenate([group.nodes.ravel() for group in scene.groups]))
    if len(every) > NODES:
        speed = speed_now(scene.table, scene.snapshot)[every]
        phones = [scene.table.source(s) for s in turn.free]
        every = np.union1d(every[np.argsort(-speed, kind="stable")[:NODES]], phones)
    return every
