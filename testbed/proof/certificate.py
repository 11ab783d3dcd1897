"""The optimum of a decision, and that it is one: attempts of two ways, until bound and placement meet. Pure.

By boxes (`boxes`): cases of how long uses of crowded places wait. Streams may be as unlike as they want.

By companies (`market`), where streams are alike. A round: the best prices (`climb`); companies that are in no cheaper
set of rows than the best known are forgotten; kinds are split where rows that the prices lead to are told apart too
little, and for the best set of the rows seen, until nothing of it is rounded; paths on which it meets become places
too. When that changes nothing, all rows that may still be in a cheaper set are listed, and the best set of them is
found in the same way (`search`). A patient attempt does not list the companies of each place, but searches for them.

All work is bounded by counts, never by time. A proof is about the weighted sum of predicted latencies of the streams
that were looked at, and of how much longer the others, which stay where they are, wait because of them. Memory is no
matter: where it is short the bound holds, but is perhaps not met.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

import numpy as np

from controller.cost import UNREACHABLE_US, Forecast, Load, backlog_us
from controller.model import Problem, Snapshot
from controller.table import Floats, Row, Rows, Table, tabulate
from testbed.proof.boxes import Boxes
from testbed.proof.chains import Chains, chains_of
from testbed.proof.climb import Known, climbed, known_of, undecided
from testbed.proof.levels import Levels
from testbed.proof.market import Market, Offer
from testbed.proof.places import ALIKE, TooMany
from testbed.proof.search import Aim, Lists, cheapest_set
from testbed.proof.sought import PLAINLY, Sought

ROUNDS = 40
NEAR = 3e-6  # of the whole: rows so near the cheapest at some prices are told apart
FINE = 1e-9  # uses that are so near are one
CLOSE = 1e-6  # a gap that is rounding
RATES = 4  # of more different ones, as of streams that count more than others, companies are too many: only boxes
CROWDED, OTHERS = "too many uses of one place", "rows over other nodes may be better"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of what an integer programme is asked: companies for rows that were seen; rows that are left, and companies."""

    seen: int
    rows: int
    companies: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """At a proof, by companies. `patient`: places may have more of them than can be listed."""

    cases: int
    patient: bool


@dataclass(frozen=True, slots=True)
class Crowded:
    """An attempt by boxes of waits, so many at most."""

    boxes: int


Attempts = Sequence[Attempt | Crowded]
ATTEMPTS: Attempts = Crowded(100), Attempt(10, False), Crowded(4_000), Attempt(12, True)
QUICK: Attempts = Crowded(100), Attempt(4, False), Crowded(250)  # far less than a second; some, where streams crowd
HASTY, PATIENT = Limits(1_000, 1_000, 2_500), Limits(10_000, 2_000, 8_000)


@dataclass(frozen=True, slots=True)
class Certificate:
    """`open` says why bound and placement do not meet, and nothing when they do."""

    bound_us: float  # no placement of the streams looked at has a lower sum of what these need and others wait longer
    found_us: float  # that of the best placement known
    start_us: float  # that of the placement that was asked about
    rows: Rows  # the best, of the streams looked at
    open: str = ""


class NotPlaced(Exception):
    """A stream that was looked at is nowhere, or where it cannot be reached."""


