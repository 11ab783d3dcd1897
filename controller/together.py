"""What several streams cost at least when they are placed together, and the placement that this suggests. Pure.

Each stream alone is a bound that is not met where streams want the same node. Here each takes one of its `choices`; a
set of them costs what they cost alone, and what they make each other wait. `prices` leave few choices that may be in
the cheapest set. That is found by best-first search: the bound of a beginning is the higher one of what its prices say,
and of what it costs, with the cheapest choice beside those made of each stream left. That others are still to come can
only make it dearer, for waits are supermodular: who comes later adds the more. Near full nodes they are not; from a
*knee* on the tangent, which is below them, takes their place.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from controller.chain import Indices
from controller.choices import NOWHERE, Choices
from controller.cost import FULL, HORIZON_US, Load
from controller.prices import Prices
from controller.table import Floats, Row

STEPS = 6  # sets looked at
PASSES = 2  # of prices; each leaves fewer choices, which are counted more exactly
SEARCHED = 64  # choices, at most
FEW = 0.5  # as long as a pass leaves fewer
ROUNDING = 1e-9
NOBODY = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Found:
    least_us: float  # no set of choices costs less, of those asked for
    rows: tuple[Row, ...]  # the cheapest set seen, in the order of the streams; empty when there is none


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """A choice, or -1, of each stream; `cost_us` of those made, the load (3, R) with them, the best of all others."""

    made: Indices
    cost_us: float
    load: Floats
    best: Indices
    bound_us: float


class Together:
    """Choices at R places; what only one stream may use is at place 0, and free.

    `weights` of the streams; `stay` is the load of those that stay, and what a choice costs alone counts them. `guess`
    is the load with all streams where they may well be, prices begin with it.
    """

    def __init__(self, choices: Choices, weights: Floats, stay: Load, guess: Load, backlog_us: Floats) -> None:
        self._choices, self._asked = choices, (weights, stay, guess, backlog_us)
        self._starts = np.searchsorted(choices.owner, np.arange(len(weights) + 1))
        mine = self._starts[:-1, None] + np.arange(int(np.diff(self._starts).max()))
        self._mine = np.where(mine < self._starts[1:, None], mine, len(choices.owner))  # (S, most), padded with M
        places, self._at = _shared(choices)
        ends = [divmod(place, len(backlog_us)) for place in places]
        self._stay, self._guess = (_at_places(load, ends) for load in (stay, guess))
        self._backlog = np.array([0.0, *(float(backlog_us[a]) if a == b else 0.0 for a, b in ends)])
        weight = np.broadcast_to(weights[choices.owner][:, None], choices.rho.shape)
        self._adds = np.stack((choices.rho, choices.square, weight)) * (self._at > 0)  # (3, M, USES)
        self._knee = self._knees()
        full = (self._stay[0, self._at] + self._adds[0] > self._knee[self._at]) & (self._at > 0)
        self.sure = not self._stay[0, self._at[full]].any()  # whether the bound holds
        self._adds[:, full], self._at[full] = 0.0, 0  # too full alone: sure is only that company makes none faster
        self._own = choices.least_us - self._added(self._stay)

    def _knees(self) -> Floats:
        """(R,) utilisations up to which waits count as they are: beyond, a tangent might be above them."""
        most = self._stay[1].copy()
        for first, last in zip(self._starts[:-1], self._starts[1:], strict=True):
            top = np.zeros_like(most)
            np.maximum.at(top, self._at[first:last], self._adds[1, first:last])
            most += top
        return np.asarray(np.clip(1 - np.sqrt(most / HORIZON_US), 0.0, FULL))

    def _waiting(self, load: Floats, at: Indices) -> Floats:
        """What all who use the places `at` wait there, by weight, under (3, ..., *at.shape); at most that of `cost`."""
        (rho, square, weight), knee = load, self._knee[at]
        steep = 1.0 / (1.0 - knee)
        stretch = 1.0 / (1.0 - np.minimum(rho, knee)) + np.maximum(rho - knee, 0.0) * steep * steep
        return np.asarray(weight * np.maximum(self._backlog[at], square * stretch / 2.0))

    def _added(self, load: Floats) -> Floats:
        """(..., M) how much longer all wait for each choice, made beside a load of (3, ..., R)."""
        there = load[..., self._at]  # (3, ..., M, USES)
        adds = self._adds if load.ndim == 2 else self._adds[:, None]
        return np.asarray((self._waiting(there + adds, self._at) - self._waiting(there, self._at)).sum(axis=-1))

    def found(self, below_us: float) -> Found:
        """The cheapest set; those that cost `below_us` or more are no matter."""
        asked = self
        for _ in range(PASSES):
            prices = Prices(asked._own, asked._mine, asked._at, asked._adds, asked._waiting)
            least, more = prices.bound(below_us, asked._stay, asked._guess)
            near = least + more < below_us * (1 - ROUNDING)
            if not np.logical_or.reduceat(near, asked._starts[:-1]).all():
                return Found(below_us, ())
            if near.mean() > FEW:
                break
            asked, more = Together(asked._choices.only(near), *asked._asked), more[near]
        if len(more) > SEARCHED:
            return Found(least, ())
        return asked._searched(below_us, least, more)

    def _searched(self, below_us: float, least_us: float, more: Floats) -> Found:
        """Best first; what a choice costs `more` than `least_us` by its price bounds as well."""
        ahead, number = list[tuple[float, int, _Set]](), count()

        def push(sets: Sequence[_Set], limit: float) -> None:
            for one in sets:
                bound = max(one.bound_us, least_us + float(more[one.made[one.made >= 0]].sum()))
                if bound < limit:
                    heapq.heappush(ahead, (bound, next(number), one))

        push(self._sets(np.full((1, len(self._starts) - 1), -1), [0.0], self._stay[:, None]), below_us)
        known, best = below_us, tuple[Row, ...]()
        for _ in range(STEPS):
            if not ahead or ahead[0][0] >= known * (1 - ROUNDING):
                break
            _, _, one = heapq.heappop(ahead)
            left = one.best[one.made < 0]
            load = one.load + self._brought(left)
            cost = one.cost_us + float(self._own[left].sum()) + self._whole(load) - self._whole(one.load)
            if cost < known:
                known, best = cost, tuple(self._choices.row(m) for m in self._choices.number[one.best].tolist())
            if len(left):
                push(self._children(one, load), known)
        return Found(min(known, ahead[0][0] if ahead else known), best)

    def _whole(self, load: Floats) -> float:
        return float(self._waiting(load, np.arange(load.shape[1])).sum())

    def _brought(self, chosen: Indices) -> Floats:
        """(3, R) by some choices."""
        at, places = self._at[chosen].ravel(), self._stay.shape[1]
        return np.array([np.bincount(at, adds[chosen].ravel(), places) for adds in self._adds])

    def _children(self, one: _Set, load: Floats) -> list[_Set]:
        """With each choice of one stream: which, under the `load` of all the best ones, is dearest beyond its bound."""
        left = np.flatnonzero(one.made < 0)
        best, added = one.best[left], self._added(one.load)
        at, there = self._at[best], load[:, self._at[best]]
        beside = (self._waiting(there, at) - self._waiting(there - self._adds[:, best], at)).sum(axis=-1)
        stream = int(left[int((beside - added[best]).argmax())])
        chosen = np.arange(self._starts[stream], self._starts[stream + 1])
        made = np.repeat(one.made[None], len(chosen), axis=0)
        made[:, stream] = chosen
        loads, child = np.repeat(one.load[:, None], len(chosen), axis=1), np.arange(len(chosen))
        for use in range(self._at.shape[1]):
            loads[:, child, self._at[chosen, use]] += self._adds[:, chosen, use]
        return self._sets(made, (one.cost_us + self._own[chosen] + added[chosen]).tolist(), loads)

    def _sets(self, made: Indices, costs_us: list[float], loads: Floats) -> list[_Set]:
        """(C, S) choices made, and (3, C, R) the loads with them."""
        every = np.full((len(made), len(self._own) + 1), np.inf)  # (C, M), and what is more than any
        every[:, :-1] = self._own + self._added(loads)
        best = every[:, self._mine].argmin(axis=2) + self._starts[:-1]
        bounds = costs_us + (np.take_along_axis(every, best, axis=1) * (made < 0)).sum(axis=1)
        best = np.where(made < 0, best, made)
        return [_Set(*one) for one in zip(made, costs_us, loads.transpose(1, 0, 2), best, bounds.tolist(), strict=True)]


def _at_places(load: Load, ends: Sequence[tuple[int, int]]) -> Floats:
    """(3, R) utilisation, rate * time^2, weight; nothing at place 0."""
    there = [load.nodes.get(a, NOBODY) if a == b else load.paths.get((a, b), NOBODY) for a, b in ends]
    return np.array([NOBODY, *there], dtype=float).T


def _shared(choices: Choices) -> tuple[list[int], Indices]:
    """The places that more than one stream may use, and (M, USES) which of them, from 1."""
    streams = int(choices.owner[-1]) + 1
    used = np.unique(np.where(choices.place == NOWHERE, NOWHERE, choices.place * streams + choices.owner[:, None]))
    places, users = np.unique(used[used >= 0] // streams, return_counts=True)
    places = places[users > 1]
    at = np.searchsorted(places, choices.place)
    found = np.append(places, NOWHERE - 1)[at] == choices.place
    return places.tolist(), np.where(found, at + 1, 0)
