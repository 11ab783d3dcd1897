"""The optimum of streams that crowd, by cases: boxes of waits at crowded places (`levels`). Pure.

Always the box with the lowest bound is next. Where the rows it leads to wait much longer than its lowest waits, it is
parted at a wait of theirs; else all rows that may be in a better set are listed, and the best set in it is sought as
long as that is not worse than the best known. Where a set turns out dearer, because it meets where no place was known
to be crowded, that place is one from then on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count

import numpy as np

from controller.table import Floats, Row
from testbed.proof.levels import Box, Levels, Relaxed
from testbed.proof.places import TooMany

CLOSE = 1e-6  # a gap that is rounding
FINE = 0.5  # rows are listed where waits are off by that share of the gap
LISTED, FEW_LISTED, SETS = 500, 50, 2  # rows, and sets of them that are looked at in one box
SPREAD, FEW = 0.05, 0.3  # by how much boxes are wide counts too; places with fewer uses count as with so many
MIDDLE, STEEP = 0.15, 4.0  # of a box's width, where it may be parted; a box this much wider has its geometric mean
LEAST_US = 100.0  # waits below that count as that in it
SAID = 25  # boxes between two bounds that are told

Total = Callable[[Sequence[Row]], float]


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A box, and a bound that holds in it."""

    box: Box
    relaxed: Relaxed
    bound_us: float


class Boxes:
    """`rows` are the best known, and cost `found_us`, as `total_us` says of any set."""

    def __init__(self, levels: Levels, rows: Sequence[Row], total_us: Total) -> None:
        self._levels, self._total_us = levels, total_us
        self.rows, self.found_us = list(rows), total_us(rows)
        self._looked_at = [tuple(rows)]
        self._number, self._done = count(), 0
        self._open: list[tuple[float, int, _Open]] = []
        self.others = False  # whether rows that are not told apart may be better
        for stream, row in enumerate(rows):
            levels.see(stream, row)

    def bounds_us(self, most: int) -> Iterator[float]:
        """What is sure by and by, after so many boxes at most; takes up better rows where they are found.

        Asked again it goes on with those that are left.
        """
        if not self._done:
            self._push(self._levels.whole(self.found_us), np.zeros(len(self._levels.ids)), 0.0)
        while self._done < most and self._open and self._open[0][0] < self._aim_us:
            _, _, one = heappop(self._open)
            self._part(one)
            self._done += 1
            if self._done % SAID == 0:
                yield self._sure_us()
        yield self._sure_us()

    @property
    def left(self) -> int:
        """Boxes in which a better set may be."""
        return sum(bound < self._aim_us for bound, *_ in self._open)

    @property
    def _aim_us(self) -> float:
        return self.found_us * (1 - CLOSE)

    def _sure_us(self) -> float:
        return min([self.found_us, *(bound for bound, *_ in self._open[:1])])

    def _push(self, box: Box, charges: Floats, bound_us: float) -> None:
        relaxed = self._levels.relaxed(box, charges, self.found_us)
        bound_us = max(bound_us, relaxed.bound_us)
        if bound_us < self._aim_us:
            self.see(self._levels.largest(relaxed.shares))
            heappush(self._open, (bound_us, next(self._number), _Open(box, relaxed, bound_us)))

    def _part(self, one: _Open) -> None:
        if crossed := self._levels.crossed(self._levels.largest(one.relaxed.shares)):
            self._widen(crossed, one)
            return
        low, high = one.box.low_us, one.box.high_us
        brought, uses, paid = self._levels.mixed(one.box, one.relaxed.shares)
        waits = np.clip(self._levels.waits_us(brought), low, high)
        unpaid, gap = np.maximum(uses * waits - paid, 0.0), self.found_us - one.bound_us
        one, crossed = self._listed(one, LISTED if unpaid.sum() <= FINE * gap else FEW_LISTED)
        if one.bound_us >= self._aim_us:
            return
        if crossed:
            self._widen(crossed, one)
            return
        meet = (unpaid > 0) | (uses > 1)
        place = int((unpaid + meet * SPREAD * (high - low) * np.maximum(uses, FEW)).argmax())
        for part in one.box.parted(place, _between(float(low[place]), float(waits[place]), float(high[place]))):
            self._push(part, one.relaxed.charges, one.bound_us)

    def _listed(self, one: _Open, most: int) -> tuple[_Open, list[int]]:
        """With a bound from all rows that may be in a better set; `found_us` when there is none. And where they meet
        that was not known to be crowded.
        """
        for _ in range(SETS):
            try:
                best = self._levels.exact(one.box, one.relaxed, self.found_us, self._looked_at, most)
            except TooMany:
                break
            one = replace(one, bound_us=max(one.bound_us, min(best.least_us, self.found_us)))
            if one.bound_us >= self._aim_us or not best.rows:
                break
            if not all(best.rows):
                self.others = True
                break
            self.see(best.rows)
            if crossed := self._levels.crossed(best.rows):
                return one, crossed
        return one, []

    def see(self, rows: Sequence[Row]) -> None:
        """Takes rows up if they are the best known."""
        if not all(rows) or tuple(rows) in self._looked_at:
            return
        self._looked_at.append(tuple(rows))
        if (total := self._total_us(rows)) < self.found_us:
            self.found_us, self.rows = total, list(rows)

    def _widen(self, crossed: Sequence[int], one: _Open) -> None:
        """More places are crowded: their waits may be any in all boxes."""
        self._levels.widen(crossed)
        whole = self._levels.whole(self.found_us)
        every = [*(each for _, _, each in self._open), one]
        self._open = []
        for each in every:
            charges = np.append(each.relaxed.charges, np.zeros(len(whole.low_us) - len(each.relaxed.charges)))
            wider = replace(each, box=each.box.wider(whole), relaxed=replace(each.relaxed, charges=charges))
            self._open.append((each.bound_us, next(self._number), wider))
        heapify(self._open)


def _between(low: float, wait: float, high: float) -> float:
    """Where a box is parted: at that wait, if both parts are worth it."""
    edge = MIDDLE * (high - low)
    if low + edge < wait < high - edge:
        return wait
    least = max(low, LEAST_US)
    return float(np.sqrt(least * high)) if high > STEEP * least else (low + high) / 2
