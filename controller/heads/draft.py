"""A plan of many layers that is being changed: which layers are in, what room is left, where one more goes best."""

import numpy as np

from controller.heads.costs import counts, head_phase_s
from controller.heads.model import Floats, Ints, Plan
from controller.heads.sweep import Layer, place_layer
from controller.heads.task import Task


class Draft:
    """Layers are taken out and put in; `tolls` stand for what follows a layer whose successor is out."""

    def __init__(self, asked: Task, tolls: Floats, plan: Plan | None = None) -> None:
        self._asked, self._tolls = asked, tolls
        self._rows: list[Ints | None] = [None] * asked.model.layers
        self._memory, self._work = asked.memory.copy(), asked.work.copy()
        for number, row in enumerate([] if plan is None else plan):
            self.put(number, row)

    @property
    def plan(self) -> Plan:
        """Only of a draft that all layers are in."""
        return np.array(self._rows, dtype=np.intp)

    def put(self, number: int, row: Ints) -> None:
        self._rows[number] = row.copy()
        self._memory = self._memory - self._taken(row, self._asked.need.resident_bytes)
        self._work = self._work - self._taken(row, self._asked.need.flops)

    def take(self, number: int) -> Ints:
        row = self._rows[number]
        assert row is not None
        self._rows[number] = None
        self._memory = self._memory + self._taken(row, self._asked.need.resident_bytes)
        self._work = self._work + self._taken(row, self._asked.need.flops)
        return row

    def fill(self, number: int, below_s: float = float("inf")) -> bool:
        """Puts a layer that is out at its best place, given those that are in; False when none is below `below_s`."""
        before = self._before(number)
        layer = Layer(self._asked, self._source(number), self._memory, self._work, self._onward(number), before)
        found = place_layer(layer, below_s)
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

    def _before(self, number: int) -> Ints | None:
        return None if self._asked.before is None else np.asarray(self._asked.before[number])

    def _source(self, number: int) -> int:
        """Where the input of a layer is: the FFN of the last layer before that is in."""
        rows = (row for row in reversed(self._rows[:number]) if row is not None)
        return next((int(row[-1]) for row in rows), self._asked.source)

    def _onward(self, number: int) -> Floats:
        """(N,) what depends on where the layer's FFN is."""
        spent, size = self._asked.spent, self._asked.devices
        if number + 1 == len(self._rows):
            return spent.home
        after = self._rows[number + 1]
        if after is None:
            return np.asarray(self._tolls[number + 1])
        held, proj = counts(after, size), int(after[-2])
        ends = held * (spent.head + spent.gather[:, proj]) + spent.delay[:, proj]
        used = held > 0
        return np.asarray((spent.enter[:, used] + ends[used]).max(axis=1))

    def _worth_s(self, number: int) -> float:
        """What `place_layer` would say of the place the layer has."""
        spent, now, before = self._asked.spent, self._rows[number], self._before(number)
        assert now is not None
        proj, ffn = int(now[-2]), int(now[-1])
        worth = head_phase_s(spent, counts(now, self._asked.devices), self._source(number), proj)
        worth += float(spent.proj[proj] + spent.onward[proj, ffn] + spent.ffn[ffn] + self._onward(number)[ffn])
        if before is not None:
            moved = spent.move_head[before[:-2], now[:-2]].sum()
            moved += spent.move_proj[before[-2], proj] + spent.move_ffn[before[-1], ffn]
            worth += float(moved) / self._asked.horizon
        return worth

    def _taken(self, row: Ints, each: tuple[float, float, float]) -> Floats:
        taken = each[0] * counts(row, self._asked.devices)
        taken[row[-2]] += each[1]
        taken[row[-1]] += each[2]
        return np.asarray(taken, dtype=np.float64)
