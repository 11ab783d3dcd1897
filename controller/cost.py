"""What a placement costs: predicted latency, memory and traffic, as sums over NumPy arrays.

Rules of the model, all times in microseconds:
  compute      flops / (flops_per_s * (1 - load))
  queue        at each visit of a node the larger of the backlog it reports now and the steady wait of all
               streams placed there; at each hop the steady wait of the streams that use the same path
  transfer     bytes * 8 / rate of the path + `hop_overhead_us`
  propagation  delay of the path
A request goes from its phone through its runs of blocks and back to the phone; a hop from a node to itself is
free. The steady wait is Pollaczek-Khinchine's for deterministic visits (M/D/1 when all visits are alike):
sum(rate * time^2) / (2 * (1 - utilisation)). Above a utilisation of 0.95 it goes on as the mean growth of the
queue over `HORIZON_US`, so that it stays finite, continuous and rising.

Memory of a node: each distinct block of a model once, plus the largest working set of each distinct run there.
A `Row` is the placement of one stream as host positions, one for each block.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from controller.model import Host, Latency, Model, Problem, Snapshot, Stream

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Row = tuple[int, ...]
Rows = Mapping[str, Row]

HORIZON_US = 30_000_000.0
FULL = 0.95
UNREACHABLE_US = 10**12  # stands for a node that is down or a path that does not exist


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One model as arrays: L blocks, N hosts."""

    work: Floats  # (L+1,) flops of the blocks before
    weight: Floats  # (L,) bytes
    working: Floats  # (L,) bytes
    data: Floats  # (L+1,) bytes that cross before block l; data[L] is the answer
    allowed: Bools  # (L, N) privacy, pins and vetoes: the block may be on this host


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The problem as arrays, made once a run."""

    problem: Problem
    index: Mapping[str, int]
    streams: Mapping[str, Stream]
    speed: Floats  # (N,) flops per microsecond
    memory: Floats  # (N,) bytes
    chains: Mapping[str, Chain]  # of each model, by privacy alone
    ways: Mapping[str, Chain]  # of each stream, its pins and all vetoes applied

    def row(self, nodes: tuple[str, ...]) -> Row:
        return tuple(self.index[name] for name in nodes)

    def names(self, row: Row) -> tuple[str, ...]:
        return tuple(self.problem.hosts[n].name for n in row)

    def chain(self, stream: str) -> Chain:
        return self.ways[stream]

    def source(self, stream: str) -> int:
        return self.index[self.streams[stream].source]


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What streams bring to nodes (N,) and paths (N, N): utilisation, rate * time^2, weighted visits."""

    node_rho: Floats
    node_square: Floats
    node_uses: Floats
    path_rho: Floats
    path_square: Floats
    path_uses: Floats


def tabulate(problem: Problem) -> Table:
    hosts = problem.hosts
    index = {host.name: n for n, host in enumerate(hosts)}
    chains = {name: _chain(problem, model) for name, model in problem.models.items()}
    return Table(
        problem=problem,
        index=index,
        streams={stream.name: stream for stream in problem.streams},
        speed=np.array([host.flops_per_s / 1e6 for host in hosts]),
        memory=np.array([float(host.memory_bytes) for host in hosts]),
        chains=chains,
        ways={stream.name: _way(problem, index, stream, chains[stream.model]) for stream in problem.streams},
    )


def _chain(problem: Problem, model: Model) -> Chain:
    blocks = model.blocks
    classes = (model.input_class, *(block.output_class for block in blocks))

    def may_hold(host: Host, block: int) -> bool:
        return all(c not in problem.zones or host.zone in problem.zones[c] for c in classes[block : block + 2])

    return Chain(
        work=np.concatenate(([0.0], np.cumsum([float(block.flops) for block in blocks]))),
        weight=np.array([float(block.weight_bytes) for block in blocks]),
        working=np.array([float(block.working_bytes) for block in blocks]),
        data=np.array([float(model.input_bytes), *(float(block.output_bytes) for block in blocks)]),
        allowed=np.array(
            [[may_hold(host, block) for host in problem.hosts] for block in range(len(blocks))], dtype=bool
        ),
    )


def _way(problem: Problem, index: Mapping[str, int], stream: Stream, chain: Chain) -> Chain:
    """What is left of a chain to one stream by its pins and all vetoes."""
    pins = {block: index[node] for (name, block), node in problem.pins.items() if name == stream.name}
    if not pins and not problem.vetoes:
        return chain
    allowed = chain.allowed.copy()
    allowed[:, [index[node] for node in problem.vetoes]] = False
    for block, n in pins.items():
        allowed[block] &= np.arange(len(index)) == n
    return replace(chain, allowed=allowed)


@lru_cache(maxsize=4096)
def runs(row: Row) -> tuple[tuple[int, int, int], ...]:
    """The contiguous runs of a row: (first, last, node), blocks first..last-1."""
    found, first = list[tuple[int, int, int]](), 0
    for last in range(1, len(row) + 1):
        if last == len(row) or row[last] != row[first]:
            found.append((first, last, row[first]))
            first = last
    return tuple(found)


def hops(table: Table, stream: str, row: Row) -> list[tuple[int, int, float]]:
    """(from, to, bytes) of each hop that leaves a node, phone to phone."""
    data = table.chain(stream).data
    stops = [(table.source(stream), 0)] + [(node, last) for _, last, node in runs(row)] + [(table.source(stream), 0)]
    return [(a, b, float(data[cut])) for (a, cut), (b, _) in pairwise(stops) if a != b]


