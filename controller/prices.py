"""A lower bound for choices that make each other wait: streams pay prices for places, and places pay back. Pure.

Lagrange: with a price for each use of a place, every stream takes what is cheapest for it alone, and every place as
many uses as are worth their waits. Whatever the prices are, both together are never more than the cheapest set of
choices costs. Where all uses of a place are alike the best prices leave no gap, for waits grow ever faster with each
use more. Uses are rounded down to a few kinds, so that a place only counts them: never more than there are streams for
them, nor so many that no cheaper set has them. Prices are sought by subgradients.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np

from controller.chain import Indices
from controller.table import Bools, Floats

TYPES, ROUNDING = 4, 1e-9
ROUNDS, SHORTER, SHORTEST = 16, 0.8, 0.3  # at most; steps that do not help get shorter, to the shortest
EDGES = (0.75, 0.95, 0.999)  # kinds, of the greatest use of a place; of few choices they are told apart as they are
UNLIKE = (0.0, 1 / 3, 2 / 3)  # of users of a place that have uses of their own: whose greatest one begins a kind
EXACT = 64
Waiting = Callable[[Floats, Indices], Floats]  # of (3, ..., R) loads at places


class Prices:
    """Of M choices of S streams, with U uses each at R places; place 0 is free. `mine`: (S, most), padded with M."""

    def __init__(self, own: Floats, mine: Indices, at: Indices, adds: Floats, waiting: Waiting) -> None:
        self._own, self._mine, self._waiting = own, mine, waiting
        self._counts = _counts(len(mine))  # (C, TYPES)
        self._places = int(at.max(initial=0)) + 1
        self._owner = np.repeat(np.arange(len(mine)), (mine < len(own)).sum(axis=1))
        kind, self._amounts = _kinds(at, adds, self._places, self._owner)
        self._slot = np.ascontiguousarray((at * TYPES + kind).T)  # (U, M) of flat prices
        self._too_many = self._unmet()

    def _unmet(self) -> Bools:
        """(R, C) counts of more uses than there are streams for them."""
        streams = len(self._mine)
        users = np.zeros((self._places * TYPES, streams), dtype=bool)
        users[self._slot, self._owner] = True
        each = users.reshape(-1, TYPES, streams)
        most = np.column_stack((each.sum(axis=2), each.any(axis=1).sum(axis=1)))
        return np.asarray(np.logical_or.reduce(_beyond(streams)[np.arange(TYPES + 1), most], axis=1))

    def _first(self, guess: Floats) -> Floats:
        """(R * TYPES,) what one use more of each kind makes all wait: the mean of one more and one less."""
        there, every = guess[:, :, None], np.repeat(np.arange(self._places)[:, None], TYPES, axis=1)
        more = self._waiting(there + self._amounts, every) - self._waiting(
            np.maximum(there - self._amounts, 0.0), every
        )
        more[0] = 0.0
        return np.asarray(more.ravel() / 2)

    def _ways(self, stay: Floats, slack_us: float) -> tuple[Floats, Floats]:
        """(R, C) what counts of uses add to the waits, infinite where no set within the slack has them; (C, TYPES)."""
        some = np.append(True, ~self._too_many[1:, 1:].all(axis=0))
        counts, too_many = self._counts[some], self._too_many[:, some]
        every, stay = np.arange(self._places)[:, None], stay[:, : self._places, None]
        loads = stay + self._amounts @ counts.T  # (3, R, C)
        cost = self._waiting(loads, every) - self._waiting(stay, every)
        return np.where(too_many | (cost >= slack_us), np.inf, cost), counts

    def bound(self, known_us: float, stay: Floats, guess: Floats) -> tuple[float, Floats]:
        """(the bound, (M,) by how much it is more with a choice); `known_us` is above it.

        (3, R) loads: `stay` is there anyway, and prices begin as they were if `guess` were right.
        """
        prices = best_prices = self._first(guess[:, : self._places])
        cheapest, everywhere = self._cheapest(self._own), np.arange(self._places)
        cost, counts = self._ways(stay, known_us - float(self._own[cheapest].sum()))
        best, step, ways = -np.inf, 1.0, np.ascontiguousarray(counts.T)
        for _ in range(ROUNDS):
            value = self._value(prices)
            chosen = self._cheapest(value)
            worth = cost - prices.reshape(-1, TYPES) @ ways  # (R, C)
            taken = worth.argmin(axis=1)
            bound = float(np.add.reduce(value[chosen]) + np.add.reduce(worth[everywhere, taken]))
            if bound > best:
                best, best_prices = bound, prices
            else:
                step *= SHORTER
            slope = np.bincount(self._slot[:, chosen].ravel(), minlength=len(prices)) - counts[taken].ravel()
            slope[:TYPES] = 0.0
            size = float(slope @ slope)
            if size == 0.0 or bound >= known_us or step < SHORTEST:
                break
            prices = prices + step * (known_us - bound) / size * slope
        value = self._value(best_prices)
        return best, value - value[self._cheapest(value)][self._owner]

    def _value(self, prices: Floats) -> Floats:
        """(M,) what each choice costs, and pays."""
        return np.asarray(self._own + np.add.reduce(prices[self._slot]))

    def _cheapest(self, value: Floats) -> Indices:
        """(S,) the choice of each stream that costs least."""
        return np.asarray(np.append(value, np.inf)[self._mine].argmin(axis=1) + self._mine[:, 0])


@lru_cache(32)
def _counts(streams: int) -> Floats:
    """(C, TYPES) how many of each kind: at most one of a stream."""
    return np.array([c for c in product(range(streams + 1), repeat=TYPES) if sum(c) <= streams], dtype=float)


@lru_cache(32)
def _beyond(streams: int) -> Bools:
    """(TYPES + 1, S + 1, C) whether a count has more than so many of a kind, the last: of all kinds."""
    counts = _counts(streams)
    each = np.vstack((counts.T, counts.sum(axis=1)))
    return np.asarray(each[:, None] > np.arange(streams + 1)[:, None], dtype=np.bool_)


def _kinds(at: Indices, adds: Floats, places: int, owner: Indices) -> tuple[Indices, Floats]:
    """(M, U) the kind of each use, and (3, R, TYPES) the least that uses of the kind bring."""
    most, (_, square, weight) = np.zeros(places), adds
    np.maximum.at(most, at, square)
    share = np.sqrt(square / np.where(most > 0, most, 1.0)[at])
    kind = (share[:, :, None] >= _edges(at, share, places, owner)[at]).sum(axis=2)
    if (weight[at > 0] != weight.max()).any():  # what counts for more is apart from what counts for less
        kind = 2 * (weight > weight.max() / 2) + (kind > TYPES // 2 - 1)
    elif len(at) <= EXACT:
        rank, most_ranks = _ranks(at, square, places)
        kind = np.where(most_ranks[at] < TYPES, rank, kind)
    amounts = np.full((3, places * TYPES), np.inf)
    for amount, part in zip(amounts, adds, strict=True):
        np.minimum.at(amount, at * TYPES + kind, part)
    return kind, np.where(np.isfinite(amounts), amounts, 0.0).reshape(3, places, TYPES)


def _edges(at: Indices, share: Floats, places: int, owner: Indices) -> Floats:
    """(R, TYPES - 1) where kinds begin: as `EDGES` where the greatest uses of several streams are alike."""
    top = np.zeros((places, int(owner[-1]) + 1))
    np.maximum.at(top, (at, owner[:, None]), share)
    top.sort(axis=1)
    users = (top > 0).sum(axis=1)[:, None]
    first = np.minimum(top.shape[1] - users + (np.array(UNLIKE) * users).astype(np.intp), top.shape[1] - 1)
    edges = np.take_along_axis(top, first, axis=1) * (1 - ROUNDING)
    return np.asarray(np.where(top[:, -2:-1] >= EDGES[-1], EDGES, edges))


def _ranks(at: Indices, values: Floats, places: int) -> tuple[Indices, Indices]:
    """(M, U) the how manieth value of its place each is, from 0; (R,) that of the greatest."""
    order = np.lexsort((values.ravel(), at.ravel()))
    place, value = at.ravel()[order], values.ravel()[order]
    number = np.cumsum(np.append(False, (np.diff(place) != 0) | (np.diff(value) != 0)))
    number -= number[np.searchsorted(place, place)]
    ranks, most = np.empty_like(order), np.zeros(places, dtype=np.intp)
    ranks[order] = number
    np.maximum.at(most, place, number)
    return ranks.reshape(at.shape), most
