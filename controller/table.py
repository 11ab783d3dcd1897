"""The problem as arrays, made once a run, and what rows mean in it whatever the state of the network. Pure.

A `Row` is the placement of one stream as host positions, one for each block. A request goes from its phone through its
runs of blocks and back to the phone.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from controller.model import Block, Host, Model, Problem, Stream

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Row = tuple[int, ...]
Rows = Mapping[str, Row]

NodeOrPath = int | tuple[int, int]

RISK = {"raw": 1.0, "feature": 0.5, "public": 0.0}
REMEMBERED = 8192  # rows


@dataclass(frozen=True, slots=True)
class Legs:
    """What a row of a stream makes it do, whatever the state of the network."""

    visits: tuple[tuple[int, float], ...]  # (node, microseconds when nothing else loads it)
    carries: tuple[tuple[int, int, float], ...]  # (from, to, bytes), phone to phone
    ends: Floats  # (E, 3) the visits as ways (from, to, microseconds) from a node to itself, then the carries
    places: frozenset[NodeOrPath]  # the nodes, and the paths


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One model as arrays: L blocks, N hosts."""

    work: Floats  # (L+1,) flops of the blocks before
    time: Floats  # (L+1, N) microseconds of the blocks before on each host, when nothing else loads it
    weight: Floats  # (L,) bytes that are there as long as the block is: weights, keys and values
    working: Floats  # (L,) bytes
    data: Floats  # (L+1,) bytes that cross before block l; data[L] is the answer
    risk: Floats  # (L+1,) how sensitive what crosses before block l is: raw 1, feature 1/2, public 0
    allowed: Bools  # (L, N) privacy, pins and vetoes: the block may be on this host
    alike: tuple[tuple[int, int], ...]  # (first, last): blocks first..last-1 do the same and are allowed the same


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The problem as arrays, made once a run."""

    problem: Problem
    index: Mapping[str, int]
    streams: Mapping[str, Stream]
    speed: Floats  # (N,) flops per microsecond
    memory: Floats  # (N,) bytes
    zone: Indices  # (N,) numbers of zones
    chains: Mapping[str, Chain]  # of each model, by privacy alone
    ways: Mapping[str, Chain]  # of each stream, its pins and all vetoes applied
    tight: frozenset[int]  # hosts of which the memory may not suffice, whatever is placed there
    # what is asked again and again of the same rows is remembered
    row: Callable[[tuple[str, ...]], Row]  # of the names of its hosts
    names: Callable[[Row], tuple[str, ...]]
    permits: Callable[[str, Row], bool]  # whether a row is where privacy, pins and vetoes let its stream be
    legs: Callable[[str, Row], "Legs"]
    risk: Callable[[str, Row], float]  # summed over the hops into zones that are not the phone's

    def chain(self, stream: str) -> Chain:
        return self.ways[stream]

    def source(self, stream: str) -> int:
        return self.index[self.streams[stream].source]

    def by_model(self, streams: Sequence[str]) -> list[list[str]]:
        """Those of one model together."""
        kinds: dict[str, list[str]] = {}
        for stream in streams:
            kinds.setdefault(self.streams[stream].model, []).append(stream)
        return list(kinds.values())


def tabulate(problem: Problem) -> Table:
    hosts = problem.hosts
    index = {host.name: n for n, host in enumerate(hosts)}
    streams = {stream.name: stream for stream in problem.streams}
    chains = {name: _chain(problem, model) for name, model in problem.models.items()}
    ways = {stream.name: _way(problem, index, stream, chains[stream.model]) for stream in problem.streams}
    memory = np.array([float(host.memory_bytes) for host in hosts])
    zone = np.unique([host.zone for host in hosts], return_inverse=True)[1]

    @lru_cache(REMEMBERED)
    def row(nodes: tuple[str, ...]) -> Row:
        return tuple([index[name] for name in nodes])

    @lru_cache(REMEMBERED)
    def names(row: Row) -> tuple[str, ...]:
        return tuple([hosts[n].name for n in row])

    @lru_cache(REMEMBERED)
    def permits(stream: str, row: Row) -> bool:
        return all(ways[stream].allowed[first:last, n].all() for first, last, n in runs(row))

    @lru_cache(REMEMBERED)
    def legs(stream: str, row: Row) -> Legs:
        return _legs(ways[stream], index[streams[stream].source], row)

    @lru_cache(REMEMBERED)
    def risk(stream: str, row: Row) -> float:
        return _risk(ways[stream], zone, index[streams[stream].source], row)

    return Table(
        problem=problem,
        index=index,
        streams=streams,
        speed=np.array([host.flops_per_s / 1e6 for host in hosts]),
        memory=memory,
        zone=zone,
        chains=chains,
        ways=ways,
        tight=frozenset(np.flatnonzero(memory < _most(problem, chains)).tolist()),
        row=row,
        names=names,
        permits=permits,
        legs=legs,
        risk=risk,
    )


def _most(problem: Problem, chains: Mapping[str, Chain]) -> float:
    """Bytes that always suffice: every block of every model, and the working sets of all runs that may be there."""
    most, asking = 0.0, Counter(stream.model for stream in problem.streams)
    for name, chain in chains.items():
        sizes = np.sort(chain.working)[::-1]
        # of two runs of a stream on one node something is between; old and new placement are there at once
        by_stream = 2 * asking[name] * float(sizes[: (len(sizes) + 1) // 2].sum())
        distinct = sum(float(np.maximum.accumulate(chain.working[first:]).sum()) for first in range(len(sizes)))
        most += float(chain.weight.sum()) + min(by_stream, distinct)  # streams share the runs that they have in common
    return most


def _chain(problem: Problem, model: Model) -> Chain:
    blocks = model.blocks
    classes = (model.input_class, *(block.output_class for block in blocks))
    hosts = problem.hosts
    enters = {c: np.array([host.zone in problem.zones[c] for host in hosts]) for c in set(classes) & set(problem.zones)}
    everywhere = np.ones(len(hosts), dtype=bool)
    # what goes in and what comes out
    allowed = np.array([enters.get(a, everywhere) & enters.get(b, everywhere) for a, b in pairwise(classes)])
    return Chain(
        work=np.concatenate(([0.0], np.cumsum([float(block.flops) for block in blocks]))),
        time=_times(problem.hosts, blocks),
        weight=np.array([float(block.weight_bytes + block.kept_bytes) for block in blocks]),
        working=np.array([float(block.working_bytes) for block in blocks]),
        data=np.array([float(model.input_bytes), *(float(block.output_bytes) for block in blocks)]),
        risk=np.array([RISK[c] for c in classes]),
        allowed=allowed,
        alike=_alike(blocks, allowed),
    )


def _alike(blocks: Sequence[Block], allowed: Bools) -> tuple[tuple[int, int], ...]:
    said = [
        (b.flops, b.read_bytes, b.output_bytes, b.output_class, may.tobytes())
        for b, may in zip(blocks, allowed, strict=True)
    ]
    return tuple(pairwise([0, *(block for block in range(1, len(said)) if said[block] != said[block - 1]), len(said)]))


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
    return replace(chain, allowed=allowed, alike=_alike(problem.models[stream.model].blocks, allowed))


@lru_cache(REMEMBERED)
def runs(row: Row) -> tuple[tuple[int, int, int], ...]:
    """The contiguous runs of a row: (first, last, node), blocks first..last-1."""
    found, first = list[tuple[int, int, int]](), 0
    for last in range(1, len(row) + 1):
        if last == len(row) or row[last] != row[first]:
            found.append((first, last, row[first]))
            first = last
    return tuple(found)


def _legs(chain: Chain, source: int, row: Row) -> Legs:
    parts = runs(row)
    visits = tuple((n, float(chain.time[last, n] - chain.time[first, n])) for first, last, n in parts)
    stops = [(source, 0)] + [(n, last) for _, last, n in parts] + [(source, 0)]
    carries = tuple((a, b, float(chain.data[cut])) for (a, cut), (b, _) in pairwise(stops) if a != b)
    ends = np.array([*((n, n, time) for n, time in visits), *carries])
    places = frozenset[NodeOrPath]([*(n for n, _ in visits), *((a, b) for a, b, _ in carries)])
    return Legs(visits, carries, ends, places)


def _risk(chain: Chain, zone: Indices, source: int, row: Row) -> float:
    """The answer goes home, which is no risk."""
    parts, home = runs(row), zone[source]
    before = [source, *(node for *_, node in parts)]
    entered = [(first, node) for (first, _, node), came in zip(parts, before, strict=False) if node != came]
    return sum(float(chain.risk[cut]) for cut, node in entered if zone[node] != home)