def speed_now(table: Table, snapshot: Snapshot) -> Floats:
    """(N,) flops per microsecond that are left to us, 0 when down."""
    spare = np.array([(1_000_000 - min(s.load_ppm, 999_000)) / 1e6 if s.up else 0.0 for s in snapshot.nodes])
    return np.asarray(table.speed * spare, dtype=np.float64)


def backlog_us(snapshot: Snapshot) -> Floats:
    return np.array([float(state.queue_us) for state in snapshot.nodes])


def transfer_us(snapshot: Snapshot, a: int, b: int, size: float) -> float:
    """Time on the wire of `size` bytes, without overhead and delay; infinite when there is no path."""
    rate = int(snapshot.rate_bps[a, b])
    return size * 8e6 / rate if rate > 0 else float("inf")


def wait_us(rho: Floats, square: Floats) -> Floats:
    """The steady wait of the module header; any shape."""
    waiting = square / (2.0 * (1.0 - np.minimum(rho, FULL)))
    return np.asarray(waiting + np.maximum(rho - FULL, 0.0) * (HORIZON_US / 2.0), dtype=np.float64)


def load_of(table: Table, snapshot: Snapshot, rows: Rows, weights: Mapping[str, float], without: str = "") -> Load:
    """The load of all streams in `rows` but one; what is down or unreachable carries none."""
    size = len(table.problem.hosts)
    load = Load(*(np.zeros(size) for _ in range(3)), *(np.zeros((size, size)) for _ in range(3)))
    speed = speed_now(table, snapshot)
    for stream, row in rows.items():
        if stream == without:
            continue
        per_us, weight, work = 1.0 / table.streams[stream].period_us, weights.get(stream, 1.0), table.chain(stream).work
        for first, last, n in runs(row):
            if speed[n] > 0:
                time = (work[last] - work[first]) / speed[n]
                load.node_rho[n] += per_us * time
                load.node_square[n] += per_us * time * time
                load.node_uses[n] += weight
        for a, b, carried in hops(table, stream, row):
            time = transfer_us(snapshot, a, b, carried)
            if time < float("inf"):
                load.path_rho[a, b] += per_us * time
                load.path_square[a, b] += per_us * time * time
                load.path_uses[a, b] += weight
    return load


def predict(table: Table, snapshot: Snapshot, rows: Rows) -> dict[str, Latency]:
    """Latency of each stream when all of `rows` are placed together."""
    load = load_of(table, snapshot, rows, {})
    speed = speed_now(table, snapshot)
    node_wait = np.maximum(backlog_us(snapshot), wait_us(load.node_rho, load.node_square))
    path_wait = wait_us(load.path_rho, load.path_square)
    return {
        name: _latency(table, snapshot, name, row, speed=speed, node_wait=node_wait, path_wait=path_wait)
        for name, row in rows.items()
    }


def _latency(
    table: Table, snapshot: Snapshot, stream: str, row: Row, *, speed: Floats, node_wait: Floats, path_wait: Floats
) -> Latency:
    work = table.chain(stream).work
    compute = queue = transfer = propagation = 0.0
    for first, last, n in runs(row):
        compute += (work[last] - work[first]) / speed[n] if speed[n] > 0 else UNREACHABLE_US
        queue += node_wait[n]
    for a, b, carried in hops(table, stream, row):
        time = transfer_us(snapshot, a, b, carried)
        transfer += min(time, UNREACHABLE_US) + table.problem.hop_overhead_us
        propagation += float(snapshot.delay_us[a, b])
        queue += path_wait[a, b]
    return Latency(round(compute), round(queue), round(transfer), round(propagation))


def resident(table: Table, *placements: Rows) -> dict[str, Bools]:
    """model -> (L, N): which blocks are on which host when all these placements are loaded at once."""
    held = {name: np.zeros(chain.allowed.shape, dtype=bool) for name, chain in table.chains.items()}
    for rows in placements:
        for stream, row in rows.items():
            held[table.streams[stream].model][np.arange(len(row)), np.array(row, dtype=np.intp)] = True
    return held


def memory_bytes(table: Table, rows: Rows, held: Rows | None = None) -> Floats:
    """(N,) bytes each host needs for `rows`, the blocks of `held` staying loaded beside them."""
    blocks = resident(table, rows, held or {})
    used = np.zeros(len(table.problem.hosts))
    for name, chain in table.chains.items():
        used += chain.weight @ blocks[name]
    for model, first, last, n in distinct_runs(table, rows, held or {}):
        used[n] += table.chains[model].working[first:last].max()
    return used


def distinct_runs(table: Table, *placements: Rows) -> set[tuple[str, int, int, int]]:
    """(model, first, last, node): streams of one model whose runs are equal share them."""
    return {
        (table.streams[stream].model, *run) for rows in placements for stream, row in rows.items() for run in runs(row)
    }


def traffic_bytes(table: Table, rows: Rows) -> dict[tuple[str, str], int]:
    """(from, to) -> bytes that one request of each stream carries there."""
    hosts, total = table.problem.hosts, dict[tuple[str, str], int]()
    for stream, row in rows.items():
        for a, b, carried in hops(table, stream, row):
            pair = hosts[a].name, hosts[b].name
            total[pair] = total.get(pair, 0) + int(carried)
    return total
