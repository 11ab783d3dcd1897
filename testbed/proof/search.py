"""The cheapest set of rows, one of each stream, out of some: a small integer programme for HiGHS."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from controller.table import Bools, Floats, Row
from testbed.proof.companies import below
from testbed.proof.market import Bill, Market, Offer
from testbed.proof.places import TooMany

BRANCHES = 20_000
LISTED = 20  # times as many companies may be begun as there may be
EXACT = 1e-8
INFEASIBLE = 2  # a status of HiGHS
Lists = Sequence[dict[Row, Bill]]  # of each stream


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """`least_us`: no set costs less. `rows`: the cheapest that was found; () of streams where others may be better."""

    least_us: float
    rows: tuple[Row, ...]


NONE = Best(np.inf, ())  # there is no set that is not dearer than what is known


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """A set of rows that costs less than that, where prices led to the offer."""

    offer: Offer
    below_us: float

    def companies_us(self, place: int) -> float:
        """What companies of it cost at most, less what they pay."""
        return float(self.offer.places_us[place]) + self.offer.slack_us(self.below_us)


def cheapest_set(market: Market, aim: Aim, lists: Lists, others: Bools, most: int) -> Best:
    """One row of each stream, and at each place the company that they make. Raises TooMany: more than `most` of these.

    `others` (S,): of which streams a row that is in no list counts too, for the least that it may cost.
    """
    which = [(s, row) for s, rows in enumerate(lists) for row in (*rows, *[()] * int(others[s]))]
    owner, starts = np.array([s for s, _ in which]), np.searchsorted([s for s, _ in which], np.arange(len(lists)))
    if len(np.unique(owner)) < len(lists):
        return NONE
    uses, costs = np.zeros((len(which), int(market.offsets[-1]))), market.groups.others_us[owner]
    for n, (stream, row) in enumerate(which):
        if row:
            costs[n] = lists[stream][row].fixed_us
            np.add.at(uses[n], lists[stream][row].prices, 1.0)
    fewest, highest = (pick.reduceat(uses, starts).sum(axis=0) for pick in (np.minimum, np.maximum))
    made, waits, at = _companies(market, aim, (fewest, highest), LISTED * most)
    if len(made) > most:
        raise TooMany
    if len(np.unique(at)) < len(market.places):
        return NONE
    chosen = np.concatenate((owner, len(lists) + at))
    one = csr_array((np.ones(len(chosen)), (chosen, np.arange(len(chosen)))))
    matrix = vstack([one, csr_array(np.concatenate((uses, -made)).T)])
    target = np.concatenate((np.ones(one.shape[0]), np.zeros(uses.shape[1])))
    found = milp(
        np.concatenate((costs, waits)),
        constraints=LinearConstraint(matrix, target, target),
        integrality=np.ones(len(chosen)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": EXACT, "node_limit": BRANCHES},
    )
    if found.status == INFEASIBLE:
        return NONE
    picked: list[Row] = [()] * len(lists)
    if found.x is not None:
        for (stream, row), on in zip(which, found.x[: len(which)] > 0.5, strict=True):
            picked[stream] = row if on else picked[stream]
    return Best(-np.inf if found.mip_dual_bound is None else float(found.mip_dual_bound), tuple(picked))


def _companies(market: Market, aim: Aim, counts: tuple[Floats, Floats], most: int) -> tuple[Floats, Floats, Floats]:
    """(C, G) those that have so many uses of each kind, (C,) what they wait, (C,) at which place they are."""
    made, waits, at = list[Floats](), list[Floats](), list[Floats]()
    for r, place in enumerate(market.places):
        mine = slice(int(market.offsets[r]), int(market.offsets[r + 1]))
        fewest, highest = counts[0][mine], counts[1][mine]
        if place.listed:
            may = ((place.companies >= fewest) & (place.companies <= highest)).all(axis=1)
            companies, cost_us = place.companies[may], place.cost_us[may]
        else:
            companies = below(place, aim.offer.prices[mine], aim.companies_us(r), (fewest, highest), most)
            cost_us = place.waits_us(companies)
        one = np.zeros((len(companies), len(counts[0])))
        one[:, mine] = companies
        made.append(one)
        waits.append(cost_us)
        at.append(np.full(len(one), r))
    return np.concatenate(made), np.concatenate(waits), np.concatenate(at)
