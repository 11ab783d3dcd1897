"""What a placement costs: predicted latency, memory and traffic, as sums over NumPy arrays.

Rules of the model, all times in microseconds:
  compute      the larger of flops / flops_per_s and bytes / memory_bytes_per_s of each block, over 1 - load
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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from controller.model import Block, Host, Latency, Model, NodeStates, Problem, Snapshot, Stream

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Row = tuple[int, ...]
Rows = Mapping[str, Row]

HORIZON_US = 30_000_000.0
FULL = 0.95
RISK = {"raw": 1.0, "feature": 0.5, "public": 0.0}
UNREACHABLE_US = 10**12  # stands for a node that is down or a path that does not exist


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One model as arrays: L blocks, N hosts."""

    work: Floats  # (L+1,) flops of the blocks before
    time: Floats  # (L+1, N) microseconds of the blocks before on each host, when nothing else loads it
    weight: Floats  # (L,) bytes
    working: Floats  # (L,) bytes
    data: Floats  # (L+1,) bytes that cross before block l; data[L] is the answer
    risk: Floats  # (L+1,) how sensitive what crosses before block l is: raw 1, feature 1/2, public 0
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


@dataclass(frozen=True, slots=True)
class Load:
    """What streams bring to the nodes and paths they use: [utilisation, rate * time^2, weighted visits] of each."""

    nodes: dict[int, list[float]] = field(default_factory=dict)
    paths: dict[tuple[int, int], list[float]] = field(default_factory=dict)

    def copy(self) -> "Load":
        nodes = {n: list(parts) for n, parts in self.nodes.items()}
        return Load(nodes, {path: list(parts) for path, parts in self.paths.items()})


@dataclass(frozen=True, slots=True)
class Use:
    """What one row does: the time of each run on its node, and of each hop on its path; endless where it cannot be."""

    visits: tuple[tuple[int, float], ...]  # (node, microseconds)
    carries: tuple[tuple[int, int, float, int], ...]  # (from, to, microseconds on the wire, delay_us)
    nodes: tuple[tuple[int, float, float], ...]  # (node, utilisation, rate * time^2)
    paths: tuple[tuple[tuple[int, int], float, float], ...]
    moving_us: float  # the latency without waiting


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
    hosts = problem.hosts
    enters = {c: np.array([host.zone in problem.zones[c] for host in hosts]) for c in set(classes) & set(problem.zones)}
    everywhere = np.ones(len(hosts), dtype=bool)
    return Chain(
        work=np.concatenate(([0.0], np.cumsum([float(block.flops) for block in blocks]))),
        time=_times(problem.hosts, blocks),
        weight=np.array([float(block.weight_bytes) for block in blocks]),
        working=np.array([float(block.working_bytes) for block in blocks]),
        data=np.array([float(model.input_bytes), *(float(block.output_bytes) for block in blocks)]),
        risk=np.array([RISK[c] for c in classes]),
        # what goes in and what comes out
        allowed=np.array([enters.get(a, everywhere) & enters.get(b, everywhere) for a, b in pairwise(classes)]),
    )


def _times(hosts: Sequence[Host], blocks: Sequence[Block]) -> Floats:
    """(L+1, N) of the roofline: a block takes as long as its flops or its bytes do, whichever is longer."""
    speed = np.array([host.flops_per_s / 1e6 for host in hosts])
    reach = np.array([host.memory_bytes_per_s / 1e6 or np.inf for host in hosts])
    flops = np.array([float(block.flops) for block in blocks])[:, None]
    crossing = np.array([float(block.read_bytes) for block in blocks])[:, None]
    times = np.maximum(flops / speed, crossing / reach)
    return np.concatenate((np.zeros((1, len(hosts))), np.cumsum(times, axis=0)))


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


@lru_cache(maxsize=4)
def _states(snapshot: Snapshot) -> tuple[Floats, Floats]:
    """(N,) the share of each processor that is left to us, 0 when down; (N,) microseconds of backlog."""
    states = NodeStates.of(snapshot.nodes)
    spare = np.where(states.up, (1_000_000 - np.minimum(states.load_ppm, 999_000)) / 1e6, 0.0)
    return spare, states.queue_us.astype(np.float64)


