"""AMP4EC (arXiv 2504.00407): cut by the nodes' capability, then a node for each partition by the selection algorithm.

Each stream's model is cut into as many partitions as there are servers that can take part (or `partitions`), and the
node selection algorithm places one after the other; streams of the same model are so served by replicas. It looks again
when something triggered, or a node came or left since the telemetry before. A row that does not fit memory or privacy
is tried again with fewer partitions. Phones take part only when no server can.
Options: cut capability|cost|balanced, partitions 0 (as many as servers), mode physical|paper (see scheduler.py),
latency_ms 100, costs flops|formula, and those of the rivals. A layer costs its FLOPs, or what the paper's formula says
(equations 1, 2, 12; `Block.formula_cost`). Execution times are those that the cost model predicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from controller.amp4ec.monitor import Monitor
from controller.amp4ec.partition import balanced, by_capability, by_cost, corrected
from controller.amp4ec.scheduler import Offer, Request, Scheduler
from controller.cost import spare_now, speed_now
from controller.memory import memory_bytes
from controller.model import Decision, Placement, Problem, Snapshot, Trigger
from controller.policies.rival import Rival, Scene, choice
from controller.policies.start import number
from controller.table import Floats, Row

PPM = 1e6


class Amp4ec(Rival):
    """Remembers the tasks and times of each node, as the paper's scheduler does."""

    rule = "AMP4EC"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        mode = choice(options, "mode", ("physical", "paper"), "physical")
        self.scheduler = Scheduler(
            "paper" if mode == "paper" else "physical", latency_ms=number(options, "latency_ms", 100)
        )
        self.monitor = Monitor()
        self._cut = choice(options, "cut", ("capability", "cost", "balanced"), "capability")
        self._costs = choice(options, "costs", ("flops", "formula"), "flops")
        self._partitions = int(number(options, "partitions", 0))
        self._tasks: dict[str, tuple[str, ...]] = {}  # stream -> the nodes of its partitions

    def start(self, snapshot: Snapshot) -> Decision:
        self._observe(snapshot)
        return super().start(snapshot)

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        came, left = self._observe(snapshot)
        for name in left:
            self.scheduler.forget(name)
        told = {trigger.subject for trigger in triggers}
        seen = [Trigger("node_up", name, 1.0, 0.0) for name in came] + [
            Trigger("node_down", name, 0.0, 1.0) for name in left
        ]
        return super().decide(snapshot, current, (*triggers, *(one for one in seen if one.subject not in told)))

    def row(self, scene: Scene) -> Row | None:
        seen = self._seen(scene)
        most = min(self._partitions or len(seen.servers), len(seen.servers), scene.blocks)
        for parts in range(most, 0, -1):
            row = self._placed(scene, seen, parts)
            if row is not None:
                return row
        return None

    def _observe(self, snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names = (host.name for host in self._table.problem.hosts)
        return self.monitor.observe(dict(zip(names, snapshot.nodes, strict=True)))

    def _seen(self, scene: Scene) -> "_Seen":
        speed = speed_now(self._table, scene.snapshot)
        free = self._table.memory - memory_bytes(self._table, scene.before)
        return _Seen(self._servers(scene, speed), speed, free)

    def _servers(self, scene: Scene, speed: Floats) -> list[int]:
        """The nodes that may hold some block, the strongest first; phones only when there is nothing else."""
        allowed = np.any(self._table.chain(scene.stream).allowed, axis=0)
        usable = [n for n in range(len(speed)) if allowed[n] and speed[n] > 0]
        phones = {self._table.source(stream) for stream in self._table.streams}
        servers = [n for n in usable if n not in phones] or usable
        return sorted(servers, key=lambda n: (-speed[n], n))

    def _placed(self, scene: Scene, seen: "_Seen", parts: int) -> Row | None:
        """One node for each partition, by the algorithm; None when some partition finds none, or it cannot be."""
        before = self._tasks.pop(scene.stream, ())
        for name in before:
            self.scheduler.ended(name)
        sizes, nodes, first = self._sizes(scene, seen, seen.servers[:parts]), list[int](), 0
        for size in sizes:
            taken = self._select(scene, seen, first, first + size, nodes)
            if taken is None:
                break
            nodes.append(taken)
            first += size
        names = tuple(self._table.problem.hosts[n].name for n in nodes)
        row = tuple(n for n, size in zip(nodes, sizes, strict=False) for _ in range(size))
        if len(nodes) < len(sizes) or scene.worth_us(row) == float("inf"):
            for name in names:
                self.scheduler.ended(name)
            return None
        self._tasks[scene.stream] = names
        self._ran(scene, nodes, sizes)
        return row

    def _sizes(self, scene: Scene, seen: "_Seen", servers: Sequence[int]) -> tuple[int, ...]:
        chain, speed = self._table.chain(scene.stream), seen.speed
        costs = self._layer_costs(scene)
        if self._cut == "cost":
            return by_cost(costs, len(servers))
        speeds = [float(speed[n]) for n in servers]
        if self._cut == "capability":
            return corrected(by_capability(scene.blocks, speeds), costs)
        rate = scene.snapshot.rate_bps
        stops = [*servers, scene.source]
        rates = [max(float(rate[a, b]), 1.0) / 8e6 if a != b else float("inf") for a, b in pairwise(stops)]
        return balanced(costs, [float(size) for size in chain.data[1:]], speeds, rates)

    def _layer_costs(self, scene: Scene) -> list[float]:
        model = self._table.problem.models[self._table.streams[scene.stream].model]
        if self._costs == "formula":
            return [float(block.formula_cost or block.flops) for block in model.blocks]
        return [float(block.flops) for block in model.blocks]

    def _select(self, scene: Scene, seen: "_Seen", first: int, last: int, taken: Sequence[int]) -> int | None:
        chain, speed, fastest = self._table.chain(scene.stream), seen.speed, float(seen.speed.max())
        period_us = self._table.streams[scene.stream].period_us
        work = float(chain.work[last] - chain.work[first])
        request = Request(max(work / period_us / fastest, 1e-9), max(float(chain.weight[first:last].sum()), 1.0))
        came_from = taken[-1] if taken else scene.source
        offers = {
            self._table.problem.hosts[n].name: n
            for n in seen.servers
            if chain.allowed[first:last, n].all() and (n == came_from or scene.snapshot.rate_bps[came_from, n] > 0)
        }
        told = [
            Offer(
                name,
                float(speed[n]) / fastest,
                float(seen.free[n]),
                scene.snapshot.nodes[n].load_ppm / PPM,
                float(scene.snapshot.delay_us[came_from, n]) / 1e3,
            )
            for name, n in offers.items()
        ]
        chosen = self.scheduler.select(request, told)
        return None if chosen is None else offers[chosen]

    def _ran(self, scene: Scene, nodes: Sequence[int], sizes: Sequence[int]) -> None:
        spare, time, first = spare_now(scene.snapshot), self._table.chain(scene.stream).time, 0
        for n, size in zip(nodes, sizes, strict=True):
            time_ms = float(time[first + size, n] - time[first, n]) / float(spare[n]) / 1e3
            self.scheduler.ran(self._table.problem.hosts[n].name, time_ms)
            first += size


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the rule knows of the nodes when a stream is to be placed."""

    servers: Sequence[int]  # the strongest first
    speed: Floats  # (N,) flops per microsecond that are left to us
    free: Floats  # (N,) bytes
