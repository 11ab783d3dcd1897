"""One chain under memory pressure: dynamic programming over labels that remember what each node holds. Pure.

The programme of `chain` does not see that two runs of a stream on one node need memory together. Here a label is a
beginning of a row: the blocks so far, the run that is open, and the bytes used on every node. Blocks are added one by
one.
  prices   memory is given a price on each node, and the programme is run backwards with it: what a label costs at
           least in the end, less what all memory is worth (Lagrange). The prices that give the highest bound are sought
           by subgradients; without them a full node would look as good as an empty one
  bound    a label that cannot beat the best known row is dropped
  Pareto   of two labels on one node, one that is never cheaper to end and uses no less memory anywhere is dropped
  width    of the others those with the lowest bounds go on; the lowest bound of those that do not is kept. The search
           begins narrow and is widened until the result is proven or `WIDTHS` ends
So the result comes with a proof: no row that fits costs less than `least_us`. EdgeShard (arXiv 2405.14371) keeps one
label a state, without bound or prices, and misses optima.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from controller.chain import Costs, Indices, square
from controller.programme import Best
from controller.table import Floats, Row

WIDTHS = (16, 64, 256)
ROUNDS = 24  # of better prices
PROVEN = 1e-6  # a gap that is rounding


@dataclass(frozen=True, slots=True)
class Fitted:
    best: Best | None
    least_us: float  # no row that fits costs less


class Chain:
    """What one stream pays (infinite: never) and needs; K nodes. `stream` is its position in the costs."""

    def __init__(self, costs: Costs, stream: int, missing: Floats, working: Floats, free: Floats) -> None:
        self.nodes, self.enter, self.leave = costs.nodes[stream], costs.enter[stream], costs.leave[stream]
        self.run = square(costs, stream)  # (L+1, L+1, K)
        self.missing, self.working, self.free = missing, working, free  # (L, K) bytes of each block, (L,), (K,)
        self._hops, self._kind = costs.hop[stream], costs.kind
        total = np.concatenate((np.zeros((1, len(free))), np.cumsum(missing, axis=0)))
        peak = np.zeros((len(working) + 1,) * 2)
        for first in range(len(working)):
            peak[first, first + 1 :] = np.maximum.accumulate(working[first:])
        self._need = total[None] - total[:, None] + peak[:, :, None]  # (L+1, L+1, K) bytes of each run
        self.priced(np.zeros(len(free)))

    def hop(self, cut: int) -> Floats:
        return np.asarray(self._hops[self._kind[cut]], dtype=np.float64)

    def need(self, first: Indices, last: int, node: Indices) -> Floats:
        return np.asarray(self._need[first, last, node], dtype=np.float64)

    def priced(self, prices: Floats) -> None:
        """Sets the price of a byte on each node, and with it what is still to pay.

        `to_end` (L+1, L+1, K): from the start of run i, of which the blocks to j-1 are done, to the very end at least,
        memory paid for.
        """
        self.prices, self.worth = prices, float(prices @ self.free)
        self._priced = self.run + self._need * prices
        blocks = len(self.missing)
        self._after = np.full((blocks + 1, len(self.free)), np.inf)
        self._after[blocks] = self.leave
        for i in range(blocks - 1, 0, -1):
            ready = (self._priced[i, i + 1 :] + self._after[i + 1 :]).min(axis=0)
            self._after[i] = (self.hop(i) + ready).min(axis=1)
        ending = (self._priced + self._after)[:, ::-1]
        self.to_end = np.minimum.accumulate(ending, axis=1)[:, ::-1]
        self.least_us = float((self.enter + self.to_end[0, 1]).min()) - self.worth

    def cheapest(self) -> tuple[list[tuple[int, int, int]], Floats]:
        """The runs (first, last, node) that attain `least_us`, and the (K,) bytes they need."""
        blocks, used = len(self.missing), np.zeros(len(self.free))
        node, i, found = int((self.enter + self.to_end[0, 1]).argmin()), 0, list[tuple[int, int, int]]()
        while True:
            j = i + 1 + int((self._priced[i, i + 1 :, node] + self._after[i + 1 :, node]).argmin())
            found.append((i, j, node))
            used[node] += self._need[i, j, node]
            if j == blocks:
                return found, used
            ready = (self._priced[j, j + 1 :] + self._after[j + 1 :]).min(axis=0)
            node, i = int((self.hop(j)[node] + ready).argmin()), j

    def cost_us(self, parts: list[tuple[int, int, int]]) -> float:
        total = float(self.enter[parts[0][2]] + self.leave[parts[-1][2]])
        total += sum(float(self.run[part]) for part in parts)
        return total + sum(float(self.hop(b[0])[a[2], b[2]]) for a, b in pairwise(parts))

    def row(self, parts: list[tuple[int, int, int]]) -> Row:
        return tuple(int(self.nodes[node]) for first, last, node in parts for _ in range(first, last))


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """M beginnings of rows of the same length."""

    node: Indices  # (M,) where the open run is
    start: Indices  # (M,) its first block
    before: Floats  # (M,) cost of all before it
    paid: Floats  # (M,) the same, with the price of the memory that is used
    used: Floats  # (M, K) bytes; the working set of the open run is not in it but in `peak`
    peak: Floats  # (M,)
    parent: Indices  # (M,) in the labels one block shorter
    bound: Floats  # (M,) what it costs in the end at least

    def only(self, kept: Indices) -> "Labels":
        whole, costs = (self.node, self.start), (self.before, self.paid, self.used, self.peak)
        node, start = (part[kept] for part in whole)
        before, paid, used, peak = (part[kept] for part in costs)
        return Labels(node, start, before, paid, used, peak, self.parent[kept], self.bound[kept])


def fitted(chain: Chain, widths: Sequence[int] = WIDTHS) -> Fitted:
    """The cheapest row that fits."""
    best, least = None, -float("inf")
    for width in widths:
        known = best.cost_us if best else float("inf")
        found = _searched(chain, known, width)
        best, least = found.best or best, max(least, found.least_us)
        if best is None and least == float("inf"):
            return Fitted(None, least)
        if best is None or least < best.cost_us * (1 - PROVEN):
            best, bound = _prices(chain, best)
            least = max(least, bound)
        if best and least >= best.cost_us * (1 - PROVEN):
            break
    return Fitted(best, min(least, best.cost_us) if best else least)


def _prices(chain: Chain, best: Best | None) -> tuple[Best | None, float]:
    """Sets good prices; gives the best row seen, and the highest bound."""
    prices = top = chain.prices
    bound, step = -float("inf"), 1.0
    for _ in range(ROUNDS):
        chain.priced(prices)
        if not np.isfinite(chain.least_us):
            break
        parts, used = chain.cheapest()
        over = used - chain.free
        if (over <= 0).all():
            cost = chain.cost_us(parts)
            best = best if best and best.cost_us <= cost else Best(cost, chain.row(parts))
        if chain.least_us > bound:
            bound, top = chain.least_us, prices
        else:
            step *= 0.7
        goal = best.cost_us if best else 1.2 * abs(bound)
        slope = np.where((over < 0) & (prices <= 0), 0.0, over)
        if not slope.any() or goal <= bound * (1 + PROVEN):
            break
        prices = np.maximum(prices + step * (goal - chain.least_us) * slope / float(slope @ slope), 0.0)
    chain.priced(top)
    return best, bound


def _searched(chain: Chain, known_us: float, width: int) -> Fitted:
    """The cheapest row that fits and costs less than what is known."""
    blocks, steps, cut = len(chain.missing), list[Labels](), float("inf")
    labels = _first(chain)
    for j in range(1, blocks + 1):
        if j > 1:
            labels = _longer(chain, labels, j - 1, known_us)
        labels, dropped = _kept(chain, labels, j, width)
        cut = min(cut, dropped)
        steps.append(labels)
    if not len(labels.node):
        return Fitted(None, min(cut, known_us))
    cost = labels.before + chain.run[labels.start, blocks, labels.node] + chain.leave[labels.node]
    best = int(cost.argmin())
    return Fitted(Best(float(cost[best]), _row(chain, steps, best)), min(float(cost[best]), cut, known_us))


def _first(chain: Chain) -> Labels:
    nodes, enter = np.arange(len(chain.free)), chain.enter
    used, peak = np.diag(chain.missing[0]), np.full(len(nodes), chain.working[0])
    bound = enter + chain.to_end[0, 1] - chain.worth
    fits = (chain.missing[0] + chain.working[0] <= chain.free) & np.isfinite(bound)
    zero = np.zeros(len(nodes), dtype=np.intp)
    return Labels(nodes, zero, enter, enter, used, peak, zero, bound).only(np.flatnonzero(fits))


def _longer(chain: Chain, labels: Labels, j: int, known_us: float) -> Labels:
    """Every label with block j on every node: in the run that is open there, else in a new one."""
    everyone = np.arange(len(labels.node))
    run, hop = chain.run[labels.start, j, labels.node], chain.hop(j)[labels.node]
    before = (labels.before + run)[:, None] + hop  # (M, K)
    memory = chain.prices[labels.node] * chain.need(labels.start, j, labels.node)
    paid = (labels.paid + run + memory)[:, None] + hop
    before[everyone, labels.node], paid[everyone, labels.node] = labels.before, labels.paid
    bound = paid + chain.to_end[j, j + 1]
    bound[everyone, labels.node] = labels.paid + chain.to_end[labels.start, j + 1, labels.node]
    bound -= chain.worth
    peak = np.full(bound.shape, chain.working[j])
    peak[everyone, labels.node] = np.maximum(labels.peak, chain.working[j])
    used = labels.used + chain.missing[j]
    m, k = np.nonzero((used + peak <= chain.free) & (bound < known_us))
    moved = k != labels.node[m]
    after = labels.used[m]
    after[np.arange(len(m)), k] += chain.missing[j][k]
    after[np.flatnonzero(moved), labels.node[m][moved]] += labels.peak[m][moved]
    start = np.where(moved, j, labels.start[m])
    return Labels(k, start, before[m, k], paid[m, k], after, peak[m, k], m, bound[m, k])


def _kept(chain: Chain, labels: Labels, done: int, width: int) -> tuple[Labels, float]:
    """Those that go on, and the lowest bound of those that do not though nothing beats them."""
    order = np.argsort(labels.bound, kind="stable")
    ahead = order[: 2 * width]  # comparing all with all is dear
    dropped = float(labels.bound[order[2 * width]]) if len(order) > 2 * width else float("inf")
    near = labels.only(ahead)
    beaten = np.zeros(len(ahead), dtype=bool)
    for node in set(near.node.tolist()):
        mine = np.flatnonzero(near.node == node)
        beaten[mine] = _beaten(chain, near.only(mine), done)
    kept = np.flatnonzero(~beaten)
    if len(kept) > width:
        dropped = min(dropped, float(near.bound[kept[width]]))
    return near.only(kept[:width]), dropped


def _beaten(chain: Chain, labels: Labels, done: int) -> npt.NDArray[np.bool_]:
    """(M,) whether another label of this node is at least as good in all; of equals the first stays."""
    if len(labels.node) < 2:
        return np.zeros(len(labels.node), dtype=bool)
    ending = labels.before[:, None] + chain.run[labels.start, done:, labels.node]
    used = labels.used.copy()
    used[:, labels.node[0]] += labels.peak
    traits = np.concatenate((ending, used, labels.peak[:, None]), axis=1)  # less is better
    better = (traits[:, None] <= traits[None]).all(axis=2)  # [a, b]: a is at least as good as b
    equal = better & better.T
    return np.asarray((better & ~(equal & np.tri(len(traits), dtype=bool))).any(axis=0), dtype=bool)


def _row(chain: Chain, steps: list[Labels], at: int) -> Row:
    row: list[int] = []
    for labels in reversed(steps):
        row.append(int(chain.nodes[labels.node[at]]))
        at = int(labels.parent[at])
    return tuple(reversed(row))
