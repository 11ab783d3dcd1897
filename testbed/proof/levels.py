"""What a set of rows costs at least, if uses of each crowded place wait neither less nor more than so long. Pure.

Where every use of a place waits at least `low`, it costs that. Where none waits more than `high`, all uses together
bring no more than fits below it, which is linear in what each brings:

    square / (2 (1 - rho)) <= high   if and only if   square + 2 high rho <= 2 high

So in such a *box* of waits the streams meet in nothing but one linear limit a place, and no kinds of uses have to be
told apart, however unlike they are. A charge for what is brought (Lagrange) leaves a cheapest row to each stream. The
best charges are those of a linear programme over rows, which are added as charges lead to them; its answer mixes rows
in shares. Streams that stay wait there too, and longer by as much as the lowest wait of the box is above theirs.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp
from scipy.sparse import csr_array

from controller.chain import Costs, Indices
from controller.cost import NOBODY, wait_us
from controller.table import Floats, Row
from testbed.proof.chains import Chains, Groups, Uses
from testbed.proof.places import room
from testbed.proof.search import INFEASIBLE, NONE, Best

TURNS = 8  # of charges, each leading to rows that lead to the next
CLOSE, ROUNDING = 1e-7, 1e-9
PENALTY = 3.0  # of all that the best known set costs: for bringing twice what fits
TOO_MUCH = 1e6  # times what fits is as bad as more, and HiGHS takes no endless numbers
EXACT, BRANCHES = 1e-7, 200


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """Of R places, between which waits theirs is."""

    low_us: Floats
    high_us: Floats

    def parted(self, place: int, wait_us: float) -> tuple["Box", "Box"]:
        """That place's waits up to there, and from there."""
        high, low = self.high_us.copy(), self.low_us.copy()
        high[place] = low[place] = wait_us
        return replace(self, high_us=high), replace(self, low_us=low)

    def wider(self, whole: "Box") -> "Box":
        """With places that were not in it yet, and all their waits."""
        new = slice(len(self.low_us), None)
        return Box(np.append(self.low_us, whole.low_us[new]), np.append(self.high_us, whole.high_us[new]))


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """`bound_us`: no set of rows in the box costs less, by these charges. `shares` (C,) of the rows known then."""

    bound_us: float
    charges: Floats  # (R,) for each unit brought
    streams_us: Floats  # (S,) what the cheapest row of each costs with them
    shares: Floats


@dataclass(frozen=True, slots=True)
class _Column:
    """A row of a stream: what it costs without waits at the places, and what its uses of them bring."""

    stream: int
    row: Row
    weight: float  # of its waits
    fixed_us: float
    uses: tuple[tuple[int, float, float, float], ...]  # place, wait alone, rho, square


