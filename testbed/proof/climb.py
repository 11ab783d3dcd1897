"""Prices that give the highest bound: a linear programme of what is known, in a box around the best prices so far.

Each row and each company that some prices led to bounds what other prices can give; the programme's answer is where to
look next. It may only look near the best prices, the nearer the more often it was disappointed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import coo_array

from controller.table import Floats, Row
from testbed.proof.market import Bill, Case, Market, Offer

LOOKS = 80  # at prices, before they are taken as the best
WIDTH, WIDER, NARROWER, NARROWEST, WIDEST = 0.3, 1.3, 0.6, 1e-4, 2.0  # of the box, as a share of a price
LEAST_US = 2_000.0  # a price below that may change as one of that does
CLOSE = 1e-7
LEAST_SHARE = 1e-9


@dataclass(slots=True, eq=False)
class Known:
    """Rows that prices led to, of each stream; kept when kinds are split, unlike companies."""

    rows: list[dict[Row, Bill]]
    companies: list[dict[tuple[float, ...], float]] = field(default_factory=list)  # of each place: their cost

    def see(self, market: Market, offer: Offer) -> None:
        for stream, row in enumerate(offer.rows):
            self.add(market, stream, row)
        for place, taken, known in zip(market.places, offer.companies, self.companies, strict=True):
            known[tuple(taken.tolist())] = place.cost_of(taken)

    def add(self, market: Market, stream: int, row: Row) -> None:
        if row and row not in self.rows[stream]:
            self.rows[stream][row] = market.bill(stream, row)

    def billed(self, market: Market, stream: int, rows: Sequence[Row]) -> dict[Row, Bill]:
        return {row: self.rows[stream].get(row) or market.bill(stream, row) for row in rows}

    def renew(self, market: Market) -> None:
        """Kinds have changed, or it is another market."""
        self.rows = [{row: market.bill(s, row) for row in found} for s, found in enumerate(self.rows)]
        self.companies = [{} for _ in market.places]

    def near(self, prices: Floats, slack_us: float) -> list[dict[Row, Bill]]:
        """Of each stream, the rows that are not dearer than the cheapest known by more than that."""
        found = list[dict[Row, Bill]]()
        for rows in self.rows:
            costs = np.array([bill.fixed_us + prices[bill.prices].sum() for bill in rows.values()])
            found.append(
                {row: rows[row] for row, one in zip(rows, costs <= costs.min() + slack_us, strict=True) if one}
            )
        return found


def climbed(market: Market, known: Known, start: Offer, below_us: float) -> Offer:
    """The best offer from there; what costs `below_us` or more is no matter."""
    best, width = start, WIDTH
    known.see(market, start)
    for _ in range(LOOKS):
        if best.bound_us >= below_us * (1 - CLOSE) or width < NARROWEST:
            break
        prices, hope_us = _next(market, known, best, width)
        if hope_us - best.bound_us < CLOSE * below_us:
            break
        offer = market.offer(prices)
        known.see(market, offer)
        if offer.bound_us > best.bound_us:
            best, width = offer, min(width * WIDER, WIDEST)
        else:
            width *= NARROWER
    return best


def _next(market: Market, known: Known, best: Offer, width: float) -> tuple[Floats, float]:
    """The prices near the best ones that promise most by what is known, and the bound that they promise."""
    found = _programme(market, known, best, width)
    if found.x is None:
        return best.prices, best.bound_us
    return np.append(found.x[: len(best.prices) - 1], 0.0), -float(found.fun)


def _programme(market: Market, known: Known, best: Offer, width: float) -> OptimizeResult:
    bills = [(s, bill) for s, rows in enumerate(known.rows) for bill in rows.values()]
    companies = [(r, company) for r, found in enumerate(known.companies) for company in found.items()]
    kinds, streams = len(best.prices) - 1, len(known.rows)
    count, offsets = kinds + streams + len(market.places), market.offsets
    entries = list[tuple[int, int, float]]()
    limits = [bill.fixed_us for _, bill in bills] + [cost for _, (_, cost) in companies]
    for n, (s, bill) in enumerate(bills):  # what a stream pays is no more than any of its rows costs
        entries.append((n, kinds + s, 1.0))
        entries += [(n, price, -1.0) for price in bill.prices.tolist()]
    for n, (r, (uses, _)) in enumerate(companies, start=len(bills)):  # and what a place costs no more than any company
        entries.append((n, kinds + streams + r, 1.0))
        entries += [(n, int(offsets[r]) + kind, uses_of) for kind, uses_of in enumerate(uses) if uses_of]
    row, column, value = np.array(entries).T
    matrix = coo_array((value, (row.astype(int), column.astype(int))), shape=(len(limits), count)).tocsr()
    now = best.prices[:-1]
    far = width * np.maximum(now, LEAST_US)
    others, ends = [(None, float(other)) for other in market.groups.others_us], [(None, None)] * len(market.places)
    bounds = [*zip(np.maximum(now - far, 0.0), now + far, strict=True), *others, *ends]
    aim = np.concatenate((np.zeros(kinds), np.full(count - kinds, -1.0)))
    return linprog(aim, A_ub=matrix, b_ub=limits, bounds=bounds, method="highs")


def undecided(market: Market, known: Known, best: Offer) -> Case | None:
    """Where the best prices leave it most open how many uses meet: they want several companies in part."""
    found = _programme(market, known, best, WIDEST)
    if found.x is None:
        return None
    shares = -found.ineqlin.marginals[sum(map(len, known.rows)) :]
    cases, done = list[tuple[float, Case]](), 0
    for r, (place, mine) in enumerate(zip(market.places, known.companies, strict=True)):
        part, done = shares[done : done + len(mine)], done + len(mine)
        companies = np.array(list(mine))[part > LEAST_SHARE]
        part = part[part > LEAST_SHARE] / part[part > LEAST_SHARE].sum()
        if len(part) < 2:
            continue
        apart_us = place.cost_of(part @ companies) - sum(
            share * place.cost_of(one) for share, one in zip(part, companies, strict=True)
        )
        for use in place.first.tolist():
            uses = place.above(use, companies)
            mean = float(part @ uses)
            if uses.max() > uses.min():
                far = float(part @ np.abs(uses - mean))
                cases.append((far * max(apart_us, 1.0), Case(r, use, min(int(mean), int(uses.max()) - 1))))
    return max(cases, key=lambda one: one[0])[1] if cases else None


def known_of(market: Market, rows: Sequence[Row]) -> Known:
    """Begins with one row of each stream."""
    known = Known([{} for _ in rows], [{} for _ in market.places])
    for stream, row in enumerate(rows):
        known.add(market, stream, row)
    return known
