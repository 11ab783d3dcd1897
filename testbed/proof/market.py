"""The places that streams pay for, and the bound that prices give. Pure.

Lagrange, as in `controller.prices`, but of all runs of all rows: with a price for each kind of use of each place, each
stream takes the row that is cheapest for it alone, and each place the company that pays most beyond what it waits.
Together they are never more than the cheapest set of rows costs, whatever the prices are. How much more one row or one
company costs than the cheapest is how much dearer at least any set with it is.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controller.chain import Costs, Indices
from controller.cost import NOBODY
from controller.table import Floats, Row
from testbed.proof.chains import Chains, Groups, Uses
from testbed.proof.companies import below, cheapest
from testbed.proof.places import Limit, Place, TooMany

ROUNDING = 1e-9
LISTED = 100_000  # companies of a place that has them listed again


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """What prices lead to."""

    prices: Floats  # (G + 1,)
    bound_us: float
    rows: tuple[Row, ...]  # of each stream the cheapest, () where all others together are cheaper
    streams_us: Floats  # (S,) what that costs
    places_us: Floats  # (R,) of each place, what the company that pays most costs less what it pays
    companies: tuple[Floats, ...]  # which it is: its uses of each kind

    def slack_us(self, below_us: float) -> float:
        """How much dearer than the cheapest a row or a company may be in a set that costs less."""
        return max(below_us - self.bound_us, 0.0) + ROUNDING * below_us


@dataclass(frozen=True, slots=True, eq=False)
class Bill:
    """What a row costs without its prices, and where they stand; where it meets others, which use it is there."""

    stream: int
    fixed_us: float
    prices: Indices
    at: tuple[tuple[int, int], ...]  # (place, use) where it pays
    free: tuple[int, ...]  # places where it does not


@dataclass(frozen=True, slots=True)
class Case:
    """At a place, `most` uses that are `use` or more (a kind begins with it); or more than that."""

    place: int
    use: int
    most: int


class Market:
    """S streams of several groups, each of which counts once; R places, first the nodes.

    `patient`: where a place has too many companies to be listed, they are searched for, which takes long. Else
    TooMany is raised when places are gathered, and kinds are not told apart that would make them so many.
    """

    def __init__(self, chains: Sequence[Chains], backlog_us: Floats, patient: bool = False) -> None:
        self.groups, self._backlog_us, self._patient = Groups(chains), backlog_us, patient
        self._number: dict[int, int] = {}  # a place's, by a * N + b; this and the next are those of all parts
        self._registered: list[tuple[int, Floats]] = []  # (3, U) of each place: its uses
        self.places: list[Place] = []
        self._most_uses = 0
        hosts = len(backlog_us)
        self._register(sorted({int(n) * (hosts + 1) for chain in chains for n in np.unique(chain.group.nodes)}))
        self._take_up()

    def _register(self, ids: Sequence[int]) -> None:
        """From now on uses of these places pay."""
        spots, found = list[tuple[Uses, Indices]](), list[Floats]()
        for uses in self.groups.uses:
            can = np.isfinite(uses.us)
            shared = np.logical_or.reduce(can, axis=0)[None] if len(uses.rho) < len(can) else can
            spot = np.flatnonzero(np.isin(uses.place, ids) & shared)
            spots.append((uses, spot))
            found.append(np.stack([part.ravel()[spot] for part in (uses.place, uses.rho, uses.square)]))
        every, which = np.unique(np.concatenate(found, axis=1), axis=1, return_inverse=True)
        done, before = 0, sum(uses.shape[1] for _, uses in self._registered)
        for uses, spot in spots:
            uses.use.ravel()[spot] = before + which.ravel()[done : done + len(spot)]
            done += len(spot)
        for place in np.unique(every[0]).astype(int).tolist():
            self._number[place] = len(self._registered)
            self._registered.append((place, every[:, every[0] == place]))

    def _take_up(self) -> None:
        """All places that are registered, by now."""
        for place, (_, rho, square) in self._registered[len(self.places) :]:
            a, b = divmod(place, len(self._backlog_us))
            stay = self.groups.stay.get(place, NOBODY)
            self.places.append(Place(rho, square, stay, float(self._backlog_us[a]) if a == b else 0.0))
        self.refresh()

    @property
    def offsets(self) -> Indices:
        """(R + 1,) where the prices of each place begin."""
        return np.cumsum([0, *(len(place.first) for place in self.places)])

    def refresh(self) -> None:
        """After places were registered or split, or another market was used: where everybody's prices stand now."""
        self._begins = [0, *np.cumsum([len(place.rho) for place in self.places]).tolist()]
        stand = np.concatenate([place.kind + at for place, at in zip(self.places, self.offsets, strict=False)])
        for uses in self.groups.uses:
            uses.reprice(stand)

    def alone(self) -> Floats:
        """(G + 1,) the prices that are what each use waits alone."""
        return np.concatenate([*(place.alone_us for place in self.places), [0.0]])

    def least_us(self, alone: Floats) -> float:
        """What no set of rows costs less than, by these prices: no company pays more then than it waits."""
        return float(self.groups.cheapest(self._priced(alone))[0].sum())

    def _priced(self, prices: Floats) -> Iterator[Costs]:
        return (chain.priced(prices) for chain in self.groups.chains)

    def gather(self, below_us: float) -> None:
        """Lists the companies that may be in a set of rows which costs less."""
        alone = self.alone()
        slack = below_us * (1 + ROUNDING) - self.least_us(alone)
        self._most_uses = self._most(alone, slack)
        for place in self.places:
            self._gather(place, slack)

    def _gather(self, place: Place, limit_us: float) -> None:
        try:
            place.gather(limit_us, self._most_uses)
        except TooMany:
            if not self._patient:
                raise
            place.listed = False

    def _most(self, prices: Floats, slack_us: float) -> int:
        """The uses of one place, at most, when all rows together cost so much more than the cheapest at these prices.

        One of each stream, and more of few: to be once more at a place takes a row two runs more.
        """
        dearer = np.zeros(1)  # how much dearer all rows are at least with so many more uses
        for by_runs in (one for chain in self.groups.chains for one in chain.by_runs(prices).T):
            least, without = np.minimum.accumulate(by_runs[::-1])[::-1][::2], dearer
            dearer = np.full(len(without) + len(least) - 1, np.inf)
            for more, cost in enumerate(least - least[0]):
                part = dearer[more : more + len(without)]
                np.minimum(part, without + cost, out=part)
        return len(self.groups.others_us) + int(np.flatnonzero(dearer <= slack_us)[-1])

    def offer(self, prices: Floats) -> Offer:
        every, rows = self.groups.cheapest(self._priced(prices))
        least, companies = np.empty(len(self.places)), list[Floats]()
        for r, (place, at) in enumerate(zip(self.places, self.offsets.tolist(), strict=False)):
            least[r], company = _cheapest(place, prices[at : at + len(place.first)])
            companies.append(company)
        return Offer(prices, float(every.sum() + least.sum()), tuple(rows), every, least, tuple(companies))

    def bill(self, stream: int, row: Row) -> Bill:
        chain, b = self.groups.of(stream)
        parts = chain.parts(b, row)
        paid = tuple(
            (self._number[place], use - self._begins[self._number[place]]) for _, p, place, use in parts if p >= 0
        )
        prices = np.array([price for _, price, _, _ in parts if price >= 0], dtype=np.intp)
        free = tuple(place for _, price, place, _ in parts if price < 0 <= place)
        return Bill(stream, sum(fixed for fixed, *_ in parts), prices, paid, free)

    def drop(self, offer: Offer, below_us: float) -> None:
        """Forgets companies that are in no set of rows which costs less."""
        slack = offer.slack_us(below_us)
        most = self._most(offer.prices, slack)
        for r, (place, at) in enumerate(zip(self.places, self.offsets.tolist(), strict=False)):
            mine = offer.prices[at : at + len(place.first)]
            place.most_uses = min(place.most_uses, most)
            if not place.listed and not _list(place, mine, offer.places_us[r] + slack):
                continue
            left = place.left_us(mine)
            near = left - offer.places_us[r] <= slack
            place.keep((near & (place.companies.sum(axis=1) <= most)) | (left == left.min()))

    def parted(self, case: "Case") -> list["Market"]:
        """Two of it: with so many uses there at most, and with more; together they have all companies."""
        found = list[Market]()
        for few in (True, False):
            part = copy(self)
            part.places = [copy(place) for place in self.places]
            place = part.places[case.place]
            place.keep((place.above(case.use, place.companies) <= case.most) == few)
            limit = Limit(case.use, 0, case.most) if few else Limit(case.use, case.most + 1, place.most_uses)
            place.limits = (*place.limits, limit)
            if not place.listed and not len(place.companies):
                place.know(np.atleast_2d(cheapest(place, place.alone_us, np.inf)[1]))
            if len(place.companies):
                found.append(part)
        return found

    def split(self, prices: Floats, bills: Iterable[Bill], alike: float, beside: Offer | None = None) -> Floats:
        """Tells uses apart that these rows have; the same prices as before, more of them if anything was split.

        `beside`: only those of which it matters to what that offer has there.
        """
        wanted, parts = dict[int, set[int]](), [prices[a:b] for a, b in pairwise(self.offsets)]
        for bill in bills:
            for r, use in bill.at:
                if beside is None or self.places[r].matters(use, beside.companies[r]):
                    wanted.setdefault(r, set()).add(use)
        for r, uses in wanted.items():
            begins = self.places[r].coarse(sorted(uses), alike)
            try:
                was = self.places[r].split_some(begins, sorted(uses))
            except TooMany:
                if not self._patient:
                    continue
                self.places[r].unlist(parts[r])
                was = self.places[r].split(begins)
            parts[r] = parts[r][was]
        self.refresh()
        return np.concatenate([*parts, [0.0]])

    def crossed(self, bills: Sequence[Bill]) -> list[int]:
        """Where several streams may meet, or one twice, or one who stays, and do not pay yet."""
        crossed = Counter(place for _, place in {(bill.stream, place) for bill in bills for place in bill.free})
        again = {place for bill in bills for place, count in Counter(bill.free).items() if count > 1}
        return sorted(again.union(place for place, count in crossed.items() if count > 1 or place in self.groups.stay))

    def open(self, prices: Floats, ids: Sequence[int], below_us: float) -> Floats:
        """Lets uses of more places pay, and of those that were opened in other parts; the prices with theirs."""
        if ids:
            self._register(ids)
        first = len(self.places)
        self._take_up()
        opened = self.places[first:]
        slack = below_us * (1 + ROUNDING) - self.least_us(self.alone()) if opened else 0.0
        for place in opened:
            self._gather(place, slack)
        return np.concatenate((prices[:-1], *(place.alone_us for place in opened), [0.0]))

    def below(self, offer: Offer, below_us: float, most: int) -> list[list[Row]]:
        """Of each stream, the rows that may be in a set which costs less; raises TooMany."""
        return self.groups.below(self._priced(offer.prices), offer.streams_us + offer.slack_us(below_us), most)


def _cheapest(place: Place, prices: Floats) -> tuple[float, Floats]:
    """What no company costs less than, less what it pays; and the cheapest that is known."""
    left = place.left_us(prices)
    best = int(left.argmin())
    if place.listed:
        return float(left[best]), place.companies[best]
    least, found = cheapest(place, prices, float(left[best]))
    if found.size and place.cost_of(found) - found @ prices < left[best]:
        place.add(found)
        return least, found
    return least, place.companies[best]


def _list(place: Place, prices: Floats, limit_us: float) -> bool:
    """Lists all that cost less than that, beyond what they pay, where there are not too many by now."""
    everything = np.zeros(len(prices)), np.full(len(prices), np.inf)
    try:
        found = below(place, prices, limit_us, everything, LISTED)
    except TooMany:
        return False
    if len(found):
        place.listed = True
        place.know(found)
    return place.listed
