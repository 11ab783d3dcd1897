"""Nodes and paths where streams meet, and what companies of uses wait there. Pure.

A *use* is one visit of a node, or one crossing of a path. All that can be are known and rounded down to a few *kinds*,
which are split where it matters. A *company* is how many uses of each kind are there together; it waits as
`controller.cost` says, beside the streams that stay. Waits only grow with each use, so what is dearer than a limit can
be left out with all that has more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from controller.chain import Indices
from controller.cost import FULL, HORIZON_US, wait_us
from controller.table import Bools, Floats

SHARES = (0.0, 0.3, 0.6, 0.8, 0.95)  # of the greatest use of a place: where kinds begin at first
MOST, KEPT = 200_000, 500  # companies of a place that are listed; those known of one that has more
FEW, ROUNDING = 3, 1e-9
GROWTH = HORIZON_US / 2  # of waits with utilisation, above FULL
ALIKE = 1e-3  # uses that are so near are one kind, as long as that is fine enough


def room(high_us: Floats, rho: Floats | float, square: Floats | float) -> Floats:
    """What all may bring, as square + 2 high rho, beside what stays (`rho`, `square`), if nobody waits longer.

    Where waits grow faster, above FULL, a line that is above what still fits.
    """
    beyond = np.maximum(2 * high_us / GROWTH * (high_us - (1 - FULL) * GROWTH), 0.0)
    return np.asarray(2 * high_us * (1 - rho) + beyond - square)


class TooMany(Exception):
    """More companies than can be looked at."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many uses that are `use` or more (a kind begins with it) companies have."""

    use: int
    least: int
    most: int