def speed_now(table: Table, snapshot: Snapshot) -> Floats:
    """(N,) flops per microsecond that are left to us, 0 when down."""
    return np.asarray(table.speed * _states(snapshot)[0], dtype=np.float64)


def spare_now(snapshot: Snapshot) -> Floats:
    """(N,) the share of each processor that is left to us, 0 when down: what `Chain.time` is divided by."""
    return _states(snapshot)[0]


def backlog_us(snapshot: Snapshot) -> Floats:
    return _states(snapshot)[1]


def wait_us(rho: Floats, square: Floats) -> Floats:
    """The steady wait of the module header; any shape."""
    waiting = square / (2.0 * (1.0 - np.minimum(rho, FULL)))
    return np.asarray(waiting + np.maximum(rho - FULL, 0.0) * (HORIZON_US / 2.0), dtype=np.float64)


def _wait(load: list[float] | None) -> float:
    """The same for one node or path."""
    if load is None:
        return 0.0
    rho, square, _ = load
    return square / (2.0 * (1.0 - min(rho, FULL))) + max(rho - FULL, 0.0) * (HORIZON_US / 2.0)


class Forecast:
    """Predicts placements in one snapshot; what was looked up once is not looked up again."""

    def __init__(self, table: Table, snapshot: Snapshot) -> None:
        self._table, self._snapshot = table, snapshot
        self._spare, self._backlog = spare_now(snapshot), backlog_us(snapshot)
        self._uses: dict[tuple[str, Row], Use] = {}

    def use(self, stream: str, row: Row) -> Use:
        found = self._uses.get((stream, row))
        if found is None:
            found = self._uses[stream, row] = self._use(stream, row)
        return found

    def _use(self, stream: str, row: Row) -> Use:
        done, visits, carries = self._table.chain(stream).time, list[tuple[int, float]](), []
        for first, last, n in runs(row):
            spare = float(self._spare[n])
            visits.append((n, float(done[last, n] - done[first, n]) / spare if spare > 0 else float("inf")))
        for a, b, size in hops(self._table, stream, row):
            rate = int(self._snapshot.rate_bps[a, b])
            time = size * 8e6 / rate if rate > 0 else float("inf")
            carries.append((a, b, time, int(self._snapshot.delay_us[a, b])))
        per_us, overhead = 1.0 / self._table.streams[stream].period_us, self._table.problem.hop_overhead_us
        moving = sum(min(time, UNREACHABLE_US) for _, time in visits)
        moving += sum(min(time, UNREACHABLE_US) + overhead + delay for _, _, time, delay in carries)
        return Use(
            tuple(visits),
            tuple(carries),
            tuple((n, per_us * time, per_us * time * time) for n, time in visits if time < float("inf")),
            tuple(((a, b), per_us * time, per_us * time * time) for a, b, time, _ in carries if time < float("inf")),
            moving,
        )

    def load(self, rows: Rows, weights: Mapping[str, float], without: str = "", base: Load | None = None) -> Load:
        """The load of all streams in `rows` but one, on top of `base`; what is down or unreachable carries none."""
        load = base.copy() if base else Load()
        for stream, row in rows.items():
            if stream == without:
                continue
            use, weight = self.use(stream, row), weights.get(stream, 1.0)
            for n, rho, square in use.nodes:
                parts = load.nodes.get(n)
                if parts is None:
                    load.nodes[n] = [rho, square, weight]
                else:
                    parts[0], parts[1], parts[2] = parts[0] + rho, parts[1] + square, parts[2] + weight
            for path, rho, square in use.paths:
                parts = load.paths.get(path)
                if parts is None:
                    load.paths[path] = [rho, square, weight]
                else:
                    parts[0], parts[1], parts[2] = parts[0] + rho, parts[1] + square, parts[2] + weight
        return load

    def latencies(self, rows: Rows, only: Iterable[str] | None = None) -> dict[str, Latency]:
        """Of each stream, or some, when all of `rows` are placed together."""
        load = self.load(rows, {})
        return {s: self._latency(load, self.use(s, rows[s])) for s in (rows if only is None else only)}

    def total_us(self, rows: Rows, weights: Mapping[str, float], base: "Base | None" = None) -> float:
        """The weighted sum of the latencies, not rounded; those of `base` with it, as `rows` make them wait."""
        return self._total_us(rows, weights, self.load(rows, weights), base)

    def _total_us(self, rows: Rows, weights: Mapping[str, float], load: Load, base: "Base | None" = None) -> float:
        total = sum([weights.get(stream, 1.0) * self.use(stream, row).moving_us for stream, row in rows.items()])
        under = base.load if base else _NOTHING
        total += base.total_us if base else 0.0
        for n, parts in load.nodes.items():
            total += self._waited(parts, under.nodes.get(n), float(self._backlog[n]))
        for path, parts in load.paths.items():
            total += self._waited(parts, under.paths.get(path), 0.0)
        return total

    @staticmethod
    def _waited(parts: list[float], under: list[float] | None, least: float) -> float:
        """What all wait more because of `parts`."""
        if under is None:
            return parts[2] * max(least, _wait(parts))
        rho, square, uses = under
        both = [rho + parts[0], square + parts[1], uses + parts[2]]
        return both[2] * max(least, _wait(both)) - uses * max(least, _wait(under))

    def base(self, rows: Rows, weights: Mapping[str, float]) -> "Base":
        load = self.load(rows, weights)
        return Base(load, self._total_us(rows, weights, load))

    def _latency(self, load: Load, use: Use) -> Latency:
        compute = queue = transfer = propagation = 0.0
        for n, time in use.visits:
            compute += min(time, UNREACHABLE_US)
            queue += max(float(self._backlog[n]), _wait(load.nodes.get(n)))
        for a, b, time, delay in use.carries:
            transfer += min(time, UNREACHABLE_US) + self._table.problem.hop_overhead_us
            propagation += delay
            queue += _wait(load.paths.get((a, b)))
        return Latency(round(compute), round(queue), round(transfer), round(propagation))


