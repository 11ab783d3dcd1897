"""Which nodes are worth considering for a stream, and a proof for the others. Pure.

A hop costs at least the delay and the transfer of its factors (`controller.sited`): what leaves a node, what lies
between two sites, what enters a node. So the programme over blocks and nodes can be run with O(N + S^2) a block, not
O(N^2): the best node of each site, all pairs of sites, then every node of the site. Run forwards and backwards it says
for each node what a row through it costs at least, beside those that stay (`controller.staying`), when memory is no
matter. The nodes with the least are considered; what the best of the others would cost is a bound for all rows that
use any of them.

Of blocks that are alike a cut may slide at the same cost or less, one way or the other, until it is next to another
cut or at the first or last block. So all but the first and the last `CUTS` of them are one piece, on a node no slower
than those that have one of the same blocks each. A row that has more cuts there has all that it can have at one end,
and goes over *relays* then, nodes that do nothing: this can only be cheaper. What any such row costs at least is a
bound for those that use a node in no other way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from controller.beside import Beside
from controller.chain import Indices
from controller.cost import Load, backlog_us, spare_now, wait_us
from controller.model import Snapshot
from controller.objective import PLAIN, Objective
from controller.sited import factors
from controller.staying import Staying
from controller.table import Floats, Rows, Table

WIDTH = 32  # nodes considered for a stream, and all where there are no more
WIDEST = 300  # of all streams whose best row, waiting for itself, costs more than rows over others may
FEWEST = 12
CUTS = 3  # at either end of blocks that are alike


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    nodes: Indices  # (B, K) of each stream, ascending; (1, K) where they are all nodes there are
    beyond_us: tuple[float, ...]  # a row that uses any other node costs at least this
    least_us: Floats  # (B, N) the least that a row costs if it uses the node; -1 of those that must be considered
    deep_us: Floats  # (B,) and if it uses others as relays only

    def wider(self, below_us: Floats) -> "Frontier":
        """With all nodes, or as many as can be, over which rows may cost less than that (B,), if these are more.

        Where rows over relays may, only all nodes there are can help.
        """
        streams, hosts = self.least_us.shape
        most = min(WIDEST // streams, hosts)
        worth = int((self.least_us < below_us[:, None]).sum(axis=1).max(initial=0))
        width = hosts if most == hosts and (self.deep_us < below_us).any() else min(worth, most)
        return _chosen(self.least_us, self.deep_us, width) if width > self.nodes.shape[1] else self


@dataclass(frozen=True, eq=False)
class Asked:
    """Streams of one model, with how often each counts, beside those that stay."""

    table: Table
    snapshot: Snapshot
    streams: Sequence[str]
    stay: Load = field(default_factory=Load)
    weights: Mapping[str, float] = field(default_factory=dict)  # of streams that do not count once
    objective: Objective = PLAIN
    current: Rows = field(default_factory=dict)

    @property
    def period_us(self) -> Floats:
        """(B, 1)"""
        return np.array([[float(self.table.streams[stream].period_us)] for stream in self.streams])

    @property
    def weight(self) -> Floats:
        """(B, 1)"""
        return np.array([[self.weights.get(stream, 1.0)] for stream in self.streams])

    @property
    def source(self) -> Indices:
        """(B, 1)"""
        return np.array([[self.table.source(stream)] for stream in self.streams])

    @cached_property
    def beside(self) -> Beside | None:
        """What counts beside latency, if anything does."""
        if not self.objective.privacy_us and not self.objective.reconfigure_us:
            return None
        return Beside.of(self.table, self.streams, self.weight, self.objective, self.current)

    @cached_property
    def ends(self) -> list[tuple[Floats, Floats]]:
        """From the phone to each node, and from each node back to it: (B, N) on the wire, and all without waiting.

        Nothing at the phone itself, endless where there is no path.
        """
        every, source, seen = np.arange(len(self.table.memory))[None], self.source, self.snapshot
        data, away, found = self.table.chain(self.streams[0]).data, every != source, list[tuple[Floats, Floats]]()
        for way, size in (((source, every), data[0]), ((every, source), data[-1])):
            rate = np.asarray(seen.rate_bps[way])
            wire = np.where(away, size * 8e6 / np.where(rate > 0, rate, 1), 0.0)
            fixed = np.asarray(seen.delay_us[way]) + self.table.problem.hop_overhead_us
            found.append((wire, np.where(away, np.where(rate > 0, wire + fixed, np.inf), 0.0)))
        return found


def frontier(asked: Asked, kept: Sequence[set[int]]) -> Frontier:
    """`kept`: nodes that are considered whatever they cost, the phone being one."""
    table, streams = asked.table, asked.streams
    hosts = len(table.memory)
    if hosts <= WIDTH:
        endless = np.full(len(streams), np.inf)
        return Frontier(np.arange(hosts)[None], tuple(endless.tolist()), np.empty((len(streams), 0)), endless)
    staying = Staying.of(asked.stay, backlog_us(asked.snapshot))
    least, deep = through_us(asked, staying)
    whole = _whole_us(asked, staying)
    for b, nodes in enumerate(kept):
        least[b, list(nodes)] = -1.0
    worth = int((least < whole[:, None]).sum(axis=1).max(initial=0))
    width = min(max(worth, FEWEST, *map(len, kept)), max(WIDTH, *map(len, kept)), hosts)
    return _chosen(least, deep, width)


def _chosen(least: Floats, deep: Floats, width: int) -> Frontier:
    """The `width` nodes that are worth most."""
    hosts = least.shape[1]
    order = np.argpartition(least, min(width, hosts - 1), axis=1)
    chosen = np.sort(order[:, :width], axis=1)
    beyond = np.take_along_axis(least, order[:, width:], axis=1).min(axis=1, initial=np.inf)
    if width < hosts:
        beyond = np.minimum(beyond, deep)
    return Frontier(chosen if width < hosts else chosen[:1], tuple(beyond.tolist()), least, deep)


def _whole_us(asked: Asked, staying: Staying) -> Floats:
    """(B,) the cost of all blocks on one node, the best one that is big enough."""
    table, period_us = asked.table, asked.period_us
    chains = [table.chain(s) for s in asked.streams]
    chain = chains[0]
    spare = spare_now(asked.snapshot)
    may = np.array(
        [one.allowed.all(axis=0) for one in (chains if any(one is not chain for one in chains) else chains[:1])]
    )
    fits = may & (chain.weight.sum() + chain.working.max() <= table.memory) & (spare > 0)
    time = chain.time[-1] / np.where(spare > 0, spare, np.inf)
    total = time + staying.whole_us(time, period_us, asked.weight)
    for wire, hop in asked.ends:
        total = total + hop + wait_us(wire / period_us, wire * wire / period_us)
    if asked.beside:
        total = total + asked.beside.whole_us()
    return np.asarray(np.where(fits, total, np.inf).min(axis=1))


def through_us(asked: Asked, staying: Staying) -> tuple[Floats, Floats]:
    """(B, N) the least that a row of each stream costs if it uses the node.

    Rows that use it as a relay only are left out; (B,) what they cost at least.
    """
    tiers = _Tiers(asked, staying)
    pieces = range(len(tiers.work))
    done = [tiers.enter + tiers.wait + tiers.work[0]]  # piece j has run
    relayed = dict[int, Floats]()  # ready to run piece j, after relays
    for j in pieces[1:]:
        ready = tiers.over(done[-1], j)
        if j in tiers.middle:
            relayed[j] = tiers.relays_before(j, done[j - CUTS])
            np.minimum(ready, relayed[j], out=ready)
        done.append(np.minimum(done[-1], ready + tiers.wait) + tiers.work[j])
    best, deep = np.full_like(done[0], np.inf), np.full(len(asked.streams), np.inf)
    left = {pieces[-1]: tiers.leave}  # still to pay when piece j has run
    for j in reversed(pieces):
        np.minimum(best, done[j] + left[j], out=best)
        if j:
            ready = left[j] + tiers.work[j]
            if j in tiers.middle:
                deep = np.minimum(deep, (relayed[j] + tiers.wait + ready).min(axis=1))
            left[j - 1] = np.minimum(ready, tiers.back(ready + tiers.wait, j))
            if j - 1 in tiers.middle:
                relays = tiers.relays_behind(j, left[j + CUTS - 1])
                deep = np.minimum(deep, (done[j - 1] + relays).min(axis=1))
                np.minimum(left[j - 1], relays, out=left[j - 1])
    through = np.empty_like(best)
    through[:, tiers.order] = best
    return np.asarray(through, dtype=np.float64), deep


def _settled(values: Floats, hop: Callable[[Floats, int], Floats], cut: int) -> Floats:
    """The least after any number of hops more."""
    while True:
        less = np.minimum(values, hop(values, cut))
        if (less == values).all():
            return values
        values = less


def _pieces(alike: Sequence[tuple[int, int]]) -> tuple[list[int], set[int]]:
    """The first blocks of all pieces and the end; which pieces are more than a block."""
    cuts, middle = list[int](), set[int]()
    for first, last in alike:
        if last - first <= 2 * CUTS + 1:
            cuts += range(first, last)
            continue
        cuts += range(first, first + CUTS + 1)
        middle.add(len(cuts) - 1)
        cuts += range(last - CUTS, last)
    return [*cuts, alike[-1][1]], middle


class _Tiers:
    """Nodes in the order of their sites, so that the best of each site is one reduction."""

    def __init__(self, asked: Asked, staying: Staying) -> None:
        table, snapshot = asked.table, asked.snapshot
        f = factors(snapshot.delay_us, snapshot.rate_bps)
        chains, self._f, self.order = [table.chain(s) for s in asked.streams], f, f.sites.order
        chain, same = chains[0], all(other is chains[0] for other in chains)
        alike, beside = chain.alike if same else list(pairwise(range(len(chain.weight) + 1))), asked.beside
        cuts, self.middle = _pieces(beside.parted(alike) if beside else alike)
        spare = spare_now(snapshot)[self.order]
        may = np.array([other.allowed[cuts[:-1]] for other in (chains[:1] if same else chains)])
        time = np.diff(chain.time[np.array(cuts)[:, None], self.order], axis=0) / np.where(spare > 0, spare, np.inf)
        work = np.where(may[:, :, self.order] & (spare > 0), time, np.inf).transpose(1, 0, 2)
        if asked.stay.nodes:
            work = work * staying.dearer(asked.period_us, asked.weight)[:, self.order]
        if beside:
            work = work + beside.pieces_us(cuts)[:, :, self.order]
        self.work, self.wait = work, staying.wait_us[self.order]  # (pieces, B or 1, N), (N,)
        self._overhead = table.problem.hop_overhead_us
        self.enter, self.leave = (hop[:, self.order] for _, hop in asked.ends)  # not relaxed
        data = chain.data[cuts].tolist()
        wire = {size: size * 8e6 / np.where(f.rate > 0, f.rate, 1e-9) for size in data}
        between = {size: f.delay + part for size, part in wire.items()}
        out, into = (
            {size: size * 8e6 / np.where(rate > 0, rate, 1e-9) + delay for size in wire}
            for rate, delay in ((f.rate_out, f.delay_out), (f.rate_in, f.delay_in))
        )
        self._between = [between[size] for size in data]  # (S, S) of the cut before each piece
        self._out, self._into = [out[size] for size in data], [into[size] for size in data]  # (N,) of the access alone
        self._risk = [beside.coming_us[:, self.order] * risk for risk in beside.risk[cuts].tolist()] if beside else None
        if self._risk:
            self.enter = self.enter + self._risk[0]

    def _best(self, values: Floats) -> Floats:
        """(B, S)"""
        return np.asarray(np.minimum.reduceat(values, self._f.sites.starts, axis=1), dtype=np.float64)

    def over(self, done: Floats, cut: int) -> Floats:
        """Ready on each node, coming from the best other one: as the middle or an access takes, what is slowest."""
        best, left = self._best(done + self._f.delay_out), self._best(done + self._out[cut])
        ready = np.maximum(best[:, :, None] + self._between[cut], left[:, :, None] + self._f.delay).min(axis=1)
        through = np.repeat(ready, self._f.sites.sizes, axis=1)
        through += self._f.delay_in
        np.maximum(through, best.min(axis=1, keepdims=True) + self._into[cut], out=through)
        through += self._overhead
        if self._risk:
            through += self._risk[cut]
        return through

    def back(self, ready: Floats, cut: int) -> Floats:
        """Still to pay on each node when the next block runs on the best other one."""
        if self._risk:
            ready = ready + self._risk[cut]
        best, entered = self._best(ready + self._f.delay_in), self._best(ready + self._into[cut])
        left = np.maximum(self._between[cut] + best[:, None], self._f.delay + entered[:, None]).min(axis=2)
        through = np.repeat(left, self._f.sites.sizes, axis=1)
        through += self._f.delay_out
        np.maximum(through, best.min(axis=1, keepdims=True) + self._out[cut], out=through)
        through += self._overhead
        return through

    def relays_before(self, j: int, done: Floats) -> Floats:
        """Ready to run the middle piece j after a cut at each block before it, the first one done; and relays."""
        for i in range(j - CUTS + 1, j):
            done = self.over(done, i) + self.wait + self.work[i]
        return _settled(self.over(self.over(done, j), j), self.over, j)

    def relays_behind(self, j: int, left: Floats) -> Floats:
        """Still to pay before piece j: relays, and a cut at each block from it on, `left` behind the last one."""
        for i in range(j + CUTS - 1, j - 1, -1):
            left = self.back(left + self.work[i] + self.wait, i)
        return _settled(self.back(left, j), self.back, j)
