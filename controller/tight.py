"""What chains of blocks cost and need of the memory of the nodes; several of them may be put end to end. Pure.

Here each run has two figures on each node: what it costs, and the bytes that it adds. With a price for each byte the
programme over cuts and nodes says what is still to pay, memory paid for. Whatever the prices are, less what all free
memory is worth no row that fits can cost less (Lagrange).

Streams of one model share the blocks that they have in common. Each is charged an equal part of what it needs: what
they hold together is at least the mean of what each of them does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controller.chain import Costs, Group, Indices, Room, square
from controller.table import Bools, Floats, Row

DULL = 0.7  # times as far where prices are no better
GUESS = 1.2  # of the bound, where no row is known
PROVEN = 1e-6  # a gap that is rounding

Part = tuple[int, int, int]  # a run: first and last block, position of the node


@dataclass(frozen=True, slots=True, eq=False)
class Tight:
    """L blocks on K nodes: of one chain, or of several that stand end to end."""

    nodes: tuple[int, ...]  # which hosts
    run: Floats  # (L+1, L+1, K) blocks i..j-1, infinite where they may not be
    hop: Floats  # (L, K, K) before block l; of the first block nothing
    enter: Floats  # (K,)
    leave: Floats  # (K,)
    free: Floats  # (K,) bytes
    missing: Floats  # (L, K) bytes of each block
    peak: Floats  # (L+1, L+1) bytes of the working set of each run
    need: Floats  # (L+1, L+1, K) bytes of each run
    charged: Floats  # (L+1, L+1, K) bytes that it pays for
    lengths: tuple[int, ...]  # of the chains
    same: Bools | None = None  # (L, L) blocks that are one in memory, where any are

    @property
    def blocks(self) -> int:
        return len(self.hop)

    def only(self, kept: Indices) -> "Tight":
        """On some of the nodes."""
        nodes, hop = tuple(self.nodes[k] for k in kept.tolist()), self.hop[:, kept[:, None], kept]
        ends = self.enter[kept], self.leave[kept], self.free[kept]
        run, need, charged = (each[:, :, kept] for each in (self.run, self.need, self.charged))
        missing = self.missing[:, kept]
        return Tight(nodes, run, hop, *ends, missing, self.peak, need, charged, self.lengths, self.same)

    def cost_us(self, parts: Sequence[Part]) -> float:
        total = float(self.enter[parts[0][2]] + self.leave[parts[-1][2]])
        total += sum(float(self.run[part]) for part in parts)
        return total + sum(float(self.hop[b[0], a[2], b[2]]) for a, b in pairwise(parts))

    def rows(self, parts: Sequence[Part]) -> list[Row]:
        """The hosts of all blocks, of each chain."""
        hosts, at, found = [self.nodes[k] for first, last, k in parts for _ in range(first, last)], 0, list[Row]()
        for length in self.lengths:
            found.append(tuple(hosts[at : at + length]))
            at += length
        return found


def tight(costs: Costs, group: Group, stream: int, room: Room) -> Tight:
    """Of one stream of a group, of which `costs` are, and what is left of memory."""
    blocks, hosts = group.blocks, costs.nodes[0].tolist()
    need = square(group.need(stream, room), blocks, 0.0)
    peak, run = square(group.largest, blocks, 0.0), square(costs.run[0], blocks)
    hop, ends = costs.hop[0, list(costs.kind[:-1])], (costs.enter[0], costs.leave[0])
    missing = group.missing(stream, room)
    return Tight(tuple(hosts), run, hop, *ends, room.free[hosts], missing, peak, need, need, (blocks,))


def end_to_end(chains: Sequence[Tight], models: Sequence[str]) -> Tight:
    """Chains of these models, on the same nodes: when one is done, the next one begins."""
    if len(chains) == 1:
        return chains[0]
    blocks, nodes = sum(chain.blocks for chain in chains), len(chains[0].free)
    run, (need, charged) = (
        np.full((blocks + 1, blocks + 1, nodes), np.inf),
        np.zeros((2, blocks + 1, blocks + 1, nodes)),
    )
    hop, missing, peak = np.zeros((blocks, nodes, nodes)), np.zeros((blocks, nodes)), np.zeros((blocks + 1, blocks + 1))
    at = 0
    for chain, model in zip(chains, models, strict=True):
        here = slice(at, at + chain.blocks)
        mine = here, slice(at + 1, at + chain.blocks + 1)
        run[mine], need[mine], peak[mine] = chain.run[:-1, 1:], chain.need[:-1, 1:], chain.peak[:-1, 1:]
        charged[mine] = need[mine] / list(models).count(model)
        hop[here], missing[here] = chain.hop, chain.missing
        at += chain.blocks
    at = 0
    for done, begun in pairwise(chains):
        at += done.blocks
        hop[at] = done.leave[:, None] + begun.enter
    first, last, lengths = chains[0], chains[-1], tuple(chain.blocks for chain in chains)
    same = _same(lengths, models) if len(set(models)) < len(models) else None
    ends = first.enter, last.leave, first.free
    return Tight(first.nodes, run, hop, *ends, missing, peak, need, charged, lengths, same)


def _same(lengths: Sequence[int], models: Sequence[str]) -> Bools:
    """(L, L)"""
    which = np.concatenate([np.arange(length) for length in lengths])
    model = np.repeat([list(models).index(model) for model in models], lengths)
    return np.asarray((which[:, None] == which) & (model[:, None] == model))


class Prices:
    """A price of a byte on each node (K,), and what a chain still has to pay with it."""

    def __init__(self, chain: Tight, prices: Floats) -> None:
        self.chain, self.prices, self.worth = chain, prices, float(prices @ chain.free)
        self._priced = chain.run + chain.charged * prices
        blocks = chain.blocks
        self.after = np.full((blocks + 1, len(prices)), np.inf)  # when blocks 0..j-1 are done
        self._ready = np.empty((blocks, len(prices)))  # when the next run is to begin with block i
        self.after[blocks] = chain.leave
        for i in range(blocks - 1, -1, -1):
            np.minimum.reduce(self._priced[i, i + 1 :] + self.after[i + 1 :], axis=0, out=self._ready[i])
            if i:
                np.minimum.reduce(chain.hop[i] + self._ready[i], axis=1, out=self.after[i])
        self.least_us = float((chain.enter + self._ready[0]).min()) - self.worth

    @property
    def ending_us(self) -> Floats:
        """(L+1, L+1, K) from the start of a run to the end at least, memory paid for, less what all memory is worth."""
        return np.asarray(self._priced + (self.after - self.worth))

    @property
    def through_us(self) -> Floats:
        """(K,) what rows that use a node cost at least."""
        chain, blocks, worth = self.chain, self.chain.blocks, self.worth
        ready, found = np.full((blocks, len(self.prices)), np.inf), np.full(len(self.prices), np.inf)
        ready[0] = chain.enter
        for j in range(1, blocks + 1):
            done = np.minimum.reduce(ready[:j] + self._priced[:j, j], axis=0)
            np.minimum(found, done + self.after[j] - worth, out=found)
            if j < blocks:
                np.minimum.reduce(chain.hop[j] + done[:, None], axis=0, out=ready[j])
        return found

    def cheapest(self) -> tuple[list[Part], Floats]:
        """The runs that attain `least_us`, and the (K,) bytes they are charged for."""
        chain, used, i = self.chain, np.zeros(len(self.prices)), 0
        node, found = int((chain.enter + self._ready[0]).argmin()), list[Part]()
        while True:
            j = i + 1 + int((self._priced[i, i + 1 :, node] + self.after[i + 1 :, node]).argmin())
            found.append((i, j, node))
            used[node] += chain.charged[i, j, node]
            if j == chain.blocks:
                return found, used
            node, i = int((chain.hop[j, node] + self._ready[j]).argmin()), j


def climb(
    least: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    free: Floats,
    known_us: Callable[[], float],
    rounds: int,
) -> Floats:
    """The prices (K,) of those tried that give the highest bound: each time by how much too much memory is charged.

    `least` says the bound at some prices, and the (K,) bytes charged there; `known_us` what some rows cost that fit.
    """
    top, best, prices, step = start, -float("inf"), start, 1.0
    for _ in range(rounds):
        least_us, charged = least(prices)
        if least_us > best:
            top, best = prices, least_us
        else:
            step *= DULL
        over = charged - free
        slope = np.where((over < 0) & (prices <= 0), 0.0, over)
        goal = known_us()
        if not np.isfinite(least_us) or best >= goal * (1 - PROVEN) or not slope.any():
            break
        goal = goal if goal < float("inf") else GUESS * abs(best)
        prices = np.maximum(prices + step * (goal - least_us) * slope / float(slope @ slope), 0.0)
    return top
