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
from copy import copy
from dataclasses import dataclass
from itertools import count

import numpy as np

from controller.chain import Indices
from controller.choices import NOWHERE, Choices
from controller.cost import FULL, HORIZON_US, Load
from controller.crowd import Crowd
from controller.objective import PLAIN, SLIGHT, Objective
from controller.prices import Prices
from controller.table import Bools, Floats, Row

STEPS, SEARCHED, FEWEST = 6, 64, 4  # sets looked at, of so many choices and streams at most
CHANGES = 32  # of one choice, going down
PASSES = 2  # of prices; each leaves fewer choices, which are counted more exactly
FEW = 0.5  # as long as a pass leaves fewer
ROUNDING = 1e-9
OVER_US = 1e10  # for all the time of a node or path over its limit
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


class _Known:
    """The cheapest set seen, if any costs less than what is known from elsewhere."""

    def __init__(self, cost_us: float) -> None:
        self.cost_us = cost_us
        self._of: tuple[Choices, Indices] | None = None

    def see(self, asked: "Together", chosen: Indices, cost_us: float) -> None:
        if cost_us < self.cost_us:
            self.cost_us, self._of = cost_us, (asked.choices, asked.choices.number[chosen])

    def better(self, asked: "Together", costs: Floats) -> Floats:
        """Goes down from what costs each stream least by `costs`; the load (3, R) of what is found."""
        chosen, load, cost_us = asked.descended(asked.cheapest(costs))
        self.see(asked, chosen, cost_us)
        return load

    def found(self, least_us: float) -> Found:
        choices, numbers = self._of or (None, ())
        return Found(least_us, tuple(choices.row(int(m)) for m in numbers) if choices else ())


