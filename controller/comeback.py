"""The cheapest row of one stream where its own runs may meet. Pure.

A row that comes back to a node, or to a path, waits there for itself too. `programme` lets each run and hop wait as if
it were the only one of its row, which is never more. So where the row that it finds comes back, rows are gone through
here from their beginnings, always the one with the lowest bound next: what a beginning costs is reckoned with all its
visits together, what is still to come is the least by the programme, with what coming back to a node costs at least
when so much of the row is there already.

Waits are supermodular, so meeting never costs less than apart; but not beyond the knee of `cost.wait_us`, where what
it makes others wait may grow slower. Who visits a node twice there waits two times `KNEE_US`.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from controller.chain import Costs, Indices, Own, run_at
from controller.cost import FULL, HORIZON_US, NOBODY, Parts, steady_us, wait_us
from controller.labels import Fitted
from controller.objective import PLAIN, SLIGHT, Objective
from controller.programme import Best, runs_from, still_to_pay
from controller.table import Floats, Row, runs

STEPS = 100  # beginnings that are gone on with
LEVELS = 8  # of what a node has of a row that comes back to it
NODES = 4  # that rows come back to, of which it is known what that costs at least
KNEE_US = HORIZON_US * (1 - FULL) / 2  # with a wait above it a node may be where waits grow slower
KNEE_SQUARE_US = HORIZON_US * (1 - FULL) ** 2  # not with less rate * time^2
ROUNDING = 1e-9


def comes_back(row: Row) -> bool:
    """Whether it has two runs on one node."""
    nodes = [node for *_, node in runs(row)]
    return len(set(nodes)) < len(nodes)


@dataclass(frozen=True, slots=True, eq=False)
class OneStream:
    """One stream on K nodes, what it pays where it meets nobody of its own, and who else is where.

    `others`: utilisation, rate * time^2 and weighted uses, by a * N + b as in `crowd`.
    """

    costs: Costs  # of this stream alone
    own: Own
    weight: float
    others: Mapping[int, Parts]
    hosts: int
    objective: Objective = PLAIN


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """Blocks 0..last-1 are done, the last of them on `node`, for `cost_us`; what was brought to each place."""

    cost_us: float
    last: int = 0
    node: int = -1
    used: Mapping[tuple[int, int], Parts] = field(default_factory=dict)
    row: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Next:
    """The runs that may follow, cheapest first: bounds with all that is to come, by last block and node."""

    begun: _Begun
    bounds_us: list[float]
    lasts: list[int]
    nodes: list[int]


def cheapest(one: OneStream, known: Row, steps: int = STEPS) -> tuple[Fitted, int]:
    """The best row found, `known` or better, and what none costs less than; the same unless `steps` are too few.

    And how many steps it took.
    """
    search = _Search(one)
    search.take(search.cost_us(known), known)
    number, left = count(), steps
    heap = list[tuple[float, int, int, _Next]]()

    def push(some: _Next, at: int) -> None:
        if at < len(some.bounds_us):
            heapq.heappush(heap, (some.bounds_us[at], next(number), at, some))

    push(search.after(_Begun(0.0)), 0)
    while heap and left > 0 and heap[0][0] < search.aim_us:
        _, _, at, some = heapq.heappop(heap)
        left -= 1
        push(some, at + 1)
        push(search.after(search.longer(some.begun, some.lasts[at], some.nodes[at])), 0)
    least = min([search.best.cost_us, *(bound for bound, *_ in heap[:1])])
    best = search.best if search.best.row else None
    return Fitted(best, min(least, knee_us(one.weight)) if one.others else least), steps - left


def knee_us(weight: float) -> float:
    """What a row costs at least that meets itself and others where waits grow slower: no bound is above that."""
    return 2 * weight * KNEE_US


class _Search:
    def __init__(self, one: OneStream) -> None:
        self._one, self._costs = one, one.costs
        self._blocks = len(one.costs.kind) - 1
        self._place = {node: k for k, node in enumerate(one.costs.nodes[0].tolist())}
        self._to_come = still_to_pay(one.costs)[1][0]  # (L+1, K)
        self._again: dict[int, Floats] = {}  # by node, (LEVELS, L+1, K) if the row was there already
        self._met: list[int] = []  # the nodes that beginnings came back to, each once
        self.best = Best(float("inf"), ())

    @property
    def aim_us(self) -> float:
        return self.best.cost_us * (1 - ROUNDING)

    def take(self, cost_us: float, row: Row) -> None:
        if cost_us < self.best.cost_us:
            self.best = Best(cost_us, row)

    def cost_us(self, row: Row) -> float:
        """Of a whole row, all its visits together."""
        begun = _Begun(0.0)
        for _, last, node in runs(row):
            begun = self.longer(begun, last, self._place[node])
        return begun.cost_us

    def longer(self, begun: _Begun, last: int, node: int) -> _Begun:
        """With one more run; with the way back to the phone after the last one."""
        own, costs, first = self._one.own, self._costs, begun.last
        at = int(runs_from(first, self._blocks)[last - first - 1])
        cost = begun.cost_us + float(self._enter(begun)[node] + costs.run[0, at, node])
        brought = [((node, node), float(own.time[at, node]))]
        if (start := self._start(begun)) != node:
            brought.append(((start, node), float(own.wire[costs.kind[first], start, node])))
        if last == self._blocks and node != own.home:
            brought.append(((node, own.home), float(own.wire[costs.kind[-1], node, own.home])))
        cost += float(costs.leave[0, node]) if last == self._blocks else 0.0
        used = dict(begun.used)
        for place, time in brought:
            rho, square, visits = used.get(place, NOBODY)
            cost += float(self._longer_us(used, place, np.array(time)))
            used[place] = rho + own.per_us * time, square + own.per_us * time * time, visits + 1
        if used[node, node][2] > 1 and node not in self._met:
            self._met.append(node)
        return _Begun(cost, last, node, used, (*begun.row, *(node,) * (last - first)))

    def after(self, begun: _Begun) -> _Next:
        """What may follow and be better than the best known, which a row that ends with it may be."""
        if begun.last == self._blocks:
            return _Next(begun, [], [], [])
        own, costs, used, first = self._one.own, self._costs, begun.used, begun.last
        at, start = runs_from(first, self._blocks), self._start(begun)
        ready = begun.cost_us + self._enter(begun)
        total = ready + costs.run[0, at] + self._left_us(begun, at)  # (runs, K)
        for a, b in used:
            if a == b:
                total[:, a] += self._longer_us(used, (a, a), own.time[at, a])
            if a == start != b:
                total[:, b] += self._longer_us(used, (a, b), own.wire[costs.kind[first], a, b])
            if b == own.home != a:
                total[-1, a] += self._longer_us(used, (a, b), own.wire[costs.kind[-1], a, b])
        end = int(total[-1].argmin())
        row = (*begun.row, *(end,) * (self._blocks - first))
        self.take(float(total[-1, end]), tuple(self._costs.nodes[0, list(row)].tolist()))
        run, node = np.nonzero(total[:-1] < self.aim_us)
        bounds = total[run, node]
        order = np.argsort(bounds, kind="stable")
        return _Next(begun, bounds[order].tolist(), (first + 1 + run[order]).tolist(), node[order].tolist())

    def _left_us(self, begun: _Begun, at: Indices) -> Floats:
        """(runs, K) what is to come after each run at least, with what coming back to some nodes costs."""
        first = begun.last + 1
        left: Floats = self._to_come[first:].copy()
        self._again |= {node: self._levels(node) for node in self._met[len(self._again) : NODES]}
        for node, again in self._again.items():
            square = begun.used.get((node, node), NOBODY)[1]
            if level := int(self._level(node, np.array(square))):
                np.maximum(left, again[level, first:], out=left)
            levels = self._level(node, square + self._one.own.per_us * self._one.own.time[at, node] ** 2)
            left[:, node] = np.maximum(left[:, node], again[levels, first + np.arange(len(at)), node])
        return left

    def _level(self, node: int, square: Floats) -> Indices:
        """Of what was brought there: no more than it says, so much rate * time^2 being no less of utilisation."""
        own = self._one.own
        share = np.sqrt(square / own.per_us) / max(float(own.time[run_at(0, self._blocks), node]), ROUNDING)
        return np.asarray(np.minimum(share * LEVELS, LEVELS - 1), dtype=np.intp)

    def _levels(self, node: int) -> Floats:
        """(LEVELS, L+1, K) what is to come at least when a node has so much of the row already."""
        costs, own, weight = self._costs, self._one.own, self._one.weight
        there, squared, _ = self._others(node, node)

        def wait(time: Floats, square: Floats) -> Floats:
            wait = wait_us(there + own.per_us * time, squared + own.per_us * square)
            return np.asarray(np.maximum(own.backlog_us[node], wait))

        time, whole = own.time[:, node], own.time[run_at(0, self._blocks), node]
        before = whole * np.arange(LEVELS)[:, None] / LEVELS
        both, now, then = wait(time + before, time**2 + before**2), wait(time, time**2), wait(before, before**2)
        longer = both - now
        if self.best.cost_us <= knee_us(weight) or squared + own.per_us * whole**2 < KNEE_SQUARE_US:
            longer += both - then
        longer[0] = 0.0
        run = np.repeat(costs.run, LEVELS, axis=0)
        run[:, :, node] += weight * longer + 2 * self._one.objective.utilisation_us * own.per_us**2 * before * time
        every = [0] * LEVELS
        again = Costs(costs.nodes[every], run, costs.hop[every], costs.kind, costs.enter[every], costs.leave[every])
        return still_to_pay(again)[1]

    def _others(self, a: int, b: int) -> Parts:
        nodes = self._costs.nodes[0]
        return self._one.others.get(int(nodes[a]) * self._one.hosts + int(nodes[b]), NOBODY)

    def _start(self, begun: _Begun) -> int:
        return begun.node if begun.last else self._one.own.home

    def _enter(self, begun: _Begun) -> Floats:
        """(K,) the way to the next run, if nobody of its own is on it."""
        costs = self._costs
        return np.asarray(costs.hop[0, costs.kind[begun.last], begun.node] if begun.last else costs.enter[0])

    def _longer_us(self, used: Mapping[tuple[int, int], Parts], place: tuple[int, int], time: Floats) -> Floats:
        """How much longer all wait when another use of a place meets those that there are."""
        if place not in used:
            return np.zeros(())
        own, weight, (a, b), objective = self._one.own, self._one.weight, place, self._one.objective
        (rho, square, visits), (there, squared, uses) = used[place], self._others(a, b)
        least = float(own.backlog_us[a]) if a == b else 0.0

        def waits(rho: float, square: float, visits: float) -> float:
            wait = steady_us((there + rho, squared + square, 0.0))
            return (uses + weight * visits) * max(least, wait)

        more, squares = own.per_us * time, own.per_us * time * time
        both = np.maximum(least, wait_us(there + rho + more, squared + square + squares))
        alone = np.maximum(least, wait_us(there + more, squared + squares))
        longer = (uses + weight * (visits + 1)) * both - (uses + weight) * alone
        longer += waits(0.0, 0.0, 0.0) - waits(rho, square, visits)
        if a == b:
            longer += 2 * objective.utilisation_us * rho * more
        limit = objective.max_utilisation if a == b else objective.max_link_share
        return np.asarray(np.where(there + rho + more > limit + SLIGHT, np.inf, longer))