def certify(
    problem: Problem,
    snapshot: Snapshot,
    looked: Sequence[str],
    rows: Rows,
    *,
    weights: Mapping[str, float] | None = None,
    sought: Sought = PLAINLY,
    known_us: float = 0.0,
    attempts: Attempts = ATTEMPTS,
    so_far: Callable[[float], None] | None = None,
) -> Certificate:
    """The best placement of the streams `looked`, all others of `rows` staying; begins with theirs in `rows`.

    `weights`: how often streams count that do not count once. `sought`: what counts beside latency; utilisation cannot.
    `known_us`: a bound that is known from elsewhere.
    `so_far` is told, in long proofs, by what share `rows` are above the optimum at most. Raises NotPlaced.
    """
    table = tabulate(problem)
    if missing := [s for s in looked if s not in rows or not table.permits(s, rows[s])]:
        raise NotPlaced(f"not placed, or where it may not be: {', '.join(missing)}")
    forecast, every = Forecast(table, snapshot), {s: (weights or {}).get(s, 1.0) for s in rows}
    if any(forecast.use(s, rows[s]).moving_us >= UNREACHABLE_US for s in looked):
        raise NotPlaced("a stream that was looked at is where it cannot be reached")
    if any(every[s] <= 0 for s in looked):
        raise NotPlaced("a stream that was looked at counts for nothing")
    scale = max(every[s] for s in looked)  # if they count the same they count once from here on
    every = {s: weight / scale for s, weight in every.items()}
    stay = forecast.load({s: row for s, row in rows.items() if s not in looked}, every)
    if sought.objective.utilisation_us:
        raise ValueError("what utilisation costs cannot be proven")
    proof = _Proof(table, snapshot, rows, stay, weights={s: every[s] for s in looked}, sought=sought.scaled(scale))
    if proof.found_us == float("inf"):
        raise NotPlaced("the streams that were looked at are over a limit")
    proof.sure_us, start_us = known_us / scale, proof.found_us
    for bound in proof.bounds_us(attempts):
        if so_far and 0 < bound < proof.found_us * (1 - CLOSE):
            so_far(start_us / bound - 1)
    bound = min(proof.sure_us, proof.found_us)
    why = "" if proof.found_us <= bound * (1 + CLOSE) else proof.why
    found = dict(zip(proof.streams, proof.rows, strict=True))
    return Certificate(scale * bound, scale * proof.found_us, scale * start_us, found, why)


