"""What chains of blocks cost wherever they are placed, many streams at once: what `programme` minimises.

A placement is a sequence of runs. Each run pays for itself as a whole (compute, wait with its own load, what it makes
others wait, memory), so that the wait may be any function of the run; each change of node pays a hop. Privacy, nodes
that are down and runs too big for a node are infinite cost.

What a run cannot see is another run of the same stream on the same node. Their memory together is the business of
`labels`; their waits together are only seen by `cost.predict`; what is minimised is then a lower bound.

Streams of one model are costed together (`Group`), arrays having a leading axis for them. Runs i..j-1 stand at position
j * (j - 1) / 2 + i, so that those that end at j lie together. In memory runs, and the nodes that are left, lie
outermost: the programme takes the least of them, and so of all streams and nodes in one go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from controller.cost import Load, backlog_us, spare_now, wait_us
from controller.crowd import Crowd, crowded
from controller.memory import Loaded
from controller.model import Snapshot
from controller.objective import PLAIN, SLIGHT, Objective
from controller.table import Bools, Floats, Row, Rows, Table, runs

Overfull = tuple[int, tuple[int, ...]]  # a node, and the blocks of which at least one must go
Indices = npt.NDArray[np.intp]
LIGHT = 1e-9  # the least weight: what counts nothing still cannot be everywhere


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """What is left for a stream: bytes free on each host, and what of its model is there already."""

    free: Floats  # (N,)
    held: Bools  # (L, N) blocks
    loaded: frozenset[tuple[int, int, int]] = frozenset()  # runs (first, last, node), their working set with them


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What the programme minimises, infinite where forbidden: B streams, P runs, U kinds of cut, K nodes."""

    nodes: Indices  # (B, K) which hosts
    run: Floats  # (B, P, K)
    hop: Floats  # (B, U, K, K), diagonal infinite
    kind: tuple[int, ...]  # L+1, of the cut before block l
    enter: Floats  # (B, K)
    leave: Floats  # (B, K)

    def only(self, b: int) -> "Costs":
        """Of one stream."""
        part = slice(b, b + 1)
        return Costs(self.nodes[part], self.run[part], self.hop[part], self.kind, self.enter[part], self.leave[part])

    @property
    def relaxed(self) -> int:
        """Table entries that a solution looks at."""
        streams, count, nodes = self.run.shape
        return int(streams * nodes * (count + (len(self.kind) - 2) * nodes))


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """What a stream brings wherever it is: P runs, U kinds of cut, K nodes, `home` the phone among them."""

    home: int
    per_us: float  # requests
    time: Floats  # (P, K) of runs, without waiting
    wire: Floats  # (U, K, K) of hops, the same
    backlog_us: Floats  # (K,)


def room_beside(table: Table, stream: str, others: Rows, loaded: Rows) -> Room:
    """The room of a stream when `others` are placed and `loaded` stays loaded until the move is over."""
    return room_in(table, stream, Loaded(table, others, loaded), {})


def room_in(table: Table, stream: str, loaded: Loaded, more: Rows) -> Room:
    """The room of a stream beside what is loaded, and more rows."""
    model = table.streams[stream].model
    same, held = loaded.runs(model, more), np.zeros(table.chains[model].allowed.shape, dtype=bool)
    for first, last, n in same:
        held[first:last, n] = True
    return Room(table.memory - loaded.used_with(more), held, same)


@lru_cache(maxsize=64)
def run_ends(blocks: int) -> tuple[Indices, Indices]:
    """(P,) the first block of each run, and the one behind its last."""
    last = np.repeat(np.arange(1, blocks + 1), np.arange(1, blocks + 1))
    return np.arange(len(last)) - last * (last - 1) // 2, last


def run_at(first: int, last: int) -> int:
    return last * (last - 1) // 2 + first


