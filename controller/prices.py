"""A lower bound for choices that make each other wait: streams pay prices for places, and places pay back. Pure.

Lagrange: with a price for each use of a place, every stream takes what is cheapest for it alone, and every place as
many uses as are worth their waits. Whatever the prices are, both together are never more than the cheapest set of
choices costs. Where all uses of a place are alike the best prices leave no gap, for waits grow ever faster with each
use more. Uses are rounded down to a few kinds, so that a place only counts them. Prices are sought by subgradients.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np

from controller.chain import Indices
from controller.table import Floats

TYPES = 4
ROUNDS, SHORTER, SHORTEST = 16, 0.8, 0.3  # at most; steps that do not help get shorter, to the shortest
EDGES = (0.7, 0.9, 0.999)  # kinds, of the greatest use of a place; of few choices they are told apart as they are
EXACT = 64
Waiting = Callable[[Floats, Indices], Floats]  # of (3, ..., R) loads at places


class Prices:
    """Of M choices of S streams, with U uses each at R places; place 0 is free. `mine`: (S, most), padded with M."""

    def __init__(self, own: Floats, mine: Indices, at: Indices, adds: Floats, waiting: Waiting) -> None:
        self._own, self._mine, self._waiting = own, mine, waiting
        self._counts = _counts(len(mine))  # (C, TYPES)
        self._places = int(at.max(initial=0)) + 1
        kind, self._amounts = _kinds(at, adds, self._places)
        self._slot = at * TYPES + kind  # (M, U) of flat prices

    def _first(self, guess: Floats) -> Floats:
        """(R * TYPES,) what one use more of each kind makes all wait: the mean of one more and one less."""
        there, every = guess[:, :, None], np.repeat(np.arange(self._places)[:, None], TYPES, axis=1)
        more = self._waiting(there + self._amounts, every) - self._waiting(
            np.maximum(there - self._amounts, 0.0), every
        )
        more[0] = 0.0
        return np.asarray(more.ravel() / 2)

    def bound(self, known_us: float, stay: Floats, guess: Floats) -> tuple[float, Floats]:
        """(the bound, (M,) by how much it is more with a choice); `known_us` is above it.

        (3, R) loads: `stay` is there anyway, and prices begin as they were if `guess` were right.
        """
        every = np.arange(self._places)[:, None]
        stay, prices = stay[:, : self._places, None], self._first(guess[:, : self._places])
        loads = stay + self._amounts @ self._counts.T  # (3, R, C)
        cost = self._waiting(loads, every) - self._waiting(stay, every)  # (R, C)
        best, found, step = -np.inf, np.zeros(len(self._own)), 1.0
        every_value, ways = np.full(len(self._own) + 1, np.inf), np.ascontiguousarray(self._counts.T)
        for _ in range(ROUNDS):
            value = self._own + prices[self._slot].sum(axis=1)
            every_value[:-1] = value
            chosen = every_value[self._mine].argmin(axis=1) + self._mine[:, 0]
            worth = cost - prices.reshape(-1, TYPES) @ ways  # (R, C)
            taken = worth.argmin(axis=1)
            bound = float(value[chosen].sum() + worth[every[:, 0], taken].sum())
            if bound > best:
                best, found = bound, value - np.repeat(value[chosen], (self._mine < len(value)).sum(axis=1))
            else:
                step *= SHORTER
            slope = np.bincount(self._slot[chosen].ravel(), minlength=len(prices)) - self._counts[taken].ravel()
            slope[:TYPES] = 0.0
            size = float(slope @ slope)
            if size == 0.0 or bound >= known_us or step < SHORTEST:
                break
            prices += step * (known_us - bound) / size * slope
        return best, found


@lru_cache(32)
def _counts(streams: int) -> Floats:
    """(C, TYPES) how many of each kind: at most one of a stream."""
    return np.array([c for c in product(range(streams + 1), repeat=TYPES) if sum(c) <= streams], dtype=float)


def _kinds(at: Indices, adds: Floats, places: int) -> tuple[Indices, Floats]:
    """(M, U) the kind of each use, and (3, R, TYPES) the least that uses of the kind bring."""
    most = np.zeros(places)
    np.maximum.at(most, at, adds[1])
    kind = np.searchsorted(EDGES, np.sqrt(adds[1] / np.where(most > 0, most, 1.0)[at]), side="right")
    if len(at) <= EXACT:
        rank, most_ranks = _ranks(at, adds[1], places)
        kind = np.where(most_ranks[at] < TYPES, rank, kind)
    amounts = np.full((3, places * TYPES), np.inf)
    for amount, part in zip(amounts, adds, strict=True):
        np.minimum.at(amount, at * TYPES + kind, part)
    return kind, np.where(np.isfinite(amounts), amounts, 0.0).reshape(3, places, TYPES)


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
