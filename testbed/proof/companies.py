"""Companies of a place that has too many of them to be listed: the cheapest at some prices, or all below a limit. Pure.

Kinds are taken one after the other, those that bring most first. What is begun is dropped where it cannot become cheap
enough. How cheap is told by cutting waits into steps: where all wait from `low` to `high`, each use costs `low` at
least, and what all bring has to fit into what `high` leaves, so the best that may be added is that of a knapsack, where
parts of uses may be taken too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from controller.chain import Indices
from controller.table import Bools, Floats
from testbed.proof.places import Place, TooMany, room

STEPS, LOWEST_US, HIGHEST_US = 24, 1.0, 1e15
MOST_BEGUN, FINEST = 2_000, 512  # more than that are merged, in so many parts of what they bring
ROUNDING, LEAST = 1e-9, 1e-9
BETTER_US = 1e-3  # what is cheaper by less is no better


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """L companies of which some kinds are still to be taken."""

    counts: Floats  # (L, G)
    uses: Floats  # (L,) how many
    rho: Floats  # (L,) what they bring
    square: Floats  # (L,)
    paid_us: Floats  # (L,)

    def where(self, which: Bools | Indices) -> "_Begun":
        return _Begun(*(getattr(self, one.name)[which] for one in fields(self)))

    def one_more(self, place: Place, kind: int, price: float) -> "_Begun":
        counts = self.counts.copy()
        counts[:, kind] += 1
        rho, square = place.amounts[:, kind]
        return _Begun(counts, self.uses + 1, self.rho + rho, self.square + square, self.paid_us + price)


def _together(parts: Iterable[_Begun]) -> _Begun:
    columns = zip(*([getattr(part, one.name) for one in fields(_Begun)] for part in parts), strict=True)
    return _Begun(*map(np.concatenate, columns))


class _Search:
    """At prices (G,), kinds being taken in that order; I steps of waits."""

    def __init__(self, place: Place, prices: Floats, kinds: list[int]) -> None:
        self._place, self._prices, self.kinds = place, prices, kinds
        top = max(float(prices.max(initial=0.0)), 2 * place.least_us, 2 * LOWEST_US)
        self._low = np.geomspace(max(place.least_us, LOWEST_US), top, STEPS)
        self._low[0] = place.least_us
        self._high = high = np.append(self._low[1:], HIGHEST_US)
        self._room = room(high, *place.stay[:2])
        rho, square = place.amounts[:, kinds, None]
        gain = np.maximum(prices[kinds, None] - self._low, 0.0)
        self._gain, self._each = (  # the most of all kinds from one on: (kinds + 1, I)
            np.maximum.accumulate(np.vstack((part, np.zeros(STEPS)))[::-1])[::-1]
            for part in (gain, gain / np.maximum(2 * high * rho + square, LEAST))
        )

    def left_us(self, begun: _Begun) -> Floats:
        """(L,) what they cost as they are, less what they pay."""
        return self._place.all_us(begun.uses, self._place.wait_us(begun.rho, begun.square)) - begun.paid_us

    def least_us(self, begun: _Begun, taken: int) -> Floats:
        """(L,) the same, at least, when they are complete; so many kinds were taken."""
        free = self._room - 2 * self._high * begun.rho[:, None] - begun.square[:, None]
        wait = np.maximum(self._low, self._place.wait_us(begun.rho, begun.square)[:, None])
        more = np.maximum(self._place.most_uses - begun.uses, 0)[:, None] * self._gain[taken]
        more = np.minimum(more, np.maximum(free, 0.0) * self._each[taken])
        left = np.where(free < -ROUNDING * self._high, np.inf, self._place.all_us(begun.uses[:, None], wait) - more)
        return np.asarray(left.min(axis=1) - begun.paid_us)

    def extended(self, begun: _Begun, taken: int, below_us: float, most: float) -> _Begun:
        """Those begun with no, one and more uses, at most so many, of the next kind."""
        parts, kind = [begun], self.kinds[taken]
        while len(parts) <= most:
            more = parts[-1].one_more(self._place, kind, float(self._prices[kind]))
            more = more.where((more.uses <= self._place.most_uses) & self._place.within(more.counts))
            more = more.where(self.least_us(more, taken) < below_us)
            if not len(more.uses):
                break
            parts.append(more)
        begun = _together(parts)
        return begun.where(self.enough(begun, self.kinds[taken + 1 :]))

    def enough(self, begun: _Begun, ahead: Sequence[int] = ()) -> Bools:
        """(L,) whether they have the uses that they need, or may still get them of the kinds ahead."""
        fine = np.ones(len(begun.uses), dtype=bool)
        for limit in self._place.limits:
            if all(self._place.first[kind] < limit.use for kind in ahead):
                fine &= self._place.above(limit.use, begun.counts) >= limit.least
        return fine


def cheapest(place: Place, prices: Floats, below_us: float) -> tuple[float, Floats]:
    """What no company costs less than at prices (G,), less what it pays; and one (G,) that may cost so little.

    Only what costs less than `below_us` is looked for: where nothing does, that is the bound, and the company (0, G).
    Where too many that are begun are merged, the company costs a little more than is said.
    """
    needed = any(limit.least for limit in place.limits)
    kinds = [kind for kind in reversed(range(len(prices))) if needed or prices[kind] > place.alone_us[kind]]
    search, begun = _Search(place, prices, kinds), _nothing(len(prices))
    for taken in range(len(kinds)):
        begun = search.extended(begun, taken, below_us, np.inf)
        complete = begun.where(search.enough(begun))
        below_us = min(below_us, float(search.left_us(complete).min(initial=np.inf)) + BETTER_US)
        begun = begun.where(search.least_us(begun, taken + 1) < below_us)
        if len(begun.uses) > MOST_BEGUN:
            begun = _merged(place, begun)
    begun = begun.where(search.enough(begun))
    left = search.left_us(begun)
    if not (left < below_us).any():
        return below_us, begun.counts[:0]
    best = int(left.argmin())
    return float(left[best]), begun.counts[best]


def below(place: Place, prices: Floats, limit_us: float, counts: tuple[Floats, Floats], most: int) -> Floats:
    """(C, G) all that cost less than that beyond what they pay, the fewest and highest (G,) of each kind being said.

    Raises TooMany: more than `most` are begun.
    """
    fewest, highest = counts
    kinds = [kind for kind in reversed(range(len(prices))) if highest[kind] > 0]
    search, begun = _Search(place, prices, kinds), _nothing(len(prices))
    for taken, kind in enumerate(kinds):
        begun = search.extended(begun, taken, limit_us, highest[kind])
        begun = begun.where(begun.counts[:, kind] >= fewest[kind])
        begun = begun.where(search.least_us(begun, taken + 1) < limit_us)
        if len(begun.uses) > most:
            raise TooMany
    return begun.where(search.enough(begun) & (search.left_us(begun) < limit_us)).counts


def _nothing(kinds: int) -> _Begun:
    return _Begun(np.zeros((1, kinds)), np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1))


def _merged(place: Place, begun: _Begun) -> _Begun:
    """Like ones become one that pays as much as any of them and brings as little; it is no dearer than each."""
    fixed = [begun.uses, *(place.above(limit.use, begun.counts) for limit in place.limits)]
    brought = [part / max(float(part.max()), LEAST) for part in (begun.rho, begun.square)]
    parts = FINEST
    while True:
        alike = np.stack([*fixed, *(np.floor(part * parts) for part in brought)])
        order = np.lexsort((-begun.paid_us, *alike))
        first = np.flatnonzero(np.append(True, (np.diff(alike[:, order]) != 0).any(axis=0)))
        if len(first) <= MOST_BEGUN or parts == 1:
            break
        parts //= 2
    best = begun.where(order[first])
    rho, square = (np.minimum.reduceat(part[order], first) for part in (begun.rho, begun.square))
    return _Begun(best.counts, best.uses, rho, square, best.paid_us)