class Group:
    """Streams of one model in one snapshot, each on the nodes considered for it; `nodes` is (B, K), or (1, K) for all.

    The source of a stream must be among its nodes. `as_one`: the streams all go the same way, and are the first one
    here with the rates of all of them; ways from and to the phone are still its own alone.
    """

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        streams: Sequence[str],
        nodes: Indices,
        objective: Objective = PLAIN,
        *,
        as_one: bool = False,
    ) -> None:
        self.table, self.streams, self.nodes, self._objective = table, tuple(streams), nodes, objective
        chain = table.chain(streams[0])
        self.blocks, self._first, self._last = len(chain.weight), *run_ends(len(chain.weight))
        self.work = chain.work
        self.place = [{n: k for k, n in enumerate(row)} for row in nodes.tolist()]
        self._at = np.full((len(nodes), len(table.memory)), -1)  # of each host, -1 where it is not considered
        np.put_along_axis(self._at, nodes, np.arange(nodes.shape[1])[None], axis=1)
        self._per_us = np.array([1.0 / table.streams[s].period_us for s in streams])
        if as_one:
            self._per_us = self._per_us.sum(keepdims=True)
        spare = spare_now(snapshot)[nodes][:, None]
        self._backlog = backlog_us(snapshot)[nodes][:, None]
        until = chain.time[:, nodes]  # (L+1, B, K)
        time = until[self._last] - until[self._first]  # (P, B, K)
        self._time = time.transpose(1, 0, 2) / np.where(spare > 0, spare, np.inf)  # (B, P, K)
        self.largest = _largest(chain.working, self._first, self._last)
        may = self._open(spare[:, 0] > 0)
        self._barrier = np.where(may.all(axis=0, keepdims=True) if as_one else may, 0.0, np.inf)
        alike = len(nodes) == 1 and len(set(self._per_us.tolist())) == 1
        per_us = self._per_us[: 1 if alike else None, None, None]
        own = per_us * self._time
        self._quiet = self._time + np.maximum(wait_us(own, own * self._time), self._backlog) + self._barrier
        self._rho = own
        if objective.limited:
            self._quiet[np.broadcast_to(own > objective.max_utilisation + SLIGHT, self._quiet.shape)] = np.inf
        self._hops(snapshot, per_us[..., None])

    def _each(self, row: int) -> int:
        return row if len(self.nodes) > 1 else 0

    def _open(self, up: Bools) -> Bools:
        """(B, P, K) where a run may be: privacy, pins, vetoes, nodes that are up and big enough for it alone."""
        table, ways = self.table, [self.table.chain(s) for s in self.streams]
        if all(way is ways[0] for way in ways) and len(self.nodes) == 1:
            ways = ways[:1]
        allowed = np.array([way.allowed[:, self.nodes[self._each(b)]] for b, way in enumerate(ways)])
        refused = np.concatenate((np.zeros_like(allowed[:, :1], dtype=int), np.cumsum(~allowed, axis=1)), axis=1)
        weight = np.concatenate(([0.0], np.cumsum(ways[0].weight)))
        need = (weight[self._last] - weight[self._first] + self.largest)[:, None]
        fits = need <= table.memory[self.nodes][:, None]
        return np.asarray((refused[:, self._last] == refused[:, self._first]) & fits & up[:, None])

    def _hops(self, snapshot: Snapshot, per_us: Floats) -> None:
        """Times of all hops, by kind: how much crosses, and how sensitive it is."""
        table, chain = self.table, self.table.chain(self.streams[0])
        risk = chain.risk if self._objective.privacy_us else np.zeros_like(chain.risk)
        crossing = list(zip(chain.data.tolist(), risk.tolist(), strict=True))
        kinds = list(dict.fromkeys(crossing))
        self._kind = tuple(kinds.index(cut) for cut in crossing)
        a, b = self.nodes[:, :, None], self.nodes[:, None, :]
        rate, delay = np.asarray(snapshot.rate_bps[a, b]), np.asarray(snapshot.delay_us[a, b])
        there = (rate > 0) & (a != b)
        size = np.array([size for size, _ in kinds])[:, None, None] * 8e6
        self._wire = size / np.where(there, rate, 1)[:, None]  # (B, U, K, K)
        self._beside_wire = np.where(there, delay + table.problem.hop_overhead_us, np.inf)[:, None]
        own = per_us * self._wire
        self._silent = self._wire + wait_us(own, own * self._wire) + self._beside_wire
        if self._objective.limited:
            self._silent[np.broadcast_to(own > self._objective.max_link_share + SLIGHT, own.shape)] = np.inf
        if self._objective.privacy_us:
            zone = table.zone
            home = zone[[table.source(s) for s in self.streams]]
            foreign = (zone[self.nodes] != home[:, None])[:, None, None, :]
            self._exposed = np.array([risk for _, risk in kinds])[:, None, None] * foreign * self._objective.privacy_us

    def costs(
        self,
        pick: Sequence[int],
        others: Sequence[Load] | Crowd,
        weights: Sequence[float],
        rooms: Sequence[Room] | None = None,
        current: Rows | None = None,
    ) -> Costs:
        """Of the picked streams, given the load and room that each has beside the others; latency weighs `weights`."""
        rows = [self._each(b) for b in pick] if len(self.nodes) > 1 else [0]
        nodes = np.broadcast_to(self.nodes[rows], (len(pick), self.nodes.shape[1]))
        weight = np.maximum(np.array(weights, dtype=float), LIGHT)
        beside = others if isinstance(others, Crowd) else crowded(others, len(self.table.memory))
        run = self._run(pick, beside, weight)
        for b, stream in enumerate(pick):
            if rooms is not None:
                run[b][self.need(stream, rooms[b]) > rooms[b].free[nodes[b]]] = np.inf
            before = (current or {}).get(self.streams[stream])
            if before is not None and self._objective.reconfigure_us:
                elsewhere = np.array(before)[:, None] != nodes[b]
                moved = np.concatenate((np.zeros((1, nodes.shape[1])), np.cumsum(elsewhere, axis=0)))
                run[b] += self._objective.reconfigure_us * (moved[self._last] - moved[self._first])
        hop = self._hop(pick, beside, weight)
        source = [self.place[self._each(b)][self.table.source(self.streams[b])] for b in pick]
        everyone = np.arange(len(pick))
        enter, leave = hop[everyone, self._kind[0], source], hop[everyone, self._kind[-1], :, source]
        enter[everyone, source] = leave[everyone, source] = 0.0
        return Costs(nodes, run, hop, self._kind, enter, leave)

    def _run(self, pick: Sequence[int], beside: Crowd, weight: Floats) -> Floats:
        """What nobody shares costs what it costs alone; only the nodes that others use are reckoned anew."""
        cost = np.multiply(weight[:, None], _picked(self._quiet, pick).swapaxes(0, 1), order="C").swapaxes(0, 1)
        if self._objective.utilisation_us:
            cost += self._objective.utilisation_us * _picked(self._rho, pick) ** 2  # does not count by weight
        b, k, _, (rho, square, uses) = self._shared(pick, beside, nodes=True)
        if not len(b):
            return np.asarray(cost)
        at = np.array(pick)[b]
        time = self._time[_rows(self._time, at), :, k]  # (shared, P)
        backlog, own = self._backlog[_rows(self._backlog, at), :, k], self._per_us[at][:, None] * time
        wait = np.maximum(wait_us(rho + own, square + own * time), backlog)
        before = np.maximum(wait_us(rho, square), backlog)
        shared = weight[b][:, None] * (time + wait) + uses * (wait - before)
        shared += self._barrier[_rows(self._barrier, at), :, k]
        if self._objective.utilisation_us:
            shared += self._objective.utilisation_us * (own * own + 2 * own * rho)
        shared[rho + own > self._objective.max_utilisation + SLIGHT] = np.inf
        cost[b, :, k] = shared
        return np.asarray(cost)

    def _shared(self, pick: Sequence[int], beside: Crowd, *, nodes: bool) -> tuple[Indices, Indices, Indices, Floats]:
        """The nodes, or the paths, where a stream is not alone: (M,) stream, from, to; (3, M, 1) of the others."""
        a, b = np.divmod(beside.place, len(self.table.memory))
        which = np.flatnonzero((a == b) == nodes)
        at = self._at[list(pick) if len(self.nodes) > 1 else [0] * len(pick)]
        start, end = at[:, a[which]], at[:, b[which]]  # (B, places)
        others = beside.others[:, :, which]
        stream, place = np.nonzero((start >= 0) & (end >= 0) & (others[0] + others[2] > 0))
        return stream, start[stream, place], end[stream, place], others[:, stream, place, None]

    def _hop(self, pick: Sequence[int], beside: Crowd, weight: Floats) -> Floats:
        silent = np.moveaxis(_picked(self._silent, pick), 0, 2)  # (U, from, B, to)
        hop = np.moveaxis(np.multiply(weight[:, None], silent, order="C"), 2, 0)
        b, k, h, (rho, square, uses) = self._shared(pick, beside, nodes=False)
        if len(b):
            at = np.array(pick)[b]
            time = self._wire[_rows(self._wire, at), :, k, h]  # (shared, U)
            own = self._per_us[at][:, None] * time
            wait = wait_us(rho + own, square + own * time)
            over = self._beside_wire[_rows(self._beside_wire, at), :, k, h]
            shared = weight[b][:, None] * (time + wait + over) + uses * (wait - wait_us(rho, square))
            shared[rho + own > self._objective.max_link_share + SLIGHT] = np.inf
            hop[b, :, k, h] = shared
        if self._objective.privacy_us:
            hop += _picked(self._exposed, pick)
        return np.asarray(hop)

    def own(self, b: int) -> Own:
        at, home = self._each(b), self.place[self._each(b)][self.table.source(self.streams[b])]
        return Own(home, float(self._per_us[b]), self._time[at], self._wire[at], self._backlog[at, 0])

    def whole(self, pick: Sequence[int], costs: Costs) -> tuple[Indices, Floats, Floats]:
        """(B, K) nodes and costs of whole streams there; (2, B, K) utilisation and rate * time^2."""
        all_of_it = run_at(0, self.blocks)
        time = np.broadcast_to(_picked(self._time, pick)[:, all_of_it], costs.enter.shape)
        rho = self._per_us[list(pick)][:, None] * time
        return costs.nodes, costs.enter + costs.run[:, all_of_it] + costs.leave, np.stack((rho, rho * time))

    def shares(self, pick: Sequence[int], some: Indices) -> Floats:
        """(B, P, K), or (1, P, K) for all: how much of the time of all blocks on the same node some runs take."""
        time = _picked(self._time, pick)
        return np.asarray(time[:, some] / np.maximum(time[:, run_at(0, self.blocks), None], 1e-9))

    def ends(self, b: Indices, run: Indices, k: Indices) -> Indices:
        """(M,) one number for runs of one stream on one node that are at the same ends of its row."""
        begins, ends = self._first[run] == 0, self._last[run] == self.blocks
        return np.asarray(((b * self.nodes.shape[1] + k) * 2 + begins) * 2 + ends)

    def uses(self, pick: Sequence[int], b: Indices, run: Indices, k: Indices) -> tuple[Indices, Floats, Floats]:
        """What runs bring to their nodes, and to the paths from and to the phone where they are at an end of the row.

        (M, 3) place, path a * N + b and of a node a * N + a, -1 nowhere; utilisation; rate * time^2. The node is first.
        """
        streams, hosts = np.array(pick)[b], len(self.table.memory)
        each = streams if len(self.nodes) > 1 else np.zeros_like(streams)
        sources = np.array([self.table.source(self.streams[s]) for s in pick])
        home = np.array([self.place[self._each(s)][n] for s, n in zip(pick, sources.tolist(), strict=True)])[b]
        node, source, away = self.nodes[each, k], sources[b], home != k
        begins, ends = away & (self._first[run] == 0), away & (self._last[run] == self.blocks)
        enter = source * hosts + node, self._wire[_rows(self._wire, each), self._kind[0], home, k]
        leave = node * hosts + source, self._wire[_rows(self._wire, each), self._kind[-1], k, home]
        ways = [
            (np.where(on, path, -1), np.where(on, wire, 0.0)) for on, (path, wire) in ((begins, enter), (ends, leave))
        ]
        places, times = zip((node * hosts + node, self._time[_rows(self._time, each), run, k]), *ways, strict=True)
        time = np.column_stack(times)
        rho = self._per_us[streams][:, None] * time
        return np.column_stack(places), rho, rho * time

    def utilisations(self, pick: Sequence[int], b: Indices, run: Indices, k: Indices) -> Floats:
        """(M,) of nodes by runs."""
        streams = np.array(pick)[b]
        return np.asarray(self._per_us[streams] * self._time[_rows(self._time, streams), run, k])

    def ways(self, pick: Sequence[int], b: Indices, a: Indices, c: Indices, cut: Indices) -> tuple[Indices, Floats]:
        """(M, 3) the paths from the phone to a, from c back, and from a to c before a cut, or -1; their utilisation."""
        streams, kind = np.array(pick)[b], np.array(self._kind)
        home = np.array([self.place[self._each(s)][self.table.source(self.streams[s])] for s in pick])[b]
        start, end = np.column_stack((home, c, a)), np.column_stack((a, home, c))
        size, each = np.column_stack((kind[0 * cut], kind[0 * cut - 1], kind[cut])), _rows(self.nodes, streams)[:, None]
        place = self.nodes[each, start] * len(self.table.memory) + self.nodes[each, end]
        rho = self._per_us[streams][:, None] * self._wire[_rows(self._wire, streams)[:, None], size, start, end]
        return np.where(start != end, place, -1), np.where(start != end, rho, 0.0)

    def need(self, stream: int, room: Room) -> Floats:
        """(P, K) bytes that each run adds."""
        weight = self.missing(stream, room)
        total = np.concatenate((np.zeros_like(weight[:1]), np.cumsum(weight, axis=0)))
        need = total[self._last] - total[self._first] + self.largest[:, None]
        place = self.place[self._each(stream)]
        for first, last, n in room.loaded:
            if n in place:
                need[run_at(first, last), place[n]] -= self.largest[run_at(first, last)]
        return np.asarray(need, dtype=np.float64)

    def missing(self, stream: int, room: Room) -> Floats:
        """(L, K) bytes of each block that are not there yet."""
        chain = self.table.chain(self.streams[stream])
        return np.asarray(chain.weight[:, None] * ~room.held[:, self.nodes[self._each(stream)]], dtype=np.float64)


def _picked(values: Floats, pick: Sequence[int]) -> Floats:
    """The rows of the picked streams; one row is all streams'."""
    return values if len(values) == 1 else values[list(pick)]


def _rows(values: Floats | Indices, streams: Indices) -> Indices:
    return streams if len(values) > 1 else np.zeros_like(streams)


def _largest(working: Floats, first: Indices, last: Indices) -> Floats:
    """(P,) the largest working set of each run."""
    table = np.maximum.accumulate(np.where(np.tri(len(working), dtype=bool).T, working, 0.0), axis=1)
    return np.asarray(table[first, last - 1], dtype=np.float64)


def square(of_runs: Floats, blocks: int, empty: float = np.inf) -> Floats:
    """(L+1, L+1, ...) of runs (P, ...) by their ends."""
    made = np.full((blocks + 1, blocks + 1, *of_runs.shape[1:]), empty)
    made[run_ends(blocks)] = of_runs
    return made


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