class Together:
    """Choices at R places; what only one stream may use is at place 0, and free.

    `weights` of the streams; `stay` is the load of those that stay, and what a choice costs alone counts them.
    What is over a limit of the `objective` costs so much that no such set is the cheapest, if there is another.
    """

    def __init__(
        self, choices: Choices, weights: Floats, stay: Load, backlog_us: Floats, objective: Objective = PLAIN
    ) -> None:
        self._places, self._at = _shared(choices)
        self._ends = ends = [divmod(place, len(backlog_us)) for place in self._places.tolist()]
        self._stay = _at_places(stay, ends)
        self._backlog = np.array([0.0, *(float(backlog_us[a]) if a == b else 0.0 for a, b in ends)])
        self._even = np.array([0.0, *(objective.utilisation_us if a == b else 0.0 for a, b in ends)])
        limits = objective.max_utilisation, objective.max_link_share
        self._limit = np.array([np.inf, *(limits[a != b] for a, b in ends)])
        self._plain = objective == PLAIN
        weight = np.broadcast_to(weights[choices.owner][:, None], choices.rho.shape)
        self._adds = np.stack((choices.rho, choices.square, weight)) * (self._at > 0)  # (3, M, USES)
        self._take(choices)
        self._knee = self._knees()
        full = (self._stay[0, self._at] + self._adds[0] > self._knee[self._at]) & (self._at > 0)
        self.sure = not self._stay[0, self._at[full]].any()  # whether the bound holds
        self._adds[:, full], self._at[full] = 0.0, 0  # too full alone: sure is only that company makes none faster
        self._own = choices.least_us - self._added(self._stay)

    def _take(self, choices: Choices) -> None:
        self.choices = choices
        self._starts = np.searchsorted(choices.owner, np.arange(int(choices.owner[-1]) + 2))
        mine = self._starts[:-1, None] + np.arange(int(np.diff(self._starts).max()))
        self._mine = np.where(mine < self._starts[1:, None], mine, len(choices.owner))  # (S, most), padded with M

    def _knees(self) -> Floats:
        """(R,) utilisations up to which waits count as they are: beyond, a tangent might be above them."""
        most = self._stay[1].copy()
        top = np.zeros((len(self._starts) - 1, len(most)))
        np.maximum.at(top, (self.choices.owner[:, None], self._at), self._adds[1])
        most += top.sum(axis=0)
        return np.asarray(np.clip(1 - np.sqrt(most / HORIZON_US), 0.0, FULL))

    def _waiting(self, load: Floats, at: Indices) -> Floats:
        """What all who use the places `at` wait there, by weight, under (3, ..., *at.shape); at most that of `cost`.

        And what their utilisation costs.
        """
        (rho, square, weight), knee = load, self._knee[at]
        if (rho <= knee).all():
            waits = weight * np.maximum(self._backlog[at], square / (2.0 - 2.0 * rho))
        else:
            steep = 1.0 / (1.0 - knee)
            stretch = 1.0 / (1.0 - np.minimum(rho, knee)) + np.maximum(rho - knee, 0.0) * steep * steep
            waits = weight * np.maximum(self._backlog[at], square * stretch / 2.0)
        if self._plain:
            return np.asarray(waits)
        over = np.maximum(rho - self._limit[at] - SLIGHT, 0.0)
        return np.asarray(waits + self._even[at] * rho * rho + OVER_US * over)

    def _added(self, load: Floats) -> Floats:
        """(..., M) how much longer all wait for each choice, made beside a load of (3, ..., R)."""
        there = load[..., self._at]  # (3, ..., M, USES)
        adds = self._adds if load.ndim == 2 else self._adds[:, None]
        return np.asarray((self._waiting(there + adds, self._at) - self._waiting(there, self._at)).sum(axis=-1))

    def found(self, below_us: float, guess: Load) -> Found:
        """The cheapest set; those that cost `below_us` or more are no matter. Prices begin as if `guess` were right."""
        alone = self.choices.least_us
        cheapest = np.minimum.reduceat(alone, self._starts[:-1])
        asked, known = self, _Known(below_us)
        load, more = _at_places(guess, self._ends), alone - np.repeat(cheapest, np.diff(self._starts))
        least = float(cheapest.sum())
        for turn in range(PASSES + 1):
            near = least + more < known.cost_us * (1 - ROUNDING)
            if not np.logical_or.reduceat(near, asked._starts[:-1]).all():
                return known.found(known.cost_us)
            if turn == PASSES or (turn and near.mean() > FEW):
                break
            asked, load = asked._only(near, load)
            least, more = Prices(asked._own, asked._mine, asked._at, asked._adds, asked._waiting).bound(
                known.cost_us, asked._stay, load
            )
            load = load if turn else known.better(asked, more)
        if len(more) > SEARCHED or len(self._starts) - 1 > FEWEST:
            return known.found(least)
        return asked._searched(known, least, more)

    def _only(self, near: Bools, load: Floats) -> tuple["Together", Floats]:
        """With some of the choices; and a load (3, R) where they can meet."""
        rest, owner = copy(self), self.choices.owner[near]
        rest._take(self.choices.only(near))
        at, adds = self._at[near], self._adds[:, near]
        users = np.zeros((len(self._knee), len(self._starts) - 1), dtype=bool)
        users[at, owner[:, None]] = True
        kept = users.sum(axis=1) > 1
        kept[0] = True
        lone = ~kept[at]
        alone = self._waiting(self._stay[:, at] + adds, at) - self._waiting(self._stay[:, at], at)
        rest._own = self._own[near] + np.where(lone, alone, 0.0).sum(axis=1)
        rest._at, rest._adds = np.where(lone, 0, (np.cumsum(kept) - 1)[at]), np.where(lone, 0.0, adds)
        rest._stay, rest._backlog, rest._knee = self._stay[:, kept], self._backlog[kept], self._knee[kept]
        rest._even, rest._limit = self._even[kept], self._limit[kept]
        rest._places = self._places[kept[1:]]
        return rest, load[:, kept]

    def descended(self, chosen: Indices) -> tuple[Indices, Floats, float]:
        """From a choice of each stream by changing one at a time, the one that gains most; its load, and its cost."""
        at, adds, everyone = self._at, self._adds, np.arange(len(chosen))[:, None]
        load = self._stay + self._brought(chosen)
        for _ in range(CHANGES):
            others = np.repeat(load[:, None], len(chosen), axis=1)  # (3, S, R)
            others[:, everyone, at[chosen]] -= adds[:, chosen]
            value = self._beside(others)
            gain = value[chosen][self.choices.owner] - value
            best = int(gain.argmax())
            if gain[best] <= ROUNDING * value[best]:
                break
            chosen[self.choices.owner[best]] = best
            load = self._stay + self._brought(chosen)
        return chosen, load, float(self._own[chosen].sum()) + self._whole(load) - self._whole(self._stay)

    def _beside(self, others: Floats) -> Floats:
        """(M,) what each choice costs, and makes the others wait, where the others of its stream are (3, S, R)."""
        there = others[:, self.choices.owner[:, None], self._at]
        return np.asarray(
            self._own + (self._waiting(there + self._adds, self._at) - self._waiting(there, self._at)).sum(axis=-1)
        )

    def responses_us(self, crowd: Crowd) -> Floats:
        """(S,) no row of a stream costs less, with what it makes others wait, beside what it finds there."""
        value = self._beside(np.pad(crowd.at(self._places), ((0, 0), (0, 0), (1, 0))))
        return np.asarray(np.minimum.reduceat(value, self._starts[:-1]))

    def cheapest(self, costs: Floats) -> Indices:
        """(S,) the choice of each stream that costs least."""
        return np.asarray(np.append(costs, np.inf)[self._mine].argmin(axis=1) + self._starts[:-1])

    def _searched(self, known: "_Known", least_us: float, more: Floats) -> Found:
        """Best first; what a choice costs `more` than `least_us` by its price bounds as well."""
        ahead, number = list[tuple[float, int, _Set]](), count()

        def push(sets: Sequence[_Set]) -> None:
            for one in sets:
                bound = max(one.bound_us, least_us + float(more[one.made[one.made >= 0]].sum()))
                if bound < known.cost_us:
                    heapq.heappush(ahead, (bound, next(number), one))

        push(self._sets(np.full((1, len(self._starts) - 1), -1), [0.0], self._stay[:, None]))
        for _ in range(STEPS):
            if not ahead or ahead[0][0] >= known.cost_us * (1 - ROUNDING):
                break
            _, _, one = heapq.heappop(ahead)
            left = one.best[one.made < 0]
            load = one.load + self._brought(left)
            cost = one.cost_us + float(self._own[left].sum()) + self._whole(load) - self._whole(one.load)
            known.see(self, one.best, cost)
            if len(left):
                push(self._children(one, load))
        return known.found(min(known.cost_us, ahead[0][0] if ahead else known.cost_us))

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


def _shared(choices: Choices) -> tuple[Indices, Indices]:
    """The places that more than one stream may use, and (M, USES) which of them, from 1."""
    streams = int(choices.owner[-1]) + 1
    used = np.unique(np.where(choices.place == NOWHERE, NOWHERE, choices.place * streams + choices.owner[:, None]))
    places, users = np.unique(used[used >= 0] // streams, return_counts=True)
    places = places[users > 1]
    at = np.searchsorted(places, choices.place)
    found = np.append(places, NOWHERE - 1)[at] == choices.place
    return places, np.where(found, at + 1, 0)
