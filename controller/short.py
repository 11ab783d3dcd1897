"""All rows of one run or two of streams of one model, and the least that rows of more runs cost. Pure.

A row that costs its stream more than a limit alone is no matter, and nodes that only such rows use are left out. Rows
of more runs are not listed. What they cost at least is told by three runs that follow each other, one of which has the
*middle*, the block with which half of the work is done: these pay prices, what is before and behind them is in nobody's
way. The first and the third may be on one node. Then only one of them pays there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from controller.chain import Indices, run_at, run_ends, tables
from controller.choices import NOWHERE, Picked
from controller.table import Floats, Row
from controller.through import still_to_pay

Extra = Callable[[Indices, Indices, Floats], Floats]  # of (M,) streams, nodes, utilisations: what runs pay more
MOST = 150_000  # cuts and pairs of nodes, of all streams of a group
RUNS = 8_000  # told apart in longer rows


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """M rows, those of a stream side by side, streams in order."""

    owner: Indices  # (M,)
    least_us: Floats  # (M,) the cost when nobody else is there
    place: Indices  # (M, 5) two nodes, the paths from the phone, back and between: a * N + b, or NOWHERE
    rho: Floats  # (M, 5) utilisation
    first: Indices  # (M,) nodes, and
    second: Indices
    cut: Indices  # (M,) the block with which the second begins
    blocks: Indices  # (M,)

    def row(self, m: int) -> Row:
        cut = int(self.cut[m])
        return (int(self.first[m]),) * cut + (int(self.second[m]),) * (int(self.blocks[m]) - cut)


class Short:
    """B streams on the K nodes that are left of those considered; P runs, C cuts."""

    def __init__(self, picked: Picked, limit_us: Floats) -> None:
        costs, self._picked, self._limit_us = picked.costs, picked, limit_us
        self._blocks = blocks = picked.group.blocks
        opened, closed = picked.tables or tables(costs)
        after = still_to_pay(costs)[1]
        through = np.min(closed + after, axis=1)  # (B, K) of all rows that use a node
        self._at, least = self._left(through)
        self._beyond_us = np.minimum(picked.beyond_us, np.minimum(limit_us, least))
        each, at, kinds = np.arange(len(limit_us))[:, None], self._at[:, None], np.arange(costs.hop.shape[1])
        self._nodes = costs.nodes[each, self._at]
        self._enter, self._leave = costs.enter[each, self._at], costs.leave[each, self._at]
        self._run, self._opened, self._after = (
            np.take_along_axis(part, at, axis=2) for part in (costs.run, opened, after)
        )
        self._kind = np.array(costs.kind)
        self._hop = costs.hop[
            each[..., None, None], kinds[:, None, None], at[..., None], at[:, :, None]
        ]  # (B, U, K, K)
        cuts = np.arange(1, blocks)
        self._head, self._tail = cuts * (cuts - 1) // 2, run_at(0, blocks) + cuts  # (C,) runs before and behind a cut
        self._whole = self._enter + self._run[:, run_at(0, blocks)] + self._leave
        self._two = (self._enter[:, None] + self._run[:, self._head])[..., None] + self._hop[:, self._kind[1:-1]]
        self._two += (self._run[:, self._tail] + self._leave[:, None])[:, :, None]

    @property
    def count(self) -> int:
        return len(self._nodes)

    def _left(self, through: Floats) -> tuple[Indices, Floats]:
        """(B, K) the nodes that are left; (B,) the least of rows that use any other."""
        streams, nodes = through.shape
        most = int((MOST / (streams * self._blocks)) ** 0.5)
        width = max(1, min(int((through < self._limit_us[:, None]).sum(axis=1).max()), nodes, most))
        order = np.argsort(through, axis=1, kind="stable")
        others = np.take_along_axis(through, order[:, width:], axis=1).min(axis=1, initial=np.inf)
        return np.sort(order[:, :width], axis=1), others

    def priced(self, extra: Extra) -> tuple[Floats, Floats]:
        """(B, K) what whole rows cost when runs pay something extra, (B, C, K, K) what rows with a cut do."""
        shape, runs = self._nodes.shape, np.concatenate((self._head, self._tail, [run_at(0, self._blocks)]))
        run, b, k = (part.ravel() for part in np.indices((len(runs), *shape)))
        run = runs[run]
        more = np.maximum(extra(b, self._nodes[b, k], self._rho(b, run, k)), 0.0)
        paid, cuts = more.reshape(len(runs), *shape).transpose(1, 0, 2), len(self._head)
        two = self._two + paid[:, :cuts, :, None]
        two += paid[:, cuts : 2 * cuts, None]
        return self._whole + paid[:, -1], two

    def listed(self, whole: Floats, two: Floats, limit_us: Floats) -> tuple[Listed, Floats]:
        """Those that are `priced` below the limit of their stream; (M,) their prices."""
        group, pick, hosts = self._picked.group, self._picked.streams, len(self._picked.group.table.memory)
        b, a = np.nonzero(whole < limit_us[:, None])
        owner, cut, start, end = np.nonzero(two < limit_us[:, None, None, None])
        order = np.argsort(np.concatenate((b, owner)), kind="stable")
        values, costs = (
            np.concatenate((wholes[b, a], twos[owner, cut, start, end]))[order]
            for wholes, twos in ((whole, two), (self._whole, self._two))
        )
        split = order >= len(b)
        cuts = np.concatenate((np.full_like(b, self._blocks), cut + 1))[order]
        owner, first, last = (np.concatenate(part)[order] for part in ((b, owner), (a, start), (a, end)))
        ways, wires = group.ways(pick, owner, self._at[owner, first], self._at[owner, last], cuts % self._blocks)
        one, other = self._nodes[owner, first], self._nodes[owner, last]
        behind = run_at(0, self._blocks) + np.minimum(cuts, self._blocks - 1)
        loads = self._rho(owner, cuts * (cuts - 1) // 2, first), self._rho(owner, behind, last)
        place = np.column_stack((one * (hosts + 1), np.where(split, other * (hosts + 1), NOWHERE), ways))
        rho = np.column_stack((loads[0], np.where(split, loads[1], 0.0), wires))
        return Listed(owner, costs, place, rho, one, other, cuts, np.full_like(cuts, self._blocks)), values

    def _rho(self, b: Indices, run: Indices, k: Indices) -> Floats:
        """(M,) utilisation of nodes by runs."""
        return self._picked.group.utilisations(self._picked.streams, b, run, self._at[b, k])

    def others_us(self, extra: Extra, below_us: Floats) -> Floats:
        """(B,) no row that could not be listed costs less, runs paying something extra; higher ones may be said lower.

        Of rows that cost less than `below_us` (B,) when they do not pay.
        """
        first, last = run_ends(self._blocks)
        limit = np.minimum(self._limit_us, below_us)
        through = self._opened[:, first] + self._run + self._after[:, last]  # (B, P, K) of all rows that have a run
        cheap, among = through < limit[:, None, None], (first > 0) & (last < self._blocks)
        least, inner = self._beyond_us.copy(), cheap[:, among]
        if not inner.any():
            return least
        if np.count_nonzero(cheap) > RUNS:
            return np.asarray(np.minimum(least, through[:, among].min(axis=(1, 2))))
        b, run, k = np.nonzero(cheap)
        paid = np.full_like(through, np.inf)
        paid[b, run, k] = self._run[b, run, k] + np.maximum(extra(b, self._nodes[b, k], self._rho(b, run, k)), 0.0)
        np.minimum.at(least, *self._longer(paid, b[among[run]], run[among[run]], k[among[run]]))
        return least

    def _longer(self, paid: Floats, b: Indices, run: Indices, k: Indices) -> tuple[Indices, Floats]:
        """(M,) the streams, and the least of rows that have a run with others on both sides; see above."""
        first, last = run_ends(self._blocks)
        work = self._picked.group.work
        middle = int(np.searchsorted(work, work[-1] / 2, side="left")) - 1
        heads = np.where((first <= middle)[:, None], self._opened[:, first] + paid, np.inf)
        tails = np.where((last > middle)[:, None], self._after[:, last] + paid, np.inf)
        order, begins = _by_first(self._blocks)
        before = np.minimum.reduceat(heads[:, : run_at(0, self._blocks)], self._head, axis=1)  # (B, C, K)
        behind = np.minimum.reduceat(tails[:, order], begins, axis=1)
        i, j = first[run], last[run]
        one, other, where = _two_least(before[b, i - 1] + self._hop[b, self._kind[i], :, k])
        then, later, there = _two_least(self._hop[b, self._kind[j], k] + behind[b, j - 1])
        apart = np.where(where != there, one + then, np.minimum(one + later, other + then))
        again = np.maximum(self._opened[b, i, k] + then, one + self._after[b, j, k])
        return b, paid[b, run, k] + np.minimum(apart, again)


@lru_cache(64)
def _by_first(blocks: int) -> tuple[Indices, Indices]:
    """(P,) the runs by their first blocks, and (C,) where those begin that begin behind a cut."""
    first, last = run_ends(blocks)
    order = np.lexsort((last, first))
    return order, np.searchsorted(first[order], np.arange(1, blocks))


def _two_least(values: Floats) -> tuple[Floats, Floats, Indices]:
    """(M,) the least of (M, K), the second, and where the least is."""
    every, where = np.arange(len(values)), values.argmin(axis=1)
    least = values[every, where]
    values[every, where] = np.inf
    return least, values.min(axis=1), where


def joined(parts: Sequence[Listed], streams: Sequence[int]) -> Listed:
    """Those of several groups, of so many streams each, those of the first one first."""
    firsts = np.cumsum([0, *streams])
    owner = np.concatenate([part.owner + first for part, first in zip(parts, firsts[:-1], strict=True)])
    others = ([getattr(part, field.name) for part in parts] for field in fields(Listed)[1:])
    return Listed(owner, *(np.concatenate(values) for values in others))
