"""Whether the prices of `together` leave so few rows that all sets of them can be looked at. Pure.

Prices bound what any set of rows costs, and say of each row by how much a set with it is dearer. So only sets of rows
that are not too dear may be cheaper than the set that is known. What such a set costs is reckoned as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.chain import Indices
from controller.choices import NOWHERE
from controller.cost import Use, wait_us
from controller.prices import Charges
from controller.short import Extra, Listed, Short, joined
from controller.table import Floats, Row

ROWS, WIDTH = 100, 250  # looked at; sets of them
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """Streams in the order of several groups; nobody else is there."""

    periods_us: Floats  # (S,)
    weights: Floats  # (S,)
    backlog_us: Floats  # (N,)

    def alone_us(self, owner: Indices, place: Indices, rho: Floats) -> Floats:
        """What one of them waits alone at a place, a path as a * N + b, by weight."""
        return np.asarray(self.weights[owner] * self.wait_us(place, rho, rho * rho * self.periods_us[owner]))

    def wait_us(self, place: Indices, rho: Floats, square: Floats) -> Floats:
        """What each use of a place waits under a load."""
        a, b = np.divmod(place, len(self.backlog_us))
        return np.maximum(np.where(a == b, self.backlog_us[a], 0.0), wait_us(rho, square))

    def priced_us(self, uses: Sequence[Use], charges: Charges) -> Floats:
        """(S,) what a row of each costs when its runs pay."""
        hosts = len(self.backlog_us)
        moving = self.weights * np.array([use.moving_us for use in uses])
        entries = [(s, n * hosts + n, rho) for s, use in enumerate(uses) for n, rho, _ in use.nodes]
        entries += [(s, a * hosts + b, rho) for s, use in enumerate(uses) for (a, b), rho, _ in use.paths]
        found = np.array(entries)
        owner, place, rho = found[:, 0].astype(np.intp), found[:, 1].astype(np.intp), found[:, 2]
        waits = np.maximum(self.alone_us(owner, place, rho), self.paid_us(owner, place, rho, charges))
        return np.asarray(moving + np.bincount(owner, waits, len(uses)))

    def paid_us(self, owner: Indices, place: Indices, rho: Floats, charges: Charges) -> Floats:
        return charges.of(place, np.stack((rho, rho * rho * self.periods_us[owner], self.weights[owner])))


def proven(
    shorts: Sequence[Short], streams: Streams, charges: Charges, known_us: float
) -> tuple[float, tuple[Row, ...]]:
    """What all sets of rows cost at least; the cheapest one, if it costs less than what is known."""
    sizes = [short.count for short in shorts]
    extras = [_extra(streams, charges, sum(sizes[:n])) for n in range(len(sizes))]
    values = [short.priced(extra) for short, extra in zip(shorts, extras, strict=True)]
    least_of = [np.minimum(one.min(axis=1), two.min(axis=(1, 2, 3), initial=np.inf)) for one, two in values]
    cheapest = np.concatenate(least_of)
    least = float(cheapest.sum()) - charges.repaid_us
    slack = known_us * (1 - ROUNDING) - least
    if not np.isfinite(least) or slack <= 0:
        return 0.0, ()
    limits = [np.nextafter(one + slack, np.inf) for one in least_of]
    count = sum(
        int((one < limit[:, None]).sum() + (two < limit[:, None, None, None]).sum())
        for (one, two), limit in zip(values, limits, strict=True)
    )
    if count > ROWS:
        return 0.0, ()
    others = [short.others_us(extra, limit) for short, extra, limit in zip(shorts, extras, limits, strict=True)]
    other = np.concatenate(others) - cheapest
    other_us = least + float(other[other < 0].sum() if (other < 0).any() else other.min())
    found = [short.listed(*value, limit) for short, value, limit in zip(shorts, values, limits, strict=True)]
    rows = joined([part for part, _ in found], sizes)
    more = np.concatenate([prices for _, prices in found]) - cheapest[rows.owner]
    cost_us, chosen, open_us = _searched(rows, streams, more, least, known_us)
    best = tuple(rows.row(int(m)) for m in chosen) if cost_us < known_us else ()
    return min(known_us, cost_us, other_us, open_us), best


def _extra(streams: Streams, charges: Charges, first: int) -> Extra:
    """What runs pay instead of what they wait alone, in a group of which the first stream is that."""

    def extra(b: Indices, nodes: Indices, rho: Floats) -> Floats:
        owner, place = first + b, nodes * (len(streams.backlog_us) + 1)
        return np.asarray(streams.paid_us(owner, place, rho, charges) - streams.alone_us(owner, place, rho))

    return extra


def _searched(
    rows: Listed, streams: Streams, more: Floats, least_us: float, known_us: float
) -> tuple[float, Indices, float]:
    """The cheapest set of rows, and what those cost at least that were not looked at.

    A set is `more` than the least by all its rows together. Of sets that bring the same everywhere only the cheapest
    one is looked at.
    """
    ids, at = np.unique(rows.place, return_inverse=True)
    at, there = at.reshape(rows.place.shape), rows.place != NOWHERE
    alone = np.where(there, streams.alone_us(rows.owner[:, None], rows.place, rows.rho), 0.0)
    own, square = rows.least_us - alone.sum(axis=1), rows.rho**2 * streams.periods_us[rows.owner][:, None]
    weight = np.broadcast_to(streams.weights[rows.owner][:, None], at.shape)
    load = np.zeros((3, len(own), len(ids)))
    for part, add in zip(load, (rows.rho, square, weight), strict=True):
        np.add.at(part, (np.arange(len(own))[:, None], at), np.where(there, add, 0.0))
    alike = _signs(load)
    starts = np.searchsorted(rows.owner, np.arange(len(streams.weights) + 1))
    made, spent, brings, open_us = np.empty((1, 0), dtype=np.intp), np.zeros(1), np.zeros(1, dtype=np.int64), np.inf
    order = np.argsort(np.diff(starts), kind="stable")
    for stream in order.tolist():
        mine = np.arange(starts[stream], starts[stream + 1])
        total = spent[:, None] + more[mine]
        one, row = np.nonzero(least_us + total < known_us * (1 - ROUNDING))
        spent, brings = total[one, row], brings[one] + alike[mine[row]]
        best = np.argsort(spent, kind="stable")
        best = best[np.sort(np.unique(brings[best], return_index=True)[1])]
        if len(best) > WIDTH:
            open_us = min(open_us, least_us + float(spent[best[WIDTH]]))
            best = best[:WIDTH]
        made, spent, brings = np.column_stack((made[one[best]], mine[row[best]])), spent[best], brings[best]
    if not len(made):
        return np.inf, order, open_us
    rho, squares, uses = load[:, made].sum(axis=2)
    costs = own[made].sum(axis=1) + (uses * streams.wait_us(ids, rho, squares)).sum(axis=1)
    chosen = np.empty_like(order)
    chosen[order] = made[costs.argmin()]
    return float(costs.min()), chosen, open_us


def _signs(load: Floats) -> Indices:
    """(M,) numbers of which sums are the same where those of loads (3, M, R) are: equal loads have equal numbers."""
    # numbers of 62 bits, the same in each run, so that other sums are not the same
    _, kind = np.unique(load.transpose(1, 0, 2).reshape(load.shape[1], -1), axis=0, return_inverse=True)
    return np.asarray(np.random.default_rng(1).integers(0, 2**62, (load.shape[1],))[kind.ravel()], dtype=np.intp)
