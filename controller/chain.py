"""The best place for one chain of blocks: an exact dynamic programme over contiguous cuts and nodes.

A placement is a sequence of runs; state (j, n) is "blocks 0..j-1 are done, the last run was on n". Each run pays
for itself as a whole (compute, wait with its own load, what it makes others wait, memory), so that the wait may
be any function of the run; each change of node pays a hop. Revisits are allowed: O(L^2 N) runs + O(L N^2) hops.
Privacy, nodes that are down and runs too big for a node are infinite cost.

What a run cannot see is another run of the same stream on the same node. Their memory together is repaired
by branch and bound: whichever of their blocks is elsewhere, one branch has it. Their waits together are
only seen by `cost.predict`; the programme is then a lower bound.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.cost import (
    Bools,
    Floats,
    Load,
    Row,
    Rows,
    Table,
    backlog_us,
    distinct_runs,
    load_of,
    memory_bytes,
    resident,
    runs,
    speed_now,
    wait_us,
)
from controller.model import Snapshot

BRANCHES = 64  # nodes of the branch and bound tree; reached only under hard memory pressure

Overfull = tuple[int, tuple[int, ...]]  # a node, and the blocks of which at least one must go


@dataclass(frozen=True, slots=True, eq=False)
class ChainCost:
    """What the programme minimises, infinite where forbidden."""

    run: Floats  # (L+1, L+1, N): blocks i..j-1 on n
    hop: tuple[Floats, ...]  # L+1 of (N, N), diagonal infinite: crossing before block l
    enter: Floats  # (N,)
    leave: Floats  # (N,)


@dataclass(frozen=True, slots=True)
class Best:
    cost_us: float
    row: Row
    relaxed: int  # table entries looked at


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """What is left for a stream: bytes free on each host, and what of its model is there already."""

    free: Floats  # (N,)
    held: Bools  # (L, N) blocks
    loaded: frozenset[tuple[int, int, int]] = frozenset()  # runs (first, last, node), their working set with them


def room_beside(table: Table, stream: str, others: Rows, loaded: Rows) -> Room:
    """The room of a stream when `others` are placed and `loaded` stays loaded until the move is over."""
    free = table.memory - memory_bytes(table, others, loaded)
    model = table.streams[stream].model
    same = frozenset(run[1:] for run in distinct_runs(table, others, loaded) if run[0] == model)
    return Room(free, resident(table, others, loaded)[model], same)


def alone(table: Table, snapshot: Snapshot, stream: str) -> Best | None:
    """The best of a stream that has the world and its memory to itself, None when it has no path: a lower bound."""
    room = Room(table.memory, np.zeros(table.chain(stream).allowed.shape, dtype=bool))
    empty = load_of(table, snapshot, {}, {})
    return solve(chain_cost(table, snapshot, stream, others=empty, weight=1.0, room=room))


@dataclass(frozen=True, slots=True, eq=False)
class _Beside:
    """Whom a stream shares with, and how much its own latency counts against theirs."""

    others: Load
    weight: float


def chain_cost(table: Table, snapshot: Snapshot, stream: str, *, others: Load, weight: float, room: Room) -> ChainCost:
    """The costs of one stream given the load of the others; `weight` counts its latency against theirs."""
    data, source = table.chain(stream).data, table.source(stream)
    load = _Beside(others, weight)
    by_size = {size: _hop_cost(table, snapshot, stream, size, load) for size in np.unique(data).tolist()}
    hop = tuple(by_size[size] for size in data.tolist())
    enter, leave = hop[0][source].copy(), hop[-1][:, source].copy()
    enter[source] = leave[source] = 0.0
    run = _run_cost(table, snapshot, stream, load)
    run[~_run_allowed(table, stream, room)] = np.inf
    return ChainCost(run, hop, enter, leave)


def _run_cost(table: Table, snapshot: Snapshot, stream: str, beside: _Beside) -> Floats:
    per_us, others, weight = 1.0 / table.streams[stream].period_us, beside.others, beside.weight
    work, backlog, speed = table.chain(stream).work, backlog_us(snapshot), speed_now(table, snapshot)
    up = speed > 0
    time = (work[None, :, None] - work[:, None, None]) / np.where(up, speed, 1.0)
    time = np.maximum(time, 0.0)  # (i, j, n); j <= i is never used
    before = np.maximum(backlog, wait_us(others.node_rho, others.node_square))
    wait = np.maximum(backlog, wait_us(others.node_rho + per_us * time, others.node_square + per_us * time * time))
    cost = weight * (time + wait) + others.node_uses * (wait - before)
    return np.where(up, cost, np.inf)


def _run_allowed(table: Table, stream: str, room: Room) -> Bools:
    chain = table.chain(stream)
    blocks = len(chain.weight)
    zero = np.zeros((1, len(table.memory)))
    refused = np.concatenate((zero, np.cumsum(~chain.allowed, axis=0)))  # (L+1, N)
    weight = np.concatenate((zero, np.cumsum(chain.weight[:, None] * ~room.held, axis=0)))
    working = np.zeros((blocks + 1, blocks + 1))
    for i in range(blocks):
        working[i, i + 1 :] = np.maximum.accumulate(chain.working[i:])
    need = weight[None] - weight[:, None] + working[:, :, None]
    for first, last, n in room.loaded:
        need[first, last, n] -= working[first, last]
    return np.asarray((refused[None] == refused[:, None]) & (need <= room.free), dtype=bool)


def _hop_cost(table: Table, snapshot: Snapshot, stream: str, size: float, beside: _Beside) -> Floats:
    per_us, others, weight = 1.0 / table.streams[stream].period_us, beside.others, beside.weight
    there = snapshot.rate_bps > 0
    time = size * 8e6 / np.where(there, snapshot.rate_bps, 1)
    before = wait_us(others.path_rho, others.path_square)
    wait = wait_us(others.path_rho + per_us * time, others.path_square + per_us * time * time)
    own = time + wait + snapshot.delay_us + table.problem.hop_overhead_us
    cost = np.where(there, weight * own + others.path_uses * (wait - before), np.inf)
    np.fill_diagonal(cost, np.inf)
    return cost


def solve(cost: ChainCost, forbidden: frozenset[tuple[int, int]] = frozenset()) -> Best | None:
    """The cheapest row, None when there is none; `forbidden` holds (block, node) that must not be."""
    run = _without(cost.run, forbidden)
    blocks, nodes = run.shape[0] - 1, run.shape[2]
    opened = np.full((blocks + 1, nodes), np.inf)  # ready to start block i on n
    opened[0] = cost.enter
    closed = opened[0]
    start = np.zeros((blocks + 1, nodes), dtype=np.intp)  # where the last run began
    came = np.zeros((blocks + 1, nodes), dtype=np.intp)  # the node before it
    everyone, relaxed = np.arange(nodes), 0
    for j in range(1, blocks + 1):
        ways = opened[:j] + run[:j, j]  # (j, N)
        start[j] = ways.argmin(axis=0)
        closed = ways[start[j], everyone]
        relaxed += ways.size
        if j < blocks:
            over = closed[:, None] + cost.hop[j]  # (N, N)
            came[j] = over.argmin(axis=0)
            opened[j] = over[came[j], everyone]
            relaxed += over.size
    total = closed + cost.leave
    last = int(total.argmin())
    if not np.isfinite(total[last]):
        return None
    return Best(float(total[last]), _walk_back(start, came, last), relaxed)


def _without(run: Floats, forbidden: frozenset[tuple[int, int]]) -> Floats:
    if not forbidden:
        return run
    run = run.copy()
    for block, node in forbidden:
        run[: block + 1, block + 1 :, node] = np.inf
    return run


def _walk_back(start: npt.NDArray[np.intp], came: npt.NDArray[np.intp], node: int) -> Row:
    row: list[int] = []
    j = start.shape[0] - 1
    while j > 0:
        i = int(start[j, node])
        row[:0] = [node] * (j - i)
        node, j = int(came[i, node]), i
    return tuple(row)


def solve_within(cost: ChainCost, overfull: Callable[[Row], Overfull | None]) -> Best | None:
    """The cheapest row that overfills no node; None when there is none within `BRANCHES` branches."""
    best = solve(cost)
    heap: list[tuple[float, int, Best, frozenset[tuple[int, int]]]] = []
    if best:
        heap.append((best.cost_us, 0, best, frozenset()))
    made = 1
    while heap:
        _, _, best, forbidden = heapq.heappop(heap)
        trouble = overfull(best.row)
        if trouble is None:
            return best
        node, blocks = trouble
        for block in blocks:
            tighter = forbidden | {(block, node)}
            if made >= BRANCHES or (child := solve(cost, tighter)) is None:
                continue
            heapq.heappush(heap, (child.cost_us, made, child, tighter))
            made += 1
    return None


def overfull_in(table: Table, stream: str, room: Room) -> Callable[[Row], Overfull | None]:
    """Says which node a row of `stream` overfills, if any, all its runs there taken together."""
    chain = table.chain(stream)

    def check(row: Row) -> Overfull | None:
        visits: dict[int, list[int]] = {}
        need: dict[int, float] = {}
        for first, last, node in runs(row):
            visits.setdefault(node, []).extend(range(first, last))
            need[node] = need.get(node, 0.0) + float(chain.weight[first:last] @ ~room.held[first:last, node])
            if (first, last, node) not in room.loaded:
                need[node] += float(chain.working[first:last].max())
        for node, blocks in visits.items():
            if need[node] > room.free[node]:
                return node, tuple(blocks)
        return None

    return check
