"""One layer, exactly: heads are alike, so a placement is a vector of counts, its first phase a bottleneck (`phase`).

A FFN in blocks of columns on several devices is a second phase of the same kind. Projections p, and for each the ends
q, are taken in order of a bound, with room that the other blocks do not take; the first that is not below the best
ends it.

Heads and columns of one layer share room. Each phase is first placed as if the other were not there; where the two
then fit together, as they do unless memory is short, the pair is exact. Else one goes first and the other beside it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from controller.heads.costs import counts
from controller.heads.model import Floats, Ints
from controller.heads.phase import Alike, Phase, least_ends, least_ffn_s
from controller.heads.task import SLACK, Task
from controller.heads.transport import Flow

BATCH = 8  # projections looked at together
Taken = tuple[Floats | float, Floats | float]  # bytes, FLOP of each device


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer to be placed, everything else being fixed."""

    asked: Task
    source: int  # where its input is
    memory: Floats  # (N,) bytes left for it
    work: Floats  # (N,) FLOP left for it
    onward: Floats  # (N,) what follows when it ends there
    before: Ints | None  # (blocks,) where it is now


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    cost_s: float
    bound_s: float  # no placement of the layer costs less; below cost_s only where heads and columns compete for room
    proj: int
    end: int
    heads: Ints  # (pairs, 3): from, to, how many; without a placement before, from is to
    columns: Ints  # the same of the FFN's blocks

    def row(self, before: Ints | None) -> Ints:
        """(blocks,) the placement of the layer."""
        tail = (self.proj, self.end)
        if before is None:
            return np.concatenate((*(np.repeat(part[:, 1], part[:, 2]) for part in (self.heads, self.columns)), tail))
        heads = int(self.heads[:, 2].sum())
        parts = moved(before[:heads], self.heads), moved(before[heads:-2], self.columns)
        return np.concatenate((*parts, tail))


def place_layer(layer: Layer, best_s: float = float("inf")) -> Found | None:
    """The best placement of the layer below `best_s`, None when there is none."""
    return _Sweep(layer, best_s).found()


