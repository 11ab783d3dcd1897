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
from controller.table import Floats, Legs, NodeOrPath, Row, Rows, Table

HORIZON_US = 30_000_000.0
FULL = 0.95
MANY = 500  # waits at once
ENDLESS = float("inf")
UNREACHABLE_US = 10**12  # stands for a node that is down or a path that does not exist

Place = TypeVar("Place", bound=Hashable)


Parts = tuple[float, float, float]
Placed = tuple[str, Row]  # a stream, and where it is
NOBODY: Parts = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Load:
    """What streams bring to the nodes and paths they use: (utilisation, rate * time^2, weighted visits) of each."""

    nodes: dict[int, Parts] = field(default_factory=dict)
    paths: dict[tuple[int, int], Parts] = field(default_factory=dict)


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
    if np.size(rho) > MANY and rho.max() <= FULL:  # the same, in half the passes
        idle = 1.0 - rho
        idle *= 2.0
        return np.asarray(square / idle, dtype=np.float64)
    waiting = square / (2.0 * (1.0 - np.minimum(rho, FULL)))
    return np.asarray(waiting + np.maximum(rho - FULL, 0.0) * (HORIZON_US / 2.0), dtype=np.float64)


def steady_us(parts: Parts) -> float:
    """The same for one node or path."""
    rho, square, _ = parts
    return square / (2.0 * (1.0 - min(rho, FULL))) + max(rho - FULL, 0.0) * (HORIZON_US / 2.0)


def _add(load: dict[Place, Parts], uses: Iterable[tuple[Place, float, float]], weight: float) -> None:
    for place, rho, square in uses:
        there = load.get(place, NOBODY)
        load[place] = there[0] + rho, there[1] + square, there[2] + weight


class Forecast:
    """Predicts placements in one snapshot; what was looked up once is not looked up again."""

    def __init__(self, table: Table, snapshot: Snapshot) -> None:
        self._table, self._snapshot = table, snapshot
        self._spare, self._backlog = spare_now(snapshot), backlog_us(snapshot)
        self._uses: dict[Placed, Use] = {}

    def use(self, stream: str, row: Row) -> Use:
        found = self._uses.get((stream, row))
        if found is None:
            self.learn([(stream, row)])
            found = self._uses[stream, row]
        return found

    def up(self, row: Row) -> bool:
        """Whether all its nodes are."""
        return all(self._spare.item(n) > 0 for n in set(row))

    def learn(self, placed: Iterable[Placed]) -> None:
        """Looks up all the paths that new rows use, at once."""
        legs = {one: self._table.legs(*one) for one in placed if one not in self._uses}
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
        load = Load(base.nodes.copy(), base.paths.copy()) if base else Load()
        for stream, row in rows.items():
            if stream != without:
                use, weight = self.use(stream, row), weights.get(stream, 1.0)
                _add(load.nodes, use.nodes, weight)
                _add(load.paths, use.paths, weight)
        return load

    def latencies(self, rows: Rows, only: Iterable[str] | None = None) -> dict[str, Latency]:
        """Of each stream, or some, when all of `rows` are placed together."""
        load = self.load(rows, {})
        return {s: self.latency(load, s, rows[s]) for s in (rows if only is None else only)}

    def latency(self, load: Load, stream: str, row: Row) -> Latency:
        """Of one stream under a load that has it in it."""
        return Latency(*map(round, self.spent_us(load, stream, row)))

    def waits_us(self, load: Load, place: NodeOrPath) -> float:
        """What a visit of a node, or of a path, waits under a load that has it in it."""
        if isinstance(place, tuple):
            return steady_us(load.paths.get(place, NOBODY))
        return max(self._backlog.item(place), steady_us(load.nodes.get(place, NOBODY)))

    def spent_us(self, load: Load, stream: str, row: Row) -> tuple[float, float, float, float]:
        """The same, not rounded: computing, waiting, on the wire, propagation."""
        use, nodes, paths = self.use(stream, row), load.nodes, load.paths
        compute = queue = transfer = propagation = 0.0
        for n, time in use.visits:
            compute += min(time, UNREACHABLE_US)
            queue += max(self._backlog.item(n), steady_us(nodes.get(n, NOBODY)))
        for a, b, time, delay in use.carries:
            transfer += min(time, UNREACHABLE_US) + self._table.problem.hop_overhead_us
            propagation += delay
            queue += steady_us(paths.get((a, b), NOBODY))
        return compute, queue, transfer, propagation

    def total_us(self, rows: Rows, weights: Mapping[str, float], under: Load | None = None) -> float:
        """The weighted sum of the latencies, not rounded, and what `rows` make those of `under` wait."""
        known = self._uses
        if not all([one in known for one in rows.items()]):
            self.learn(rows.items())
        there, total = under or _NOTHING, 0.0
        nodes, paths = dict[int, Parts](), dict[tuple[int, int], Parts]()
        for one in rows.items():  # as `load` does; this is asked most of all
            use, weight = known[one], weights.get(one[0], 1.0)
            total += weight * use.moving_us
            for n, rho, square in use.nodes:
                to = nodes.get(n)
                nodes[n] = (to[0] + rho, to[1] + square, to[2] + weight) if to else (rho, square, weight)
            for path, rho, square in use.paths:
                to = paths.get(path)
                paths[path] = (to[0] + rho, to[1] + square, to[2] + weight) if to else (rho, square, weight)
        for n, parts in nodes.items():
            total += _waited(parts, there.nodes.get(n), self._backlog.item(n))
        for path, parts in paths.items():
            total += _waited(parts, there.paths.get(path), 0.0)
        return total

    def load_of_many(self, rows: Rows, weights: Mapping[str, float]) -> Load:
        """The same as `load`, all at once."""
        if not rows:
            return Load()
        legs, streams, hosts = self._table.legs, self._table.streams, len(self._spare)
        ends = [legs(stream, row).ends for stream, row in rows.items()]
        each = np.array([(1.0 / streams[stream].period_us, weights.get(stream, 1.0)) for stream in rows])
        per_us, weight = np.repeat(each, [len(some) for some in ends], axis=0).T
        ways = np.concatenate(ends)
        (a, b), amount = ways[:, :2].astype(np.intp).T, ways[:, 2]
        speed = np.where(a == b, self._spare[a], self._snapshot.rate_bps[a, b])
        there = speed > 0
        time = np.where(a == b, amount, amount * 8e6)[there] / speed[there]
        rho = per_us[there] * time
        places, at = np.unique((a * hosts + b)[there], return_inverse=True)
        parts = [np.bincount(at, add, len(places)).tolist() for add in (rho, rho * time, weight[there])]
        load = Load()
        for place, found in zip(places.tolist(), zip(*parts, strict=True), strict=True):
            start, end = divmod(place, hosts)
            if start == end:
                load.nodes[start] = found
            else:
                load.paths[start, end] = found
        return load


