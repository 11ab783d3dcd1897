"""The cheapest rows of chains of blocks: an exact dynamic programme over cuts and nodes, many streams at once. Pure.

State (j, n) is "blocks 0..j-1 are done, the last run was on n". Revisits are allowed: O(L^2 K) runs + O(L K^2) hops, K
being the nodes considered.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from controller.chain import Costs, Indices, run_at
from controller.table import Floats, Row


@dataclass(frozen=True, slots=True)
class Best:
    cost_us: float
    row: Row


def solve(costs: Costs, known: tuple[Floats, Floats] | None = None) -> list[Best | None]:
    """The cheapest row of each stream, None where there is none. `known`: the `tables`, if they are."""
    opened, closed = known or tables(costs)
    total = closed[:, -1] + costs.leave
    ends = total.argmin(axis=1).tolist()
    return [
        Best(float(total[b, n]), _walk_back(costs, opened, closed, b, n)) if np.isfinite(total[b, n]) else None
        for b, n in enumerate(ends)
    ]


def tables(costs: Costs) -> tuple[Floats, Floats]:
    """(B, L+1, K) ready to start block i on n; (B, L+1, K) blocks 0..j-1 are done, the last run was on n."""
    streams, _, nodes = costs.run.shape
    blocks = len(costs.kind) - 1
    run, hop = costs.run.swapaxes(0, 1), np.moveaxis(costs.hop, 0, 2)  # (P, B, K), (U, from, B, to)
    opened, closed = (np.full((blocks + 1, streams, nodes), np.inf) for _ in range(2))
    opened[0] = costs.enter
    for j in range(1, blocks + 1):
        at = run_at(0, j)
        np.minimum.reduce(opened[:j] + run[at : at + j], axis=0, out=closed[j])
        if j < blocks:
            np.minimum.reduce(closed[j].T[:, :, None] + hop[costs.kind[j]], axis=0, out=opened[j])
    return opened.swapaxes(0, 1), closed.swapaxes(0, 1)


def _walk_back(costs: Costs, opened: Floats, closed: Floats, b: int, node: int) -> Row:
    """The choices are found again where the way goes, which is cheaper than to note all of them."""
    row: list[int] = []
    j = len(costs.kind) - 1
    while j > 0:
        at = run_at(0, j)
        i = int((opened[b, :j, node] + costs.run[b, at : at + j, node]).argmin())
        row[:0] = [int(costs.nodes[b, node])] * (j - i)
        if i:
            node = int((closed[b, i] + costs.hop[b, costs.kind[i], :, node]).argmin())
        j = i
    return tuple(row)


@lru_cache(4096)
def runs_from(first: int, blocks: int) -> Indices:
    """The positions of the runs that begin with a block, the shortest first."""
    last = np.arange(first + 1, blocks + 1)
    return np.asarray(last * (last - 1) // 2 + first)


def still_to_pay(costs: Costs) -> tuple[Floats, Floats]:
    """(B, L, K) ready to begin a run with block i on k; (B, L+1, K) a run on k ends before block j."""
    streams, _, nodes = costs.run.shape
    blocks = len(costs.kind) - 1
    run, hop = costs.run.swapaxes(0, 1), costs.hop.transpose(1, 3, 0, 2).copy()  # (P, B, K), (U, to, B, from)
    ready, after = (np.full((blocks + more, streams, nodes), np.inf) for more in (0, 1))
    after[blocks] = costs.leave
    for j in range(blocks, 0, -1):
        if j < blocks:
            np.minimum.reduce(hop[costs.kind[j]] + ready[j].T[:, :, None], axis=0, out=after[j])
        at = run_at(0, j)
        np.minimum(ready[:j], run[at : at + j] + after[j], out=ready[:j])
    return ready.swapaxes(0, 1), after.swapaxes(0, 1)
