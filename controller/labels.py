"""One chain under memory pressure: rows that fit are gone through by their beginnings, memory at a price. Pure.

The programme of `chain` does not see that two runs of a stream on one node need memory together. Here a label is a
beginning of a row: the runs so far, and the bytes used on every node.
  prices   memory is given a price on each node, and the programme is run backwards with it: what a label costs at
           least in the end, less what all memory is worth (Lagrange). The prices that give the highest bound are sought
           by subgradients; without them a full node would look as good as an empty one
  bound    a label that cannot beat the best known row is dropped, and so are nodes, of which few are left
  order    some labels at once are gone on with: half of them those with the lowest bounds, half those that are farther
           for nearly as little, so that there is soon a row to beat
  effort   is counted; the lowest bound of what is left then is what no row costs less than
So the result comes with a proof: no row that fits costs less than `least_us`. EdgeShard (arXiv 2405.14371) keeps one
label a state, without bound or prices, and misses optima.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from controller.chain import Indices
from controller.programme import Best
from controller.table import Floats, Row
from controller.tight import GUESS, PROVEN, Part, Prices, Tight, climb

ROUNDS, FEWER = 8, 6  # of better prices, and where it must be short
STEPS, MORE = 8, 12  # of a search, and of another one with better prices; small chains have more
ENTRIES, SMALL = 500, 4  # blocks times nodes of a chain that has no more; how many times more at most
WIDTH = 32  # labels that are gone on with in one step
CHILDREN = 6  # times as many labels that a step leaves
AHEAD = 4.0  # of the gap: how much worse a label may be that is as good as at the end
JUDGED = 8  # whole rows of a step that are looked at

Judge = Callable[[list[Row]], float]
Effort = Literal["thorough", "short", "none"]


@dataclass(frozen=True, slots=True)
class Fitted:
    best: Best | None
    least_us: float  # no row that fits costs less


@dataclass(frozen=True, slots=True)
class Together:
    rows: tuple[Row, ...]  # of each chain; none if none is known
    cost_us: float
    least_us: float  # no rows that fit cost less


def fitted(
    chain: Tight, judge: Judge | None = None, effort: Effort = "thorough", below_us: float = float("inf")
) -> Fitted:
    """The cheapest row that fits and costs less than `below_us`.

    `judge` says what rows cost, where that is more than the chain knows.
    """
    more = int(min(max(ENTRIES / (chain.blocks * len(chain.free)), 1), SMALL))
    if effort == "short":
        found = fitted_together(chain, judge, below_us, (STEPS,), FEWER)
    else:
        found = fitted_together(chain, judge, below_us, (STEPS * more, MORE * more))
    return Fitted(Best(found.cost_us, found.rows[0]) if found.rows else None, found.least_us)


def fitted_together(
    chain: Tight,
    judge: Judge | None,
    below_us: float = float("inf"),
    steps: Sequence[int] = (STEPS, MORE),
    rounds: int = ROUNDS,
) -> Together:
    """The same of chains that stand end to end, if it costs less than `below_us`. Where these share what is loaded,
    `judge` also says whether rows fit: endless if they do not.
    """
    search = _Search(chain, judge, below_us)
    for some in steps:
        search.better_prices(rounds)
        if search.open and some:
            search.narrow()
            search.go(some)
        if not search.open:
            break
    return Together(tuple(search.rows), search.best_us, min(search.least_us, search.best_us))


class _Search:
    """The best rows so far, and the highest bound."""

    def __init__(self, chain: Tight, judge: Judge | None, below_us: float) -> None:
        self._chain, self._judge = chain, judge
        self.rows, self.best_us, self.least_us = list[Row](), below_us, -float("inf")
        self._top = np.zeros(len(chain.free))
        self._prices: Prices

    @property
    def open(self) -> bool:
        """Whether there may be a better row."""
        return self.least_us < self._goal_us

    @property
    def _goal_us(self) -> float:
        return self.best_us * (1 - PROVEN)

    def take(self, parts: list[Part], cost_us: float) -> None:
        """Rows that fit, and what the chain says that they cost."""
        if cost_us >= self.best_us:
            return
        rows = self._chain.rows(parts)
        if self._judge is not None:
            cost_us = self._judge(rows)
        if cost_us < self.best_us:
            self.rows, self.best_us = rows, cost_us

    def narrow(self) -> None:
        """Leaves out the nodes over which no better row goes, as these prices say."""
        kept = np.flatnonzero(self._prices.through_us < self._goal_us)
        if not len(kept):
            self.least_us = self.best_us
        elif len(kept) < len(self._top):
            self._chain, self._top = self._chain.only(kept), self._top[kept]
            self._prices = Prices(self._chain, self._top)

    def better_prices(self, rounds: int) -> None:
        chain, found = self._chain, dict[bytes, Prices]()

        def least(prices: Floats) -> tuple[float, Floats]:
            at = found[prices.tobytes()] = Prices(chain, prices)
            self.least_us = max(self.least_us, at.least_us)
            if not np.isfinite(at.least_us):
                return at.least_us, chain.free
            parts, charged = at.cheapest()
            if chain.same is not None or (charged <= chain.free).all():
                self.take(parts, chain.cost_us(parts))
            return at.least_us, charged

        self._top = climb(least, self._top, chain.free, lambda: self.best_us, rounds)
        self._prices = found[self._top.tobytes()]

    def go(self, steps: int) -> None:
        """From the beginnings of all rows, so many steps at most."""
        pool, ending = _Pool((1 + steps) * CHILDREN * WIDTH, self._chain), self._prices.ending_us
        self._go_on(pool, None, ending)
        for _ in range(steps):
            at = pool.next(self._goal_us, self._chain.blocks)
            if not len(at):
                break
            self._go_on(pool, at, ending)
        self.least_us = max(self.least_us, min(pool.least_us, self.best_us))

    def _go_on(self, pool: "_Pool", at: Indices | None, ending: Floats) -> None:
        """Puts another run behind some labels; behind none at first."""
        chain = self._chain
        if at is None:
            first, used, paid = np.zeros(1, dtype=np.intp), np.zeros((1, len(chain.free))), np.zeros(1)
            ready = chain.enter[None]
        else:
            first, used, paid = pool.done[at], pool.used[at], pool.paid[at]
            ready = pool.cost[at][:, None] + chain.hop[first, pool.node[at]]  # (M, K)
        need = pool.need(first, at)  # (M, L+1, K)
        fits = used[:, None] + need <= chain.free
        self._end(pool, at, np.where(fits[:, -1], ready + chain.run[first, -1] + chain.leave, np.inf))
        bound = ending[first]
        bound += (ready + paid[:, None])[:, None]
        m, last, node = np.nonzero(fits[:, :-1] & (bound[:, :-1] < self._goal_us))
        found = bound[m, last, node]
        if len(m) > CHILDREN * WIDTH:
            order = np.argpartition(found, CHILDREN * WIDTH)
            pool.drop(float(found[order[CHILDREN * WIDTH]]))
            some = order[: CHILDREN * WIDTH]
            m, last, node, found = m[some], last[some], node[some], found[some]
        run, used = (first[m], last, node), used[m]
        used[np.arange(len(m)), node] += need[m, last, node]
        rent = paid[m] + chain.charged[run] * self._prices.prices[node]
        pool.add(None if at is None else at[m], run, (ready[m, node] + chain.run[run], rent, found), used)

    def _end(self, pool: "_Pool", at: Indices | None, total: Floats) -> None:
        """Looks at the cheapest whole rows of a step; (M, K) what they cost, the last run being on node k."""
        order = np.argsort(total, axis=None)[: JUDGED + 1]
        for place in order.tolist():
            cost = float(total.flat[place])
            if cost >= self._goal_us:
                return
            if place == order[-1] and len(order) > JUDGED:
                pool.drop(cost)
                return
            m, node = divmod(place, total.shape[1])
            begun = pool.parts(int(at[m])) if at is not None else []
            self.take([*begun, (begun[-1][1] if begun else 0, self._chain.blocks, node)], cost)


class _Pool:
    """Beginnings of rows, and the least that those cost which are not gone on with."""

    def __init__(self, size: int, chain: Tight) -> None:
        self._chain, nodes = chain, len(chain.free)
        self.done, self.node, self.parent = (np.empty(size, dtype=np.intp) for _ in range(3))
        self.cost, self.paid, self.bound = (np.empty(size) for _ in range(3))
        self.used = np.empty((size, nodes))
        self._held = np.empty((size, chain.blocks, nodes) if chain.same is not None else 0, dtype=bool)
        self._size, self._dropped_us = 0, float("inf")

    @property
    def least_us(self) -> float:
        return float(self.bound[: self._size].min(initial=self._dropped_us))

    def drop(self, bound_us: float) -> None:
        self._dropped_us = min(self._dropped_us, bound_us)

    def need(self, first: Indices, at: Indices | None) -> Floats:
        """(M, L+1, K) bytes that runs behind some labels add: less where blocks are there already."""
        chain = self._chain
        if chain.same is None or at is None:
            return np.asarray(chain.need[first])
        total = np.zeros((len(at), chain.blocks + 1, len(chain.free)))
        np.cumsum(chain.missing * ~self._held[at], axis=1, out=total[:, 1:])
        need = total - total[np.arange(len(at)), first][:, None]
        return np.asarray(np.where(need > 0, need + chain.peak[first][:, :, None], 0.0))

    def add(
        self,
        parent: Indices | None,
        run: tuple[Indices, Indices, Indices],
        figures: tuple[Floats, Floats, Floats],
        used: Floats,
    ) -> None:
        """Labels with one run more: (first, last, node); (cost, paid, bound)."""
        new = slice(self._size, self._size + len(used))
        self.parent[new], self.used[new] = -1 if parent is None else parent, used
        first, self.done[new], self.node[new] = run
        self.cost[new], self.paid[new], self.bound[new] = figures
        self._size += len(used)
        if self._chain.same is not None:
            every, here = np.arange(self._chain.blocks), np.arange(len(used))
            mine = (every >= first[:, None]) & (every < run[1][:, None])
            held = np.zeros((len(used), *self._held.shape[1:]), dtype=bool) if parent is None else self._held[parent]
            held[here, :, run[2]] |= mine @ self._chain.same
            self._held[new] = held

    def next(self, below_us: float, blocks: int) -> Indices:
        """Takes out those to go on with."""
        open_ = np.flatnonzero(self.bound[: self._size] < below_us)
        if len(open_) > WIDTH:
            bound = self.bound[open_]
            least = float(bound.min())
            gap = (below_us if below_us < float("inf") else GUESS * abs(least)) - least
            ahead = bound - AHEAD * gap * self.done[open_] / blocks
            half = WIDTH // 2
            some = np.union1d(np.argpartition(ahead, half)[:half], np.argpartition(bound, half)[:half])
            open_ = open_[some]
        self.bound[open_] = np.inf
        return open_

    def parts(self, at: int) -> list[Part]:
        """The runs of a label."""
        found = list[Part]()
        while at >= 0:
            before = int(self.parent[at])
            found.append((int(self.done[before]) if before >= 0 else 0, int(self.done[at]), int(self.node[at])))
            at = before
        return found[::-1]
