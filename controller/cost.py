"""What a placement costs: predicted latency and traffic, as sums over NumPy arrays.

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

A `Row` is the placement of one stream as host positions, one for each block.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np

from controller.model import Latency, NodeStates, Snapshot
from controller.table import Floats, Legs, Row, Rows, Table

HORIZON_US = 30_000_000.0
FULL = 0.95
ENDLESS = float("inf")
UNREACHABLE_US = 10**12  # stands for a node that is down or a path that does not exist

Place = TypeVar("Place", bound=Hashable)


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


def _add(load: dict[Place, list[float]], place: Place, rho: float, square: float, weight: float) -> None:
    parts = load.get(place)
    if parts is None:
        load[place] = [rho, square, weight]
    else:
        parts[0], parts[1], parts[2] = parts[0] + rho, parts[1] + square, parts[2] + weight


class Forecast:
    """Predicts placements in one snapshot; what was looked up once is not looked up again."""

    def __init__(self, table: Table, snapshot: Snapshot) -> None:
        self._table, self._snapshot = table, snapshot
        self._spare, self._backlog = spare_now(snapshot), backlog_us(snapshot)
        self._uses: dict[tuple[str, Row], Use] = {}
        self._base: tuple[tuple[Rows, Mapping[str, float]], Base] | None = None

    def use(self, stream: str, row: Row) -> Use:
        found = self._uses.get((stream, row))
        if found is None:
            self.learn({stream: row})
            found = self._uses[stream, row]
        return found

    def up(self, row: Row) -> bool:
        """Whether all its nodes are."""
        return all(self._spare.item(n) > 0 for n in set(row))

    def learn(self, rows: Rows) -> None:
        """Looks up all the paths that new rows use, at once."""
        legs = {(s, row): self._table.legs(s, row) for s, row in rows.items() if (s, row) not in self._uses}
        ways = [(a, b) for one in legs.values() for a, b, _ in one.carries]
        rates, delays = [], []
        if ways:
            a, b = np.array(ways).T
            rates = np.asarray(self._snapshot.rate_bps[a, b]).tolist()
            delays = np.asarray(self._snapshot.delay_us[a, b]).tolist()
        done = 0
        for (stream, row), one in legs.items():
            last = done + len(one.carries)
            self._uses[stream, row] = self._use(stream, one, rates[done:last], delays[done:last])
            done = last

    def _use(self, stream: str, legs: Legs, rates: Sequence[int], delays: Sequence[int]) -> Use:
        visits, carries, moving = list[tuple[int, float]](), list[tuple[int, int, float, int]](), 0.0
        for n, alone in legs.visits:
            spare = self._spare.item(n)
            visits.append((n, alone / spare if spare > 0 else ENDLESS))
            moving += min(visits[-1][1], UNREACHABLE_US)
        for (a, b, size), rate, delay in zip(legs.carries, rates, delays, strict=True):
            time = size * 8e6 / rate if rate > 0 else ENDLESS
            carries.append((a, b, time, delay))
            moving += min(time, UNREACHABLE_US) + self._table.problem.hop_overhead_us + delay
        per_us = 1.0 / self._table.streams[stream].period_us
        return Use(
            tuple(visits),
            tuple(carries),
            tuple([(n, per_us * time, per_us * time * time) for n, time in visits if time < ENDLESS]),
            tuple([((a, b), per_us * time, per_us * time * time) for a, b, time, _ in carries if time < ENDLESS]),
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

    def loads_without(self, rows: Rows, weights: Mapping[str, float], base: Load) -> dict[str, Load]:
        """stream -> the load of all the other streams on top of `base`. What a stream does not use, they share."""
        whole, found = self.load(rows, weights, base=base), dict[str, Load]()
        for stream, row in rows.items():
            use = self.use(stream, row)
            mine, ways = {n for n, _, _ in use.nodes}, {path for path, _, _ in use.paths}
            nodes = {n: parts for n, parts in whole.nodes.items() if n not in mine}
            paths = {path: parts for path, parts in whole.paths.items() if path not in ways}
            nodes |= {n: list(base.nodes[n]) for n in mine & base.nodes.keys()}
            paths |= {path: list(base.paths[path]) for path in ways & base.paths.keys()}
            for other, where in rows.items():
                if other != stream:
                    beside, weight = self.use(other, where), weights.get(other, 1.0)
                    for n, rho, square in beside.nodes:
                        if n in mine:
                            _add(nodes, n, rho, square, weight)
                    for path, rho, square in beside.paths:
                        if path in ways:
                            _add(paths, path, rho, square, weight)
            found[stream] = Load(nodes, paths)
        return found

    def latencies(self, rows: Rows, only: Iterable[str] | None = None) -> dict[str, Latency]:
        """Of each stream, or some, when all of `rows` are placed together."""
        return self.latencies_in(self.load(rows, {}), {s: rows[s] for s in (rows if only is None else only)})

    def latencies_in(self, load: Load, rows: Rows) -> dict[str, Latency]:
        """Of each stream of `rows` under a load that has them in it."""
        return {s: self._latency(load, self.use(s, row)) for s, row in rows.items()}

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
        """The same again is not reckoned again."""
        if self._base is None or self._base[0] != (rows, weights):
            load = self.load(rows, weights)
            self._base = (rows, weights), Base(load, self._total_us(rows, weights, load))
        return self._base[1]

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


def traffic_bytes(table: Table, rows: Rows) -> dict[tuple[str, str], int]:
    """(from, to) -> bytes that one request of each stream carries there."""
    hosts, total = table.problem.hosts, dict[tuple[str, str], int]()
    for stream, row in rows.items():
        for a, b, carried in table.legs(stream, row).carries:
            pair = hosts[a].name, hosts[b].name
            total[pair] = total.get(pair, 0) + int(carried)
    return total