class Levels:
    """S streams of several groups, R crowded places (`ids`: a * N + b). More can be added."""

    def __init__(self, chains: Sequence[Chains], backlog_us: Floats, ids: Sequence[int]) -> None:
        self.groups, self._hosts, self._backlog_us = Groups(chains), len(backlog_us), backlog_us
        self.ids: list[int] = []
        self._columns: dict[tuple[int, Row], _Column] = {}
        self.widen(ids)

    def widen(self, ids: Sequence[int]) -> None:
        """These places are crowded too."""
        self.ids += ids
        lookup = np.full(self._hosts * self._hosts + 1, -1)
        lookup[self.ids] = np.arange(len(self.ids))
        self._at = [[lookup[uses.place] for uses in chain.uses] for chain in self.groups.chains]
        parts = np.array([self.groups.stay.get(place, NOBODY) for place in self.ids], dtype=float).reshape(-1, 3).T
        self._stay, self._staying = parts[:2], parts[2]  # (R,) uses of the streams that stay
        ends = [divmod(place, self._hosts) for place in self.ids]
        self._least_us = np.array([self._backlog_us[a] if a == b else 0.0 for a, b in ends])
        self._calm_us = self.waits_us(np.zeros((2, len(self.ids))))
        known, self._columns = list(self._columns), {}
        for stream, row in known:
            self.see(stream, row)

    def whole(self, below_us: float) -> Box:
        """All waits that places have in sets of rows which cost less."""
        low, alone = self._calm_us, np.zeros(len(self.ids))
        for at, uses in self._all_uses():
            can = np.broadcast_to((at >= 0) & np.isfinite(uses.us), uses.us.shape)
            of = np.broadcast_to(at, uses.us.shape)[can]
            np.maximum.at(alone, of, np.broadcast_to(uses.alone_us, uses.us.shape)[can])
        free = Box(low, low)
        slack = max(below_us - float(self._cheapest(free, np.zeros(len(low)))[0].sum()), 0.0)
        return Box(low, np.maximum(low, alone + slack / (self.groups.weights.min() + self._staying)) * (1 + ROUNDING))

    def _longer_us(self, box: Box) -> float:
        """How much longer the streams that stay wait in the box, at least."""
        return float(self._staying @ (box.low_us - self._calm_us))

    def waits_us(self, brought: Floats) -> Floats:
        """(R,) how long a use waits where all together bring (2, R): utilisation, rate * time^2."""
        return np.asarray(np.maximum(self._least_us, wait_us(*(self._stay + brought))))

    def crossed(self, rows: Sequence[Row]) -> list[int]:
        """Where these rows meet, or one meets who stays, and no place is known to be crowded."""
        met = Counter[int]()
        for stream, row in enumerate(rows):
            met.update(int(uses.place[uses.spot(at)]) for uses, at in (self._spots(stream, row) if row else ()))
        crowded = (at for at, uses in met.items() if uses > 1 or at in self.groups.stay)
        return sorted(at for at in crowded if at >= 0 and at not in self.ids)

    def see(self, stream: int, row: Row) -> bool:
        """Takes a row up; whether it was not known."""
        if (stream, row) in self._columns:
            return False
        fixed, paid = 0.0 if row else float(self.groups.others_us[stream]), list[tuple[int, float, float, float]]()
        weight = float(self.groups.weights[stream])
        for uses, at in self._spots(stream, row) if row else ():
            spot = uses.spot(at)
            fixed, alone = fixed + float(uses.us[at]), float(uses.alone_us[spot])
            if int(uses.place[spot]) in self.ids:
                place = self.ids.index(int(uses.place[spot]))
                paid.append((place, alone, float(uses.rho[spot]), float(uses.square[spot])))
            else:
                fixed += weight * alone
        self._columns[stream, row] = _Column(stream, row, weight, fixed, tuple(paid))
        return True

    def mixed(self, box: Box, shares: Floats) -> tuple[Floats, Floats, Floats]:
        """Of rows in these shares, (2, R) what they bring together; (R,) how many use what they use, by weight and with
        those that stay, and what these are said to wait in the box.
        """
        brought, (uses, paid) = np.zeros((2, len(self.ids))), np.zeros((2, len(self.ids)))
        for share, column in zip(shares.tolist(), self._columns.values(), strict=False):
            for place, alone, rho, square in column.uses if share else ():
                brought[:, place] += share * rho, share * square
                uses[place] += share * column.weight
                paid[place] += share * column.weight * max(float(box.low_us[place]), alone)
        beside = np.where(uses > 0, self._staying, 0.0)
        return brought, uses + beside, paid + beside * box.low_us

    def largest(self, shares: Floats) -> list[Row]:
        """The row of each stream that has the largest share."""
        rows: list[Row] = [()] * len(self.groups.others_us)
        best = np.full(len(self.groups.others_us), -1.0)
        for share, column in zip(shares.tolist(), self._columns.values(), strict=False):
            if share > best[column.stream]:
                best[column.stream], rows[column.stream] = share, column.row
        return rows

    def relaxed(self, box: Box, charges: Floats, below_us: float) -> Relaxed:
        """The highest bound in the box; what costs `below_us` or more is no matter."""
        best = Relaxed(-np.inf, charges, np.empty(0), np.empty(0))
        shares, hope_us, longer = np.empty(0), np.inf, self._longer_us(box)
        for turn in range(TURNS):
            streams, rows = self._cheapest(box, charges)
            bound = float(streams.sum() - charges @ self._room(box.high_us)) + longer
            if bound > best.bound_us:
                best = Relaxed(bound, charges, streams, shares)
            if best.bound_us >= below_us or hope_us - best.bound_us < CLOSE * below_us:
                break
            new = sum([self.see(stream, row) for stream, row in enumerate(rows)])
            if turn and not new:
                break
            found = self._programme(box, below_us)
            if found.x is None:  # HiGHS could not solve it: the bound holds as it is
                break
            charges = np.asarray(np.maximum(-found.ineqlin.marginals, 0.0) / self._room(box.high_us))
            shares, hope_us = found.x[: -len(self.ids)], float(found.fun) + longer
        return replace(best, shares=shares)

    def exact(self, box: Box, relaxed: Relaxed, below_us: float, not_these: Sequence[Sequence[Row]], most: int) -> Best:
        """The best set of rows in the box, waits counted as the lowest; raises TooMany: more than `most` rows are left.

        `not_these`: sets that were looked at already. No other set in the box costs less than `least_us`; `rows` are ()
        where none was found.
        """
        left = self._left(box, relaxed, max(below_us - relaxed.bound_us, 0.0) + ROUNDING * below_us, most)
        waited, brings = self._matrices(box, [self._columns[one] for one in left])
        again = np.array([[rows[stream] == row for stream, row in left] for rows in not_these], dtype=float)
        streams, longer = len(self.groups.others_us), self._longer_us(box)
        one = csr_array((np.ones(len(left)), ([stream for stream, _ in left], range(len(left)))), (streams, len(left)))
        limits = [
            LinearConstraint(one, 1.0, 1.0),
            LinearConstraint(brings, -np.inf, 1 + ROUNDING),
            LinearConstraint(waited[None], -np.inf, below_us - longer),  # what is not better is no matter
            *([LinearConstraint(again, -np.inf, streams - 1.0)] if len(again) else []),
        ]
        found = milp(
            waited,
            constraints=limits,
            integrality=np.ones(len(left)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": EXACT, "node_limit": BRANCHES},
        )
        if found.status == INFEASIBLE:
            return NONE
        picked: list[Row] = [()] * streams
        for (stream, row), on in zip(left, () if found.x is None else found.x > 1 / 2, strict=False):
            picked[stream] = row if on else picked[stream]
        least = relaxed.bound_us if found.mip_dual_bound is None else float(found.mip_dual_bound) + longer
        return Best(least, () if found.x is None else tuple(picked))

    def _left(self, box: Box, relaxed: Relaxed, slack_us: float, most: int) -> list[tuple[int, Row]]:
        """The rows that are not dearer than the cheapest of their stream by more than that, taken up."""
        limit_us = relaxed.streams_us + slack_us
        left: list[tuple[int, Row]] = [(s, ()) for s in np.flatnonzero(self.groups.others_us <= limit_us).tolist()]
        lists = self.groups.below(self._priced(box, relaxed.charges), limit_us, most)
        left += [(stream, row) for stream, rows in enumerate(lists) for row in rows]
        for stream, row in left:
            self.see(stream, row)
        return left

    def _programme(self, box: Box, below_us: float) -> OptimizeResult:
        """Shares of the rows known, and of what does not fit; its duals are the best charges, and promise its bound."""
        columns = list(self._columns.values())
        costs, brings = self._matrices(box, columns)
        streams, places = len(self.groups.others_us), len(self.ids)
        owner = [column.stream for column in columns]
        one = csr_array((np.ones(len(owner)), (owner, range(len(owner)))), (streams, len(owner) + places))
        return linprog(
            np.append(costs, np.full(places, PENALTY * below_us)),  # bringing more than fits: charges end somewhere
            A_ub=np.hstack((brings, -np.eye(places))),
            b_ub=np.ones(places),
            A_eq=one,
            b_eq=np.ones(streams),
            method="highs-ds",
        )

    def _matrices(self, box: Box, columns: Sequence[_Column]) -> tuple[Floats, Floats]:
        """(C,) what rows cost at the lowest waits, and (R, C) what part of what fits they bring."""
        costs, brings = np.array([column.fixed_us for column in columns]), np.zeros((len(self.ids), len(columns)))
        uses = [(place, c, *more) for c, column in enumerate(columns) for place, *more in column.uses]
        if uses:
            place, c, alone, rho, square = np.array(uses).T
            at = place.astype(int), c.astype(int)
            weight = np.array([column.weight for column in columns])[at[1]]
            np.add.at(costs, at[1], weight * np.maximum(box.low_us[at[0]], alone))
            np.add.at(brings, at, square + 2 * box.high_us[at[0]] * rho)
        return costs, np.minimum(brings / self._room(box.high_us)[:, None], TOO_MUCH)

    def _room(self, high_us: Floats) -> Floats:
        """(R,) what all may bring."""
        return np.maximum(room(high_us, *self._stay), ROUNDING)

    def _cheapest(self, box: Box, charges: Floats) -> tuple[Floats, list[Row]]:
        """(S,) the cheapest row of each stream; () where all that are not told apart are cheaper."""
        return self.groups.cheapest(self._priced(box, charges))

    def _priced(self, box: Box, charges: Floats) -> list[Costs]:
        low, high, charge = (np.append(part, 0.0) for part in (box.low_us, box.high_us, charges))

        def priced(uses: Uses, at: Indices) -> Floats:
            brought = uses.square + 2 * high[at] * uses.rho
            return np.asarray(uses.us + uses.weight * np.maximum(low[at], uses.alone_us) + charge[at] * brought)

        return [
            chain.costs(*(priced(uses, at) for uses, at in zip(chain.uses, ats, strict=True)))
            for chain, ats in zip(self.groups.chains, self._at, strict=True)
        ]

    def _all_uses(self) -> list[tuple[Indices, Uses]]:
        return [
            (at, uses)
            for chain, ats in zip(self.groups.chains, self._at, strict=True)
            for uses, at in zip(chain.uses, ats, strict=True)
        ]

    def _spots(self, stream: int, row: Row) -> list[tuple[Uses, tuple[int, ...]]]:
        chain, b = self.groups.of(stream)
        return chain.spots(b, row)
