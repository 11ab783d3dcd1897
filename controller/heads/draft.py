"""A plan of many layers that is being changed: which layers are in, what room is left, where one more goes best.

Layers are alike, so the same question comes up again and again; what was found once is remembered (`known`).
"""

from dataclasses import dataclass, field

import numpy as np

from controller.heads.costs import counts, ffn_phase_s, head_phase_s
from controller.heads.mixing import tally
from controller.heads.model import Floats, Ints, Plan
from controller.heads.sweep import Found, Layer, place_layer
from controller.heads.task import Task

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What was asked of one task: by what a layer finds, the best place and below which cost it was looked for."""

    found: dict[Key, tuple[Found | None, float]] = field(default_factory=dict)

    def place(self, layer: Layer, below_s: float) -> Found | None:
        key = _key(layer)
        found, looked_s = self.found.get(key, (None, -float("inf")))
        if found is None and looked_s < below_s:
            found = place_layer(layer, below_s)
            self.found[key] = found, below_s
        return found if found is not None and found.cost_s < below_s else None


def _key(layer: Layer) -> Key:
    """Where a whole layer has room it does not matter how much; of heads that are alike, how many are where."""
    asked, before = layer.asked, layer.before
    model, need = asked.model, asked.need
    left = (
        np.where(have >= each.layer(model), np.inf, have).tobytes()
        for have, each in ((layer.memory, need.resident_bytes), (layer.work, need.flops))
    )
    was: Key = ()
    if before is not None:
        parts = counts(before[: model.heads], asked.devices), counts(before[model.heads : -2], asked.devices)
        was = (*(part.tobytes() for part in parts), int(before[-2]), int(before[-1]))
    return (layer.source, *left, layer.onward.tobytes(), *was)


class Draft:
    """Layers are taken out and put in; `tolls` stand for what follows a layer whose successor is out."""

    def __init__(self, asked: Task, tolls: Floats, known: Known, plan: Plan | None = None) -> None:
        self._asked, self._tolls, self._known = asked, tolls, known
        self._rows: list[Ints | None] = [None] * asked.model.layers
        self._on = np.zeros((4, asked.devices), dtype=np.intp)  # heads, projections, ends, columns
        for number, row in enumerate([] if plan is None else plan):
            self.put(number, row)

    @property
    def plan(self) -> Plan:
        """Only of a draft that all layers are in."""
        return np.array(self._rows, dtype=np.intp)

    @property
    def patterns(self) -> list[Ints]:
        """(4, N) of each layer that is in."""
        return [tally(self._asked, row) for row in self._rows if row is not None]

    @property
    def out(self) -> list[int]:
        return [number for number, row in enumerate(self._rows) if row is None]

    def put(self, number: int, row: Ints) -> None:
        self._rows[number] = row.copy()
        self._on += tally(self._asked, row)

    def take(self, number: int) -> Ints:
        row = self._rows[number]
        assert row is not None
        self._rows[number] = None
        self._on -= tally(self._asked, row)
        return row

    def over(self) -> Ints:
        """The devices that hold more than they may."""
        memory, work = self._left()
        return np.flatnonzero((memory < -1e-9 * self._asked.memory) | (work < -1e-9 * self._asked.work))

    def fill(self, number: int, below_s: float = float("inf")) -> bool:
        """Puts a layer that is out at its best place, given those that are in; False when none is below `below_s`."""
        before = self._before(number)
        layer = Layer(self._asked, self._source(number), *self._left(), self._onward(number), before)
        found = self._known.place(layer, below_s)
        if found is not None:
            self.put(number, found.row(before))
        return found is not None

    def improve(self, number: int) -> bool:
        """A better place for one layer, the others staying."""
        now_s = self._worth_s(number)
        row = self.take(number)
        if self.fill(number, now_s * (1 - 1e-9)):
            return True
        self.put(number, row)
        return False

    def _left(self) -> tuple[Floats, Floats]:
        """(N,) bytes, (N,) FLOP."""
        asked = self._asked
        held, done = (np.array(each) @ self._on for each in (asked.need.resident_bytes, asked.need.flops))
        return asked.memory - held, asked.work - done

    def _before(self, number: int) -> Ints | None:
        return None if self._asked.before is None else np.asarray(self._asked.before[number])

    def _source(self, number: int) -> int:
        """Where the input of a layer is: the end of the last layer before that is in."""
        rows = (row for row in reversed(self._rows[:number]) if row is not None)
        return next((int(row[-1]) for row in rows), self._asked.source)

    def _onward(self, number: int) -> Floats:
        """(N,) what depends on where the layer ends."""
        spent, size = self._asked.spent, self._asked.devices
        if number + 1 == len(self._rows):
            return spent.home
        after = self._rows[number + 1]
        if after is None:
            return np.asarray(self._tolls[number + 1])
        held = np.broadcast_to(self._heads(after), (size, size))
        return head_phase_s(spent, held, np.arange(size), np.full(size, after[-2]))

    def _worth_s(self, number: int) -> float:
        """What `place_layer` would say of the place the layer has."""
        spent, model, now, before = self._asked.spent, self._asked.model, self._rows[number], self._before(number)
        assert now is not None
        proj, end = int(now[-2]), int(now[-1])
        columns = counts(now[model.heads : -2], self._asked.devices)
        worth = float(head_phase_s(spent, self._heads(now), self._source(number), proj) + spent.proj[proj])
        worth += float(ffn_phase_s(spent, columns, proj, end) + self._onward(number)[end])
        if before is not None:
            moved = spent.move_head[before[: model.heads], now[: model.heads]].sum()
            moved += spent.move_column[before[model.heads : -2], now[model.heads : -2]].sum()
            moved += spent.move_proj[before[-2], proj] + spent.move_ffn[before[-1], end]
            worth += float(moved) / self._asked.horizon
        return worth

    def _heads(self, row: Ints) -> Ints:
        return counts(row[: self._asked.model.heads], self._asked.devices)