class _Sweep:
    """One layer at work. Rooms are (4, N): alone, beside projection, beside end, beside both; -1: these do not fit."""

    def __init__(self, layer: Layer, best_s: float) -> None:
        asked, model, before = layer.asked, layer.asked.model, layer.before
        self._layer, self._spent = layer, asked.spent
        self._best_s, self._bound_s = best_s, float("inf")
        self._found: Found | None = None
        self._head_room, self._column_room = rooms(layer, "head"), rooms(layer, "column")
        was = (before[: model.heads], before[model.heads : -2]) if before is not None else ()
        on: list[Ints | None] = [counts(part, asked.devices) for part in was]
        on = on or [None, None]
        self._heads = Alike(model.heads, on[0], asked.spent.move_head / asked.horizon)
        self._columns = Alike(model.columns, on[1], asked.spent.move_column / asked.horizon)
        self._rest = self._beside_phases()

    def found(self) -> Found | None:
        spent, into = self._spent, self._spent.enter[self._layer.source]
        columns = least_ends(
            spent.onward, spent.column, self._column_room[0], self._columns.count
        )  # wherever they meet
        tail = self._rest.min(axis=1) + columns  # (P,)
        floor = least_ends(into, spent.head, self._head_room[0], self._heads.count)
        order = np.argsort(tail, kind="stable")
        for start in range(0, len(order), BATCH):
            at = order[start : start + BATCH]
            at = at[floor + tail[at] < self._best_s]
            if not len(at):
                break
            room = np.repeat(self._head_room[:1], len(at), axis=0)
            room[np.arange(len(at)), at] = self._head_room[1, at]
            ways = into + spent.delay.T[at], spent.head + spent.gather.T[at]
            bounds = tail[at] + least_ends(*ways, room, self._heads.count, self._best_s)
            for row in np.argsort(bounds, kind="stable").tolist():
                if bounds[row] >= self._best_s:
                    break
                self._ends(int(at[row]))
        return self._found and replace(self._found, bound_s=min(self._bound_s, self._found.cost_s))

    def _ends(self, p: int) -> None:
        """Every end for a projection on p."""
        bounds = self._rest[p] + self._heads_for(p, None).bound_s()
        if self._columns.count:
            spent, room = self._spent, beside(self._column_room, p, None)
            bounds += least_ffn_s(self._columns, spent.onward, spent.column, room, p, self._best_s)
        for q in np.argsort(bounds, kind="stable").tolist():
            if bounds[q] >= self._best_s:
                break
            self._settle(p, q)

    def _beside_phases(self) -> Floats:
        """(P, Q) what projection and end cost beside the two phases."""
        spent, layer = self._spent, self._layer
        rest = spent.proj[:, None] + layer.onward
        if not spent.columns:
            rest = rest + spent.onward + spent.ffn
        if layer.before is not None:
            proj, end = layer.before[-2:]
            rest = rest + (spent.move_proj[proj][:, None] + spent.move_ffn[end]) / layer.asked.horizon
        room = self._head_room >= 0
        fit = room[1][:, None] & room[2]
        np.fill_diagonal(fit, room[3])
        return np.where(fit, rest, np.inf)

    def _settle(self, p: int, q: int) -> None:
        """Where heads and columns go when projection and end are placed; kept when nothing was better."""
        rest_s = float(self._rest[p, q])
        heads, columns = self._heads_for(p, q), self._columns_for(p, q)
        left_s = self._best_s - rest_s
        first = heads.least(left_s - (columns.floor_s() if p == q else 0.0))
        second = None if first is None else self._spread(columns, p, q, left_s - first.cost_s)
        if first is None or second is None:
            return
        least_s = rest_s + first.cost_s + second.cost_s
        self._bound_s = min(self._bound_s, least_s)
        ways = [(first, second)]
        if columns.alike.count and not _fit(self._layer, self._taken(p, q, first.on, second.on)):
            ways = self._beside(p, q, first, second)
        for one, other in ways:
            cost_s = rest_s + one.cost_s + other.cost_s
            if cost_s < self._best_s:
                self._best_s, self._found = cost_s, Found(cost_s, least_s, p, q, one.moved, other.moved)

    def _beside(self, p: int, q: int, heads: Flow, columns: Flow) -> list[tuple[Flow, Flow]]:
        """The heads as they are and columns beside them; the other way round."""
        left_s = self._best_s - float(self._rest[p, q])
        room = rooms(self._layer, "column", self._taken(p, q, heads=heads.on))[0]
        other = self._spread(replace(self._columns_for(p, q), room=room), p, q, left_s - heads.cost_s)
        room = rooms(self._layer, "head", self._taken(p, q, columns=columns.on))[0]
        one = replace(self._heads_for(p, q), room=room).least(left_s - columns.cost_s)
        found = [] if other is None else [(heads, other)]
        return found if one is None else [*found, (one, columns)]

    def _spread(self, columns: Phase, p: int, q: int, below_s: float) -> Flow | None:
        """The columns so that the layer ends at q."""
        count = columns.alike.count
        if p != q and count:
            return columns.all_on(q)
        while (
            (flow := columns.least(below_s)) and count and (on := int(flow.on.argmax())) != p and flow.on[on] == count
        ):
            room = columns.room.copy()  # all on one device is another end
            room[on] = count - 1
            columns = replace(columns, room=room)
        return flow

    def _heads_for(self, p: int, q: int | None) -> Phase:
        spent = self._spent
        fixed, each = spent.enter[self._layer.source] + spent.delay[:, p], spent.head + spent.gather[:, p]
        return Phase(self._heads, fixed, each, beside(self._head_room, p, q))

    def _columns_for(self, p: int, q: int) -> Phase:
        spent = self._spent
        return Phase(self._columns, spent.onward[p] + spent.onward[:, q], spent.column, beside(self._column_room, p, q))

    def _taken(self, p: int, q: int, heads: Ints | None = None, columns: Ints | None = None) -> Taken:
        """(bytes (N,), FLOP (N,)) of a projection and an end, and of so many heads and columns."""
        nothing = np.zeros(len(self._rest), dtype=np.intp)
        need, on = self._layer.asked.need, np.stack([nothing] * 4)
        on[1, p], on[2, q] = 1, 1
        on[0], on[3] = nothing if heads is None else heads, nothing if columns is None else columns
        return np.array(need.resident_bytes) @ on, np.array(need.flops) @ on


def beside(rows: Ints, p: int, q: int | None) -> Ints:
    """(N,) beside a projection on p and an end on q; None: as if there were none."""
    room = rows[0].copy()
    if q is not None:
        room[q] = rows[2, q]
    room[p] = rows[3 if p == q else 1, p]
    return np.asarray(np.maximum(room, 0))


def _fit(layer: Layer, taken: Taken) -> bool:
    return bool((taken[0] <= layer.memory * SLACK).all() and (taken[1] <= layer.work * SLACK).all())


def rooms(layer: Layer, block: Literal["head", "column"], taken: Taken = (0.0, 0.0)) -> Ints:
    """(4, N) how many more fit: alone, beside a projection, an end, both; -1 where not even these do."""
    need, model = layer.asked.need, layer.asked.model
    if block == "column" and not model.columns:
        return np.zeros((4, len(layer.memory)), dtype=np.intp)
    room = np.full((4, len(layer.memory)), float(model.heads if block == "head" else model.columns))
    for have, each, other in zip((layer.memory, layer.work), (need.resident_bytes, need.flops), taken, strict=True):
        tail = np.array([0.0, each.proj, each.end, each.proj + each.end])[:, None]
        left, size = have * SLACK - other - tail, getattr(each, block)
        room = np.minimum(room, np.floor(left / size)) if size > 0 else np.where(left < 0, -1.0, room)
    return np.asarray(np.maximum(room, -1.0), dtype=np.intp)


def moved(before: Ints, pairs: Ints) -> Ints:
    """(B,) where blocks on `before` go by (M, 3) from, to, how many; of those on one device the first stay."""
    row = before.copy()
    stays_first = sorted(pairs.tolist(), key=lambda pair: (pair[0], pair[0] != pair[1], pair[1]))
    at = np.argsort(before, kind="stable")
    row[at] = np.repeat([to for _, to, _ in stays_first], [number for *_, number in stays_first])
    return row
