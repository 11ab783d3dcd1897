"""Rows of the streams of one model when their uses of places have prices. Pure.

The programme is the planner's (`controller.chain`); but what a visit or a crossing waits is not in it, there is a price
for it instead, or, at places where nobody meets, what it waits alone. Prices of all places stand in one array. Its last
entry is 0.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from controller.chain import Costs, Group, Indices, run_at
from controller.cost import Load, backlog_us, wait_us
from controller.model import Snapshot
from controller.programme import solve, still_to_pay
from controller.table import Floats, Row, Rows, Table, runs
from controller.tiers import Asked, frontier
from testbed.proof.places import TooMany
from testbed.proof.sought import PLAINLY, Sought


@dataclass(slots=True, eq=False)
class Uses:
    """An array of ways to use places; (of one stream for all, where `place` and `rho` have a leading axis of 1)."""

    us: Floats  # (B, ...) without waiting, infinite where it cannot be
    place: Indices  # a path as a * N + b, a node as a path to itself
    rho: Floats  # utilisation
    square: Floats  # rate * time^2
    alone_us: Floats  # the wait when none of the other free streams is there
    weight: Floats  # (B, 1, ...) how often the waits of a stream count
    use: Indices = field(init=False)  # among all uses of all places that are registered, -1: it is not
    price: Indices = field(init=False)  # where its price stands, -1: it has none
    _fixed_us: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.use = np.full(self.rho.shape, -1)
        self.price, self._fixed_us = self.use, self.us + self.weight * self.alone_us

    def reprice(self, price: Indices) -> None:
        """(uses registered,) where the price of each stands now."""
        self.price = np.append(price, -1)[self.use]
        self._fixed_us = self.us + np.where(self.use < 0, self.weight * self.alone_us, 0.0)

    def priced(self, prices: Floats) -> Floats:
        return self._fixed_us + prices[self.price]

    def spot(self, at: tuple[int, ...]) -> tuple[int, ...]:
        """Where that stands in what may be of one stream for all."""
        return at if len(self.place) > 1 else (0, *at[1:])

    def one(self, at: tuple[int, ...]) -> tuple[float, int, int, int]:
        """What one costs without its price, where that stands, its place, and which use it is."""
        one = self.spot(at)
        return float(self._fixed_us[at]), int(self.price[one]), int(self.place[one]), int(self.use[one])


class Chains:
    """B streams, P runs, K nodes, U kinds of cut. `beyond_us` (B,): rows that use any other node cost no less.

    `weights` (B,) of the streams; they are in all costs, but for prices.
    """

    def __init__(
        self,
        group: Group,
        snapshot: Snapshot,
        stay: Load,
        beyond_us: Sequence[float],
        weights: Floats,
        *,
        current: Rows | None = None,
    ) -> None:
        self.group, self.streams, self.weights = group, group.streams, weights
        self.beyond_us = np.array(beyond_us) * weights
        self._hosts = hosts = len(group.table.memory)
        self.stay = {n * (hosts + 1): parts for n, parts in stay.nodes.items()}
        self.stay |= {a * hosts + b: parts for (a, b), parts in stay.paths.items()}
        self._backlog = backlog_us(snapshot)
        streams = range(len(self.streams))
        self.period_us = np.array([float(group.table.streams[s].period_us) for s in self.streams])
        self._costs = group.costs(streams, [Load()] * len(streams), weights.tolist(), current=current)
        self.run, self.hop, self.way = self._runs(), self._hops(), self._ways()

    @property
    def uses(self) -> tuple[Uses, Uses, Uses]:
        return self.run, self.hop, self.way

    def _runs(self) -> Uses:
        """(B, P, K)"""
        costs = self._costs
        alike = len(self.group.nodes) == 1 and len(set(self.period_us.tolist())) == 1
        shape = (1 if alike else len(self.streams), *costs.run.shape[1:])
        b, run, k = (part.ravel() for part in np.indices(shape))
        rho = self.group.utilisations(range(len(self.streams)), b, run, k).reshape(shape)
        node = np.broadcast_to(costs.nodes[: shape[0], None], shape)
        return self._made(costs.run, node * (self._hosts + 1), rho)

    def _hops(self) -> Uses:
        """(B, U, K, K)"""
        costs = self._costs
        cut = np.array([costs.kind.index(kind) for kind in range(costs.hop.shape[1])])
        b, u, a, c = (part.ravel() for part in np.indices(costs.hop.shape))
        place, rho = self.group.ways(range(len(self.streams)), b, a, c, cut[u] % self.group.blocks)
        return self._made(costs.hop, place[:, 2].reshape(costs.hop.shape), rho[:, 2].reshape(costs.hop.shape))

    def _ways(self) -> Uses:
        """(B, 2, K) from the phone, and back"""
        costs = self._costs
        shape = costs.enter.shape
        b, k = (part.ravel() for part in np.indices(shape))
        place, rho = self.group.ways(range(len(self.streams)), b, k, k, np.zeros_like(k))
        place, rho = place[:, :2].reshape(*shape, 2), rho[:, :2].reshape(*shape, 2)
        ends = np.stack((costs.enter, costs.leave), axis=1)
        return self._made(ends, place.transpose(0, 2, 1), rho.transpose(0, 2, 1))

    def _made(self, cost_us: Floats, place: Indices, rho: Floats) -> Uses:
        """Takes the wait of one stream alone out of what the planner's programme says."""
        period_us = self.period_us[: len(rho)].reshape(-1, *[1] * (rho.ndim - 1))
        square, (a, b) = rho * rho * period_us, np.divmod(place, self._hosts)
        least = np.where((a == b) & (place >= 0), self._backlog[a], 0.0)
        stay = self._stays(place)
        before, beside = (
            np.where(place >= 0, np.maximum(least, wait_us(there[0] + rho, there[1] + square)), 0.0)
            for there in (np.zeros_like(stay), stay)
        )
        weight = self.weights.reshape(-1, *[1] * (rho.ndim - 1))
        return Uses(cost_us - weight * before, place, rho, square, beside, weight)

    def _stays(self, place: Indices) -> Floats:
        """(2, ...) utilisation and rate * time^2 of the streams that stay."""
        held = np.array([-2, *self.stay], dtype=np.intp)
        order = np.argsort(held)
        found = order[np.minimum(np.searchsorted(held[order], place), len(held) - 1)]
        parts = np.array([(0.0, 0.0), *(parts[:2] for parts in self.stay.values())])
        return np.asarray(np.where(held[found] == place, np.moveaxis(parts[found], -1, 0), 0.0))

    def priced(self, prices: Floats) -> Costs:
        return self.costs(*(uses.priced(prices) for uses in self.uses))

    def costs(self, run: Floats, hop: Floats, way: Floats) -> Costs:
        """What each run, hop and way costs, as the programme takes it."""
        return Costs(self._costs.nodes, run, hop, self._costs.kind, way[:, 0], way[:, 1])

    def by_runs(self, prices: Floats) -> Floats:
        """(L, B) what rows of so many runs, from 1, cost at least."""
        costs = self.priced(prices)
        blocks, (streams, _, nodes) = len(costs.kind) - 1, costs.run.shape
        opened = np.full((blocks, blocks + 1, streams, nodes), np.inf)
        closed = opened.copy()
        opened[0, 0] = costs.enter
        for j in range(1, blocks + 1):
            at = run_at(0, j)
            closed[:, j] = (opened[:, :j] + costs.run[:, at : at + j].transpose(1, 0, 2)).min(axis=1)
            if j < blocks:
                opened[1:, j] = (closed[:-1, j, :, :, None] + costs.hop[:, costs.kind[j]]).min(axis=2)
        return np.asarray((closed[:, blocks] + costs.leave).min(axis=2))

    def parts(self, b: int, row: Row) -> list[tuple[float, int, int, int]]:
        """Of each run, hop and way of a row, what `Uses.one` says."""
        return [uses.one(at) for uses, at in self.spots(b, row)]

    def spots(self, b: int, row: Row) -> list[tuple[Uses, tuple[int, ...]]]:
        """Of each run, hop and way of a row, where among the uses it stands."""
        place = self.group.place[b if len(self.group.nodes) > 1 else 0]
        legs = [(first, last, int(place[n])) for first, last, n in runs(row)]
        found: list[tuple[Uses, tuple[int, ...]]] = [(self.run, (b, run_at(first, last), k)) for first, last, k in legs]
        kind = self._costs.kind
        found += [(self.hop, (b, kind[cut], k, n)) for (_, cut, k), (_, _, n) in pairwise(legs)]
        return [*found, (self.way, (b, 0, legs[0][2])), (self.way, (b, 1, legs[-1][2]))]