class _Proof:
    """`rows` are the best known, in the order of `streams`; no placement costs less than `sure_us`.

    `weights` are of the streams looked at; `why`: what ended the search early.
    """

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        rows: Rows,
        stay: Load,
        *,
        weights: Mapping[str, float],
        sought: Sought,
    ) -> None:
        self._table, self._forecast, self._backlog = table, Forecast(table, snapshot), backlog_us(snapshot)
        self._stay, self._weights, self._sought = stay, weights, sought
        self._boxes: Boxes | None = None
        # anew for each market, which notes in them where its prices stand
        self._chains: Callable[[], list[Chains]] = lambda: chains_of(
            table, snapshot, rows, stay, weights=weights, sought=sought
        )
        self.streams = [s for members in table.by_model([*weights]) for s in members]
        self._alike = len(set(weights.values())) == 1 and len({table.streams[s].period_us for s in weights}) <= RATES
        self.rows, self.why = [rows[s] for s in self.streams], ""
        self.found_us, self.sure_us, self._least_us = self._total_us(self.rows), 0.0, 0.0

    def _total_us(self, rows: Sequence[Row]) -> float:
        """The weighted latencies, what those that stay wait longer, and what counts beside; not rounded."""
        placed = dict(zip(self.streams, rows, strict=True))
        return self._sought.total_us(self._table, self._forecast, placed, self._weights, self._stay)

    def bounds_us(self, attempts: Attempts) -> Iterator[float]:
        """What is sure by and by; takes up better rows where they are found."""
        for attempt in attempts:
            if self.sure_us >= self.found_us * (1 - CLOSE):
                break
            if isinstance(attempt, Attempt) and not self._alike:
                self.why = self.why or CROWDED
                continue
            self.why, self._least_us = "", 0.0
            tried = self._attempted(attempt) if isinstance(attempt, Attempt) else self._boxed(attempt)
            for bound in tried:
                self.sure_us = max(self.sure_us, bound)
                yield self.sure_us

    def _attempted(self, attempt: Attempt) -> Iterator[float]:
        """The bound, case by case: always the one with the lowest is next."""
        market = Market(self._chains(), self._backlog, attempt.patient)
        try:
            market.gather(self.found_us)
        except TooMany:
            self.why = CROWDED
            yield market.least_us(market.alone())
            return
        known, number = known_of(market, self.rows), count()
        open_cases = [(0.0, next(number), market, market.alone())]
        least = np.inf  # of cases in which nothing more is to be done
        for _ in range(attempt.cases):
            if not open_cases or open_cases[0][0] >= self.found_us * (1 - CLOSE):
                break
            self._least_us, _, market, prices = heappop(open_cases)
            try:
                offer = self._climbed(market, known, market.open(prices, (), self.found_us))
                case = None if self._closed else undecided(market, known, offer)
                more = None if self._closed or case else self._split(market, known, offer, PATIENT)
            except TooMany:  # of a path that was opened: all cases have it
                self.why, least = CROWDED, min(least, self._least_us)
                break
            if case:
                for part in market.parted(case):
                    heappush(open_cases, (self._least_us, next(number), part, offer.prices))
            elif more is not None:
                heappush(open_cases, (self._least_us, next(number), market, more))
            else:
                least = min(least, self._least_us)
            yield min([least, *(bound for bound, *_ in open_cases)])
        else:
            self.why = f"{len(open_cases)} cases are left after {attempt.cases}"
        yield min([least, *(bound for bound, *_ in open_cases)])

    def _boxed(self, attempt: Crowded) -> Iterator[float]:
        """The same, by boxes of waits at the nodes."""
        boxes = self._boxes = self._boxes or self._whole()
        boxes.see(self.rows)
        for bound in boxes.bounds_us(attempt.boxes):
            if boxes.found_us < self.found_us:
                self.rows, self.found_us = boxes.rows, boxes.found_us
            yield bound
        self.why = OTHERS if boxes.others else f"{boxes.left} boxes of waits are left after {attempt.boxes}"

    def _whole(self) -> Boxes:
        """Where all nodes that are considered may be crowded."""
        chains, hosts = self._chains(), len(self._backlog)
        nodes = sorted({int(node) for chain in chains for node in np.unique(chain.group.nodes)})
        return Boxes(Levels(chains, self._backlog, [node * (hosts + 1) for node in nodes]), self.rows, self._total_us)

    def _climbed(self, market: Market, known: Known, prices: Floats) -> Offer:
        """The best offer in one case; what it costs at least is noted."""
        for _ in range(ROUNDS):
            known.renew(market)
            offer = climbed(market, known, market.offer(prices), self.found_us)
            self._least_us = max(self._least_us, offer.bound_us)
            more = None if self._closed else self._split(market, known, offer, HASTY)
            if more is None:
                break
            prices = more
        return offer

    @property
    def _closed(self) -> bool:
        return self.found_us <= self._least_us * (1 + CLOSE)

    def _split(self, market: Market, known: Known, offer: Offer, limits: Limits) -> Floats | None:
        """More kinds of uses where that may help, and their prices; None where nothing is left to do.

        For rows that the prices lead to, and the best set of those seen; then for the best set of all that are left.
        """
        market.drop(offer, self.found_us)
        near = known.near(offer.prices, NEAR * self.found_us)
        rows = self._seen(market, offer, known.rows, limits)
        if not rows:
            self._seen(market, offer, near, limits)
        bills = [bill for of in near for bill in of.values()]
        prices = self._exact(market, market.split(offer.prices, bills, ALIKE, offer), rows)
        if len(prices) == len(offer.prices) and not self._closed:
            try:
                prices = self._exact(market, prices, self._left(market, known, offer, limits))
            except TooMany:
                self.why = "too many rows are left"
        return None if self._closed or len(prices) == len(offer.prices) else prices

    def _seen(self, market: Market, offer: Offer, lists: Lists, limits: Limits) -> Sequence[Row]:
        """The best set of some rows, () where there are too many companies of them."""
        try:
            none = np.zeros(len(lists), dtype=bool)
            rows = cheapest_set(market, Aim(offer, self.found_us), lists, none, limits.seen).rows
        except TooMany:
            return ()
        self._take(rows)
        market.drop(offer, self.found_us)
        return rows

    def _left(self, market: Market, known: Known, offer: Offer, limits: Limits) -> Sequence[Row]:
        """The best set of all rows that may still be in one better than those known; raises TooMany."""
        lists = market.below(offer, self.found_us, limits.rows)
        others = market.groups.others_us - offer.streams_us <= offer.slack_us(self.found_us)
        billed = [known.billed(market, s, rows) for s, rows in enumerate(lists)]
        best = cheapest_set(market, Aim(offer, self.found_us), billed, others, limits.companies)
        self._least_us = max(self._least_us, best.least_us)
        self._take(best.rows)
        self.why = OTHERS if others.any() else "too many kinds of uses are left"
        return best.rows

    def _exact(self, market: Market, prices: Floats, rows: Sequence[Row]) -> Floats:
        """The same prices, more of them if anything of these rows was rounded or they meet where nobody paid."""
        bills = [market.bill(stream, row) for stream, row in enumerate(rows) if row]
        return market.split(market.open(prices, market.crossed(bills), self.found_us), bills, FINE)

    def _take(self, rows: Sequence[Row]) -> None:
        """Takes up rows if they are better."""
        if rows and all(rows) and (total := self._total_us(rows)) < self.found_us:
            self.found_us, self.rows = total, list(rows)