_NOTHING = Load()


def _waited(parts: Parts, under: Parts | None, least: float) -> float:
    """What all wait more because of `parts`."""
    rho, square, weight = parts
    if under is None and rho <= FULL:  # by far the most
        wait = square / (2.0 * (1.0 - rho))
        return weight * (wait if wait > least else least)
    more, squared, uses = under or NOBODY
    both = more + rho, squared + square, uses + weight
    return both[2] * max(least, steady_us(both)) - uses * max(least, steady_us((more, squared, uses)))


class Outlook:
    """Placements of some streams beside others that stay: what they cost, each reckoned once."""

    def __init__(self, forecast: Forecast, weights: Mapping[str, float], kept: Rows, known: Load | None = None) -> None:
        """`known`: the load of `kept`, if it is known."""
        self.kept, self.under = kept, known or forecast.load_of_many(kept, weights)
        self._forecast, self._weights = forecast, weights
        self._totals: dict[frozenset[tuple[str, Row]], float] = {}
        self._loads: dict[frozenset[tuple[str, Row]], tuple[Load, dict[str, Latency]]] = {}

    def total_us(self, rows: Rows) -> float:
        """Of `rows`, and what they make the others wait."""
        key = frozenset(rows.items())
        found = self._totals.get(key)
        if found is None:
            found = self._totals[key] = self._forecast.total_us(rows, self._weights, self.under)
        return found

    def latencies(self, rows: Rows) -> dict[str, Latency]:
        """Of all in `rows` when they are placed."""
        load, known = self._placed(rows)
        if not known:
            self._forecast.learn(rows.items())
            known.update((stream, self._forecast.latency(load, stream, row)) for stream, row in rows.items())
        return known

    def eased_us(self, before: Rows, after: Rows, places: Iterable[NodeOrPath]) -> dict[NodeOrPath, float]:
        """How much less a visit of each place waits once `after` is placed instead of `before`."""
        (was, _), (becomes, _), waits_us = self._placed(before), self._placed(after), self._forecast.waits_us
        return {place: waits_us(was, place) - waits_us(becomes, place) for place in places}

    def _placed(self, rows: Rows) -> tuple[Load, dict[str, Latency]]:
        key = frozenset(rows.items())
        if key not in self._loads:
            self._loads[key] = self._forecast.load(rows, self._weights, base=self.under), {}
        return self._loads[key]


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