class Groups:
    """S streams of several models, in the order of their chains.

    `others_us` (S,): rows that are not told apart cost no less. `stay`: (utilisation, rate * time^2, uses) of the
    streams that stay, by place.
    """

    def __init__(self, chains: Sequence[Chains]) -> None:
        self.chains = chains
        self.others_us = np.concatenate([chain.beyond_us for chain in chains])
        self.weights = np.concatenate([chain.weights for chain in chains])
        self.stay = {place: parts for chain in chains for place, parts in chain.stay.items()}
        self._firsts = np.cumsum([0, *(len(chain.streams) for chain in chains)]).tolist()

    @property
    def uses(self) -> list[Uses]:
        return [uses for chain in self.chains for uses in chain.uses]

    def of(self, stream: int) -> tuple[Chains, int]:
        """The chains that have a stream, and the how manieth it is there."""
        group = bisect_right(self._firsts, stream) - 1
        return self.chains[group], stream - self._firsts[group]

    def cheapest(self, costs: Iterable[Costs]) -> tuple[Floats, list[Row]]:
        """(S,) what the cheapest row of each costs, and the rows; () where all that are not told apart are cheaper.

        `costs` of the chains.
        """
        found = [one for each in costs for one in solve(each)]
        us = np.array([one.cost_us if one else np.inf for one in found])
        rows = [
            one.row if one and one.cost_us <= other else () for one, other in zip(found, self.others_us, strict=True)
        ]
        return np.minimum(us, self.others_us), rows

    def below(self, costs: Iterable[Costs], limit_us: Floats, most: int) -> list[list[Row]]:
        """The rows of each stream that cost less than its limit (S,). Raises TooMany: those of a model are more."""
        limits = np.split(limit_us, self._firsts[1:-1])
        return [rows for each, limit in zip(costs, limits, strict=True) for rows in _below(each, limit, most)]