@dataclass(slots=True, eq=False)
class Place:
    """U uses in G kinds, C companies: all that may matter where they are `listed`, else a few that were found."""

    rho: Floats  # (U,) utilisation, ascending
    square: Floats  # (U,) rate * time^2
    stay: tuple[float, float, float]  # the same two of the streams that stay, and how many uses they have
    least_us: float  # every use waits at least this
    first: Indices = field(init=False)  # (G,) the least use of each kind; where one begins, one always will
    kind: Indices = field(init=False)  # (U,)
    amounts: Floats = field(init=False)  # (2, G) what uses of a kind bring at least
    companies: Floats = field(init=False)  # (C, G)
    calm_us: float = field(init=False)  # what those that stay wait when nobody else is there
    cost_us: Floats = field(init=False)  # (C,) what all of a company wait, and those that stay because of them
    listed: bool = field(init=False, default=True)
    most_uses: int = field(init=False, default=0)  # of all kinds together
    limits: tuple[Limit, ...] = field(init=False, default=())  # that listed companies keep already

    def __post_init__(self) -> None:
        self.calm_us = float(self.wait_us(np.zeros(1), np.zeros(1))[0])
        self._take(np.unique(np.searchsorted(self.rho, np.array(SHARES) * self.rho[-1])))

    def _take(self, first: Indices) -> None:
        self.first = first
        self.kind = np.searchsorted(first, np.arange(len(self.rho)), side="right") - 1
        self.amounts = np.stack([np.minimum.reduceat(part, first) for part in (self.rho, self.square)])

    def wait_us(self, rho: Floats, square: Floats) -> Floats:
        """What each use waits beside those that stay, when uses bring so much together; any shape."""
        return np.asarray(np.maximum(self.least_us, wait_us(self.stay[0] + rho, self.stay[1] + square)))

    @property
    def alone_us(self) -> Floats:
        """(G,) what a use of each kind waits when no other is there."""
        return self.wait_us(*self.amounts)

    def waits_us(self, companies: Floats) -> Floats:
        """(C,) what all of each wait, and those that stay because of them."""
        return self.all_us(companies.sum(axis=1), self.wait_us(*(self.amounts @ companies.T)))

    def all_us(self, uses: Floats, each_us: Floats) -> Floats:
        """What so many uses wait, and those that stay because of them, when each waits so long."""
        staying = self.stay[2]
        return np.asarray((uses + staying) * each_us - staying * self.calm_us)

    def cost_of(self, company: Floats) -> float:
        return float(self.waits_us(company[None])[0])

    def matters(self, use: int, company: Floats) -> bool:
        """Whether a company, or a few of that use, wait longer with the use than with it rounded down."""
        one = np.array([self.rho[use], self.square[use]])
        beside = np.stack((self.amounts @ company, FEW * one), axis=1)
        exact, rounded = (
            self.wait_us(*(beside + one[:, None])),
            self.wait_us(*(beside + self.amounts[:, self.kind[use], None])),
        )
        return bool((exact > rounded * (1 + ROUNDING)).any())

    def gather(self, limit_us: float, most_uses: int) -> None:
        """Lists the companies of so many uses at most which wait less than `limit_us` longer than each use alone.

        Raises TooMany, and then has none but the one of no use.
        """
        self.most_uses = most_uses
        self.know(np.zeros((1, len(self.first))))
        found = self.companies
        for kind in reversed(range(len(self.first))):
            more, parts = found, [found]
            for _ in range(most_uses):
                more = more.copy()
                more[:, kind] += 1
                longer = self.waits_us(more) - more @ self.alone_us
                more = more[(longer < limit_us) & (more.sum(axis=1) <= most_uses)]
                if not len(more):
                    break
                parts.append(more)
            found = np.concatenate(parts)
            if len(found) > MOST:
                raise TooMany
        self.know(found)

    def above(self, use: int, companies: Floats) -> Floats:
        """(C,) how many uses of companies (C, G) are that one or more; a kind begins with it."""
        return np.asarray(companies[:, self.first >= use].sum(axis=1))

    def left_us(self, prices: Floats) -> Floats:
        """(C,) what each company costs, less what its uses pay at prices (G,)."""
        return np.asarray(self.cost_us - self.companies @ prices)

    def within(self, companies: Floats) -> Bools:
        """(C,) whether they have no more uses than they may."""
        fine = np.ones(len(companies), dtype=bool)
        for limit in self.limits:
            fine &= self.above(limit.use, companies) <= limit.most
        return fine

    def know(self, companies: Floats) -> None:
        self.companies, self.cost_us = companies, self.waits_us(companies)

    def keep(self, which: Bools | Indices) -> None:
        self.companies, self.cost_us = self.companies[which], self.cost_us[which]

    def unlist(self, prices: Floats) -> None:
        """Keeps only the cheapest at those prices."""
        self.keep(np.argsort(self.left_us(prices))[:KEPT])
        self.listed = False

    def add(self, company: Floats) -> None:
        """One more, where they are not listed; the oldest ones go."""
        self.know(np.vstack((self.companies[-KEPT:], company)))

    def coarse(self, uses: Sequence[int], alike: float) -> set[int]:
        """Where more kinds would have to begin for these uses to be rounded down by that share at most."""
        found = set[int]()
        for use in uses:
            rho, square = self.amounts[:, self.kind[use]]
            if self.rho[use] > rho * (1 + alike):
                found.add(int(np.searchsorted(self.rho, self.rho[use] * (1 - alike / 3))))
            elif self.square[use] > square * (1 + 2 * alike):  # what comes behind it brings less
                found |= {use, min(use + 1, len(self.rho) - 1)}
        return found - set(self.first.tolist())

    def ordered(self, begins: set[int], uses: Sequence[int]) -> list[int]:
        """Those first where kinds have to begin for these uses to be rounded down least."""
        left, of, found = sorted(begins), np.array(uses, dtype=np.intp), list[int]()
        rounded = self.rho[self.first[self.kind[of]]]
        while left:
            may = np.array(left)[:, None]
            to = np.maximum(np.where(may <= of, self.rho[may], 0.0), rounded)
            best = int(to.sum(axis=1).argmax())
            found.append(left.pop(best))
            rounded = to[best]
        return found

    def split(self, begins: set[int]) -> Indices:
        """More kinds begin there; (G',) which kind each of the new ones was. Raises TooMany, changing nothing.

        Where companies are not listed, their uses are taken for those that bring least.
        """
        first = np.array(sorted({*self.first.tolist(), *begins}))
        was = np.searchsorted(self.first, first, side="right") - 1
        companies = self._parted(was) if self.listed else self._lowest(was)
        self._take(first)
        self.know(companies)
        return was

    def split_some(self, begins: set[int], uses: Sequence[int]) -> Indices:
        """As `split`, and where all are too many, as many as can be told apart of these uses. TooMany: not one."""
        some = begins
        while True:
            try:
                return self.split(some)
            except TooMany:
                if len(some) < 2:
                    raise
                some = set(self.ordered(begins, uses)[: len(some) // 2])

    def _lowest(self, was: Indices) -> Floats:
        companies = np.zeros((len(self.companies), len(was)))
        companies[:, np.searchsorted(was, np.arange(len(self.first)))] = self.companies
        return companies

    def _parted(self, was: Indices) -> Floats:
        companies = self.companies[:, :0]
        of, left = np.arange(len(self.companies)), self.companies[:, :0]
        for kind, parts in enumerate(np.bincount(was, minlength=len(self.first)).tolist()):
            left = self.companies[of, kind]
            for _ in range(parts - 1):
                ways = left.astype(np.intp) + 1
                again = np.repeat(np.arange(len(of)), ways)
                if len(again) > MOST:
                    raise TooMany
                taken = np.arange(len(again)) - np.repeat(np.cumsum(ways) - ways, ways)
                companies, of, left = np.column_stack((companies[again], taken)), of[again], left[again] - taken
            companies = np.column_stack((companies, left))
        return companies