@dataclass(frozen=True, slots=True)
class Base:
    """Streams that stay, whatever others do."""

    load: Load
    total_us: float


_NOTHING = Load()


def load_of(table: Table, snapshot: Snapshot, rows: Rows, weights: Mapping[str, float], without: str = "") -> Load:
    """The load of all streams in `rows` but one; what is down or unreachable carries none."""
    return Forecast(table, snapshot).load(rows, weights, without)


def predict(table: Table, snapshot: Snapshot, rows: Rows) -> dict[str, Latency]:
    """Latency of each stream when all of `rows` are placed together."""
    return Forecast(table, snapshot).latencies(rows)


def resident(table: Table, *placements: Rows) -> dict[str, Bools]:
    """model -> (L, N): which blocks are on which host when all these placements are loaded at once."""
    held = {name: np.zeros(chain.allowed.shape, dtype=bool) for name, chain in table.chains.items()}
    for rows in placements:
        for stream, row in rows.items():
            held[table.streams[stream].model][np.arange(len(row)), np.array(row, dtype=np.intp)] = True
    return held


def memory_of(table: Table, *placements: Rows) -> dict[int, float]:
    """host -> bytes, of the hosts that hold anything when all these placements are loaded at once."""
    held: dict[tuple[str, int], Bools] = {}
    used: dict[int, float] = {}
    for model, first, last, n in distinct_runs(table, *placements):
        chain = table.chains[model]
        blocks = held.setdefault((model, n), np.zeros(len(chain.weight), dtype=bool))
        blocks[first:last] = True
        used[n] = used.get(n, 0.0) + float(chain.working[first:last].max())
    for (model, n), blocks in held.items():
        used[n] += float(table.chains[model].weight @ blocks)
    return used


def overfull(table: Table, *placements: Rows) -> list[int]:
    """The hosts whose memory is too small for all these placements together."""
    return [n for n, used in memory_of(table, *placements).items() if used > table.memory[n]]


def memory_bytes(table: Table, rows: Rows, held: Rows | None = None) -> Floats:
    """(N,) bytes each host needs for `rows`, the blocks of `held` staying loaded beside them."""
    total = np.zeros(len(table.problem.hosts))
    for n, used in memory_of(table, rows, held or {}).items():
        total[n] = used
    return total


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