def _below(costs: Costs, limit_us: Floats, most: int) -> list[list[Row]]:
    found, count = list[list[Row]](), 0
    ready, after = still_to_pay(costs)
    for b, limit in enumerate(limit_us.tolist()):
        found.append([])
        for row in _rows_below(costs, b, limit, ready[b], after[b]):
            found[-1].append(row)
            if (count := count + 1) > most:
                raise TooMany
    return found


def _rows_below(costs: Costs, b: int, limit: float, ready: Floats, after: Floats) -> Iterator[Row]:
    """Depth first over runs, as long as what is still to pay leaves it below the limit."""
    blocks, nodes = len(costs.kind) - 1, costs.nodes[b].tolist()
    ahead = [(float(costs.enter[b, k]), 0, int(k), ()) for k in np.flatnonzero(costs.enter[b] + ready[0] < limit)]
    while ahead:
        spent, i, k, row = ahead.pop()
        for j in range(i + 1, blocks + 1):
            cost = spent + float(costs.run[b, run_at(i, j), k])
            if cost + after[j, k] >= limit:
                continue
            longer = (*row, *(nodes[k],) * (j - i))
            if j == blocks:
                yield longer
                continue
            there = cost + costs.hop[b, costs.kind[j], k]
            ahead += [(float(there[n]), j, int(n), longer) for n in np.flatnonzero(there + ready[j] < limit)]


def chains_of(
    table: Table,
    snapshot: Snapshot,
    rows: Rows,
    stay: Load,
    *,
    weights: Mapping[str, float],
    sought: Sought = PLAINLY,
) -> list[Chains]:
    """The streams of `weights`, by models, each with the nodes that are worth considering for it.

    What those that stay wait longer is counted at each place, so it must not be in the costs of rows over other nodes.
    """
    found, unheard = list[Chains](), Load({n: (rho, square, 0.0) for n, (rho, square, _) in stay.nodes.items()})
    for streams in table.by_model([*weights]):
        kept = [{table.source(s), *rows[s]} for s in streams]
        front = frontier(Asked(table, snapshot, streams, unheard, weights, sought.objective, sought.current), kept)
        group = Group(table, snapshot, streams, front.nodes, sought.objective)
        weight = np.array([weights[s] for s in streams])
        found.append(Chains(group, snapshot, stay, front.beyond_us, weight, current=sought.current))
    return found
