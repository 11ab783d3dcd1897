"""A stream whose layers are placed by parts, as it is predicted: each layer as slow as the slowest of its ways. Pure.

The costs are those that the head-level planners minimise (`headtask`, controller/heads/costs.py): a layer's input goes
to each node with heads, which runs them one after the other and sends what they give to the projection; behind that are
the feed-forward part, or its columns and the way back. What waits is added along the slowest way: the planners count
none. All jobs and all ways load nodes and paths, those beside the slowest too.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from controller.cost import ENDLESS, UNREACHABLE_US, Forecast, Placed, Use
from controller.model import ByParts, Snapshot
from controller.parts import HEADS, MLP, PROJ, ROWS, in_parts
from controller.table import Floats, Row, Rows, Table

Hop = tuple[int, int, float]  # from, to, bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """Which blocks of a model are what: positions in a row."""

    heads: tuple[tuple[int, ...], ...]  # of each layer
    rows: tuple[tuple[int, ...], ...]  # of each layer those of the projection, by head; (): it is one block
    proj: tuple[int, ...]
    ffn: tuple[tuple[int, ...], ...]  # of each layer its columns, or one block
    before: tuple[int, ...]
    behind: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """What one block of each kind costs, in every layer: they are alike, or counted as the largest."""

    head_us: Floats  # (N,) when nothing else loads the node
    row_us: Floats  # (N,) of each block of rows
    proj_us: Floats  # (N,) of the projection with all its rows
    sum_us: Floats  # (N,) without them
    column_us: Floats  # (N,) of each block of the feed-forward part
    head_bytes: float
    input_bytes: float
    proj_bytes: float
    kept_bytes: float  # keys and values of a head, in the mean of a session


@dataclass(slots=True)
class Leg:
    """One of the ways that parts of a layer go side by side: jobs on nodes, and hops."""

    jobs: list[tuple[int, float]] = field(default_factory=list)  # microseconds when nothing else loads the node
    hops: list[Hop] = field(default_factory=list)

    def hop(self, a: int, b: int, size_bytes: float) -> None:
        if a != b:
            self.hops.append((a, b, size_bytes))


def hopping(a: int, b: int, size_bytes: float) -> Leg:
    """A way that begins so."""
    leg = Leg()
    leg.hop(a, b, size_bytes)
    return leg


@dataclass(slots=True)
class _Way:
    """Through a row: what is on the slowest way, and what there is beside it."""

    slowest: Leg = field(default_factory=Leg)
    beside: Leg = field(default_factory=Leg)
    collecting: list[Hop] = field(default_factory=list)  # hops of layers on several nodes, on the slowest way
    collected_bytes: float = 0.0
    layers: int = 0
    whole_at: int = -1  # where the run of whole layers is that it ends with


def layout_of(table: Table, stream: str) -> Layout:
    blocks = table.problem.models[table.streams[stream].model].blocks
    units = sorted({block.unit for block in blocks if block.part})

    def of(unit: int, kind: str) -> tuple[int, ...]:
        return tuple(i for i, b in enumerate(blocks) if b.unit == unit and _kind(b.part) == kind)

    return Layout(
        heads=tuple(of(unit, HEADS) for unit in units),
        rows=tuple(of(unit, ROWS) for unit in units),
        proj=tuple(i for i, block in enumerate(blocks) if block.part == PROJ),
        ffn=tuple(of(unit, MLP) for unit in units),
        before=tuple(i for i, block in enumerate(blocks) if block.unit < units[0]),
        behind=tuple(i for i, block in enumerate(blocks) if block.unit > units[-1]),
    )


def _kind(part: str) -> str:
    return next((kind for kind in (HEADS, ROWS, PROJ) if part.startswith(kind)), MLP)


def kinds_of(table: Table, stream: str, layout: Layout) -> Kinds:
    """Of the first layer."""
    blocks, chain = table.problem.models[table.streams[stream].model].blocks, table.chain(stream)
    heads, rows, proj, columns = layout.heads[0], layout.rows[0], layout.proj[0], layout.ffn[0]

    def longest(of: tuple[int, ...]) -> Floats:
        return np.asarray(np.max([chain.time[i + 1] - chain.time[i] for i in of], axis=0))

    row_us, sum_us = longest(rows) if rows else np.zeros(chain.time.shape[1]), longest((proj,))
    return Kinds(
        longest(heads),
        row_us,
        sum_us + len(rows) * row_us,
        sum_us,
        longest(columns),
        head_bytes=max(float(blocks[i].output_bytes) for i in heads),
        input_bytes=float(chain.data[heads[0]]),
        proj_bytes=float(blocks[proj].output_bytes),
        kept_bytes=float(max(0, *(blocks[i].read_bytes - blocks[i].weight_bytes for i in heads))),
    )


class PartForecast(Forecast):
    """Predicts placements; streams in parts by their slowest ways, others as ever."""

    def __init__(self, table: Table, snapshot: Snapshot) -> None:
        super().__init__(table, snapshot)
        apart = {name for name, model in table.problem.models.items() if in_parts(model)}
        self._layouts = {s.name: layout_of(table, s.name) for s in table.problem.streams if s.model in apart}
        self._kinds = {stream: kinds_of(table, stream, layout) for stream, layout in self._layouts.items()}

    def learn(self, placed: Iterable[Placed]) -> None:
        whole = []
        for stream, row in placed:
            if stream not in self._layouts:
                whole.append((stream, row))
            elif (stream, row) not in self._uses:
                self._uses[stream, row] = self._parted(stream, self._way(stream, row))
        super().learn(whole)

    def by_parts(self, rows: Rows, old: Rows, weighed: Mapping[str, float]) -> dict[str, ByParts]:
        """`weighed`: the requests that keys and values which move are set against, of streams that count them."""
        found = {}
        for stream in rows.keys() & self._layouts.keys():
            way, moved = self._way(stream, rows[stream]), list(self._moved(stream, old.get(stream), rows[stream]))
            collect_us = sum(sum(self._carried(*hop)) for hop in way.collecting)
            kv_us = min(sum(sum(self._carried(*hop)) for hop in moved), UNREACHABLE_US)
            found[stream] = ByParts(
                way.layers,
                round(way.collected_bytes),
                round(min(collect_us, UNREACHABLE_US)),
                round(sum(size for *_, size in moved)),
                round(kv_us),
                round(kv_us / weighed[stream]) if stream in weighed else 0,
            )
        return found

    def _carried(self, a: int, b: int, size_bytes: float) -> tuple[float, float]:
        """(transfer, propagation) microseconds."""
        rate, delay = int(self._snapshot.rate_bps[a, b]), int(self._snapshot.delay_us[a, b])
        return (size_bytes * 8e6 / rate if rate > 0 else ENDLESS) + self._table.problem.hop_overhead_us, delay

    def _moved(self, stream: str, before: Row | None, after: Row) -> Iterator[Hop]:
        size = self._kinds[stream].kept_bytes
        for i in (i for layer in self._layouts[stream].heads for i in layer):
            if before is not None and before[i] != after[i] and size > 0:
                yield before[i], after[i], size

    def _alone_us(self, leg: Leg) -> float:
        """Of one way, without waiting."""
        spent = [alone / spare if (spare := self._spare.item(n)) > 0 else ENDLESS for n, alone in leg.jobs]
        return sum(spent) + sum(sum(self._carried(*hop)) for hop in leg.hops)

    def _way(self, stream: str, row: Row) -> _Way:
        chain, layout, source = self._table.chain(stream), self._layouts[stream], self._table.source(stream)
        way, at = _Way(), source

        def units(blocks: tuple[int, ...], at: int) -> int:
            for i in blocks:
                way.slowest.hop(at, row[i], float(chain.data[i]))
                _run(way, row[i], float(chain.time[i + 1, row[i]] - chain.time[i, row[i]]))
                at = row[i]
            return at

        at = units(layout.before, at)
        for number in range(len(layout.proj)):
            at = self._layer(stream, row, number, at, way)
        way.slowest.hop(units(layout.behind, at), source, float(chain.data[-1]))
        return way

    def _layer(self, stream: str, row: Row, number: int, at: int, way: _Way) -> int:
        """Adds a layer whose input is at a node; says where it ends."""
        layout, kind = self._layouts[stream], self._kinds[stream]
        p, on = row[layout.proj[number]], Counter(row[i] for i in layout.heads[number])
        fed = Counter(row[i] for i in layout.ffn[number])
        end = next(iter(fed)) if len(fed) == 1 else p
        if len({p, *on, *fed, *(row[i] for i in layout.rows[number])}) == 1:
            way.slowest.hop(at, p, kind.input_bytes)
            _run(way, p, float(on[p] * kind.head_us[p] + kind.proj_us[p] + fed[p] * kind.column_us[p]))
            return p
        heads, feeds, by_rows = dict[int, Leg](), dict[int, Leg](), any(row[i] != p for i in layout.rows[number])
        if by_rows:  # it comes to where it is added up, and goes on from there
            self._collect(way, [{p: hopping(at, p, kind.input_bytes)}])
        for n, count in on.items():
            each_us = kind.head_us[n] + kind.row_us[n] * by_rows
            leg = heads[n] = hopping(p if by_rows else at, n, kind.input_bytes)
            leg.jobs.append((n, float(count * each_us)))
            leg.hop(n, p, kind.proj_bytes if by_rows else count * kind.head_bytes)
        for n, count in fed.items():
            leg = feeds[n] = hopping(p, n, kind.proj_bytes)
            leg.jobs.append((n, float(count * kind.column_us[n])))
            leg.hop(n, end, kind.proj_bytes)
        proj_us = float((kind.sum_us if by_rows else kind.proj_us)[p])
        self._collect(way, [heads, {p: Leg([(p, proj_us)])}, feeds])
        way.layers += 1
        if not by_rows:
            _beside(way, hopping(at, p, kind.input_bytes))  # what is added to the projection
        return end

    def _collect(self, way: _Way, phases: list[dict[int, Leg]]) -> None:
        """Of a layer on several nodes: of each phase the slowest way, the others beside it."""
        way.whole_at = -1
        for legs in phases:
            last = max(legs, key=lambda n: (self._alone_us(legs[n]), -n))
            for n, leg in legs.items():
                if n != last:
                    _beside(way, leg)
            way.slowest.jobs += legs[last].jobs
            way.slowest.hops += legs[last].hops
            way.collecting += legs[last].hops
            way.collected_bytes += sum(size for *_, size in legs[last].hops)

    def _parted(self, stream: str, way: _Way) -> Use:
        """As `Forecast` has it: visits and hops of the slowest way, the load of all."""

        def timed(leg: Leg) -> list[tuple[int, float]]:
            return [(n, us / spare if (spare := self._spare.item(n)) > 0 else ENDLESS) for n, us in leg.jobs]

        def carried(leg: Leg) -> list[tuple[int, int, float, int]]:
            overhead_us = self._table.problem.hop_overhead_us
            ways = [(hop[0], hop[1], *self._carried(*hop)) for hop in leg.hops]
            return [(a, b, wire - overhead_us, int(delay)) for a, b, wire, delay in ways]

        visits, carries = timed(way.slowest), carried(way.slowest)
        per_us = 1.0 / self._table.streams[stream].period_us
        jobs, ways = [*visits, *timed(way.beside)], [*carries, *carried(way.beside)]
        return Use(
            tuple(visits),
            tuple(carries),
            tuple((n, per_us * us, per_us * us * us) for n, us in jobs if us < ENDLESS),
            tuple(((a, b), per_us * us, per_us * us * us) for a, b, us, _ in ways if us < ENDLESS),
            min(self._alone_us(way.slowest), float(UNREACHABLE_US)),
        )


def _run(way: _Way, node: int, us: float) -> None:
    """Whole units on one node are one visit."""
    if way.whole_at == node:
        n, spent = way.slowest.jobs[-1]
        way.slowest.jobs[-1] = n, spent + us
    else:
        way.slowest.jobs.append((node, us))
    way.whole_at = node


def _beside(way: _Way, leg: Leg) -> None:
    way.beside.jobs += leg.jobs
    way.beside.hops += leg.hops
    way.collected_bytes += sum(size for *_, size in leg.hops)
