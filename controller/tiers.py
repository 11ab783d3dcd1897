"""Which nodes are worth considering for a stream, and a proof for the others. Pure.

A hop costs at least the delay and the transfer of its factors (`controller.sited`): what leaves a node, what lies
between two sites, what enters a node. So the programme over blocks and nodes can be run with O(N + S^2) a block, not
O(N^2): the best node of each site, all pairs of sites, then every node of the site. Run forwards and backwards it says
for each node what a row through it costs at least, when nobody else is there and memory is no matter. The nodes with
the least are considered; what the best of the others would cost is a bound for all rows that use any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.chain import Indices
from controller.cost import backlog_us, spare_now, wait_us
from controller.model import Snapshot
from controller.sited import factors
from controller.table import Floats, Table

WIDTH = 32  # nodes considered for a stream, and all where there are no more
FEWEST = 12


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    nodes: tuple[Indices, ...]  # of each stream, ascending; equal lengths
    beyond_us: tuple[float, ...]  # a row that uses any other node costs at least this


def frontier(table: Table, snapshot: Snapshot, streams: Sequence[str], kept: Sequence[set[int]]) -> Frontier:
    """For streams of one model. `kept`: nodes that are considered whatever they cost, the phone being one."""
    hosts = len(table.memory)
    if hosts <= WIDTH:
        return Frontier((np.arange(hosts),) * len(streams), (float("inf"),) * len(streams))
    least = through_us(table, snapshot, streams)  # (B, N)
    whole = np.array([_whole_us(table, snapshot, stream) for stream in streams])
    for b, nodes in enumerate(kept):
        least[b, list(nodes)] = -1.0
    worth = int((least < whole[:, None]).sum(axis=1).max(initial=0))
    width = min(max(worth, FEWEST, *map(len, kept)), max(WIDTH, *map(len, kept)), hosts)
    order = np.argpartition(least, min(width, hosts - 1), axis=1)
    chosen = tuple(np.sort(row[:width]) for row in order)
    beyond = np.take_along_axis(least, order[:, width:], axis=1).min(axis=1, initial=np.inf)
    return Frontier(chosen, tuple(beyond.tolist()))


def _whole_us(table: Table, snapshot: Snapshot, stream: str) -> float:
    """The cost of all blocks on one node, the best one that is big enough, when nobody else is there."""
    chain, source, period_us = table.chain(stream), table.source(stream), table.streams[stream].period_us
    spare, everyone = spare_now(snapshot), np.arange(len(table.memory))
    fits = chain.allowed.all(axis=0) & (chain.weight.sum() + chain.working.max() <= table.memory) & (spare > 0)
    time = chain.time[-1] / np.where(spare > 0, spare, np.inf)
    total = time + np.maximum(backlog_us(snapshot), wait_us(time / period_us, time * time / period_us))
    for size, a, b in ((chain.data[0], source, everyone), (chain.data[-1], everyone, source)):
        rate = np.asarray(snapshot.rate_bps[a, b])
        time = size * 8e6 / np.where(rate > 0, rate, 1)
        wait = wait_us(time / period_us, time * time / period_us)
        hop = time + wait + np.asarray(snapshot.delay_us[a, b]) + table.problem.hop_overhead_us
        total = total + np.where(everyone == source, 0.0, np.where(rate > 0, hop, np.inf))
    return float(np.where(fits, total, np.inf).min())


def through_us(table: Table, snapshot: Snapshot, streams: Sequence[str]) -> Floats:
    """(B, N) the least that a row of each stream costs if it uses the node; of streams of one model."""
    tiers = _Tiers(table, snapshot, streams)
    blocks = len(tiers.work)
    done = [tiers.enter + tiers.wait + tiers.work[0]]  # block j has run
    for j in range(1, blocks):
        ready = tiers.over(done[-1], j)
        done.append(np.minimum(done[-1], ready + tiers.wait) + tiers.work[j])
    best, left = np.full_like(done[0], np.inf), tiers.leave  # `left`: still to pay when block j has run
    for j in range(blocks - 1, -1, -1):
        np.minimum(best, done[j] + left, out=best)
        if j:
            ready = left + tiers.work[j]
            left = np.minimum(ready, tiers.back(ready + tiers.wait, j))
    through = np.empty_like(best)
    through[:, tiers.order] = best
    return np.asarray(through, dtype=np.float64)


class _Tiers:
    """Nodes in the order of their sites, so that the best of each site is one reduction."""

    def __init__(self, table: Table, snapshot: Snapshot, streams: Sequence[str]) -> None:
        f = factors(snapshot.delay_us, snapshot.rate_bps)
        chain, self._f, self.order = table.chain(streams[0]), f, f.sites.order
        spare = spare_now(snapshot)[self.order]
        may = np.array([table.chain(s).allowed for s in streams])
        if all(table.chain(s) is chain for s in streams):
            may = may[:1]
        time = np.diff(chain.time[:, self.order], axis=0) / np.where(spare > 0, spare, np.inf)
        self.work = np.where(may[:, :, self.order] & (spare > 0), time, np.inf).transpose(1, 0, 2)  # (L, B, N)
        self.wait = backlog_us(snapshot)[self.order]
        source = np.array([table.source(s) for s in streams])[:, None]
        self._overhead = table.problem.hop_overhead_us
        self.enter = self._ends(snapshot, source, self.order, chain.data[0])
        self.leave = self._ends(snapshot, self.order, source, chain.data[-1])
        wire = {size: size * 8e6 / np.where(f.rate > 0, f.rate, 1e-9) for size in chain.data.tolist()}
        between = {size: f.delay + part for size, part in wire.items()}
        slower = {size: size * 8e6 / np.where(f.rate_in > 0, f.rate_in, 1e-9) + f.delay_in for size in wire}
        self._between = [between[size] for size in chain.data.tolist()]  # (S, S) of the cut before each block
        self._slower = [slower[size] for size in chain.data.tolist()]  # (N,) what entering a node costs alone

    def _ends(self, snapshot: Snapshot, a: Indices, b: Indices, size: float) -> Floats:
        """(B, N) from the phone, or back to it: not relaxed."""
        rate = np.asarray(snapshot.rate_bps[a, b])
        hop = size * 8e6 / np.where(rate > 0, rate, 1) + np.asarray(snapshot.delay_us[a, b]) + self._overhead
        return np.where(a == b, 0.0, np.where(rate > 0, hop, np.inf))

    def _best(self, values: Floats) -> Floats:
        """(B, S)"""
        return np.asarray(np.minimum.reduceat(values, self._f.sites.starts, axis=1), dtype=np.float64)

    def over(self, done: Floats, cut: int) -> Floats:
        """Ready on each node, coming from the best other one: the middle, or the access alone, whichever is more."""
        best = self._best(done + self._f.delay_out)
        ready = (best[:, :, None] + self._between[cut]).min(axis=1) + self._overhead
        through = np.repeat(ready, self._f.sites.sizes, axis=1)
        through += self._f.delay_in
        alone = best.min(axis=1, keepdims=True) + self._overhead + self._slower[cut]
        np.maximum(through, alone, out=through)
        return through

    def back(self, ready: Floats, cut: int) -> Floats:
        """Still to pay on each node when the next block runs on the best other one."""
        best = self._best(ready + self._f.delay_in)
        left = (self._between[cut] + best[:, None]).min(axis=2)
        alone = (ready + self._slower[cut]).min(axis=1, keepdims=True)
        through = np.repeat(np.maximum(left, alone) + self._overhead, self._f.sites.sizes, axis=1)
        through += self._f.delay_out
        return through
