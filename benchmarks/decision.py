"""How long the controller's whole loop takes at 20 to 10,000 nodes, and how far from the optimum its decisions are.

    make bench

A period of the loop: telemetry is read into arrays (one packed record a node, all of them new; paths as site matrices
above 64 nodes, as dense ones below, as in the emulation), changes are detected, policy `joint` decides and the guard
judges its answer, the move is planned (what to load, where requests go, what to let go). Everything changes
completely from one period to the next: all loads, backlogs, rates and delays are new, so nothing can be reused, and
no decision is skipped: a trigger is always there, cool-down, rest and least gain are 0. `looked at` are the streams
that are planned for: all that there are, or those that triggered (triggers name three of the streams that are
served; the others stay, and their load counts). The model has the size of BERT-large at 128 tokens: 26 blocks. Times
are wall times of this process on one processor, and `cpu` its processor time; the rest of the machine is not kept
quiet: look at p50 and cpu first. The gap is that of the chosen placement to the certified lower bound; `planned` that
of the placements moved to, without the periods in which the best one was known and not worth its move. `memory`:
where it is short; `weighted`: an objective of more than latency; `limits`: limits of utilisation for which streams are
in each other's way.
"""

import gc
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.milp import optimum
from benchmarks.table import RESULTS, WIDTH
from controller.detect import Detector
from controller.explain import gap
from controller.guard import Guard
from controller.model import Block, Host, Model, NodeStates, Problem, Sla, Snapshot, Stream, Trigger
from controller.moves import plan_move
from controller.planner import Planner
from controller.policies.joint import Joint
from controller.sited import Paths, Sited, Sites
from testbed.emulation.heap import keep_freed
from testbed.emulation.routes import DENSE

MB, GB = 10**6, 10**9
PERIOD_US = 1_000_000
OPTIONS: dict[str, float] = {"cooldown_s": 0, "rest_s": 0, "min_gain": 0}
PARTS = ("ingest", "detect", "decide", "diff")
LIMIT_MS = {20: 15, 100: 15, 300: 15, 1_000: 15, 10_000: 50}
REPORT = np.dtype([("up", "?"), ("load_ppm", "<u4"), ("queue_us", "<u4")])
TITLE = "the whole loop: milliseconds, gaps in %; ingest and diff take the rest"
PEERS = (  # measured with the authors' own code, see the papers; what they decide is smaller than what is decided here
    ("Algorithm 1 of arXiv 2505.02533, 25 nodes x 32 heads", 7.6),
    ("its exhaustive search, 3 nodes x 8 heads", 44_800.0),
    ("node choice of AMP4EC (arXiv 2504.00407), 100 nodes, one node for one task", 0.408),
    ("arXiv 2512.01039 says, up to 20 nodes", 15.0),
)


@dataclass(frozen=True, slots=True)
class Size:
    nodes: int
    sites: int
    streams: int
    looked: int
    periods: int
    room: float = 0.0  # a node has memory for so much of a model, up to twice as much; 0: for several models
    kind: str = ""  # of objective, below

    @property
    def what(self) -> str:
        return "memory" if self.room else self.kind


OBJECTIVES: dict[str, dict[str, float]] = {
    "weighted": {"utilisation_ms": 50, "privacy_ms": 10, "reconfigure_ms": 1},
    "limits": {"max_utilisation": 0.03, "max_link_share": 0.05},  # three streams of twenty must split for it
}
SIZES = (
    Size(20, 6, 1, 1, 300),
    Size(20, 6, 3, 3, 300),
    Size(20, 6, 10, 10, 300),
    Size(20, 6, 1, 1, 200, room=0.3),
    Size(20, 6, 3, 3, 200, room=0.3),
    Size(20, 6, 1, 1, 200, kind="weighted"),
    Size(20, 6, 3, 3, 200, kind="weighted"),
    Size(20, 6, 1, 1, 200, kind="limits"),
    Size(20, 6, 3, 3, 200, kind="limits"),
    Size(100, 12, 3, 3, 200),
    Size(300, 20, 200, 3, 100),
    Size(1_000, 40, 3, 3, 200),
    Size(1_000, 40, 3, 3, 200, kind="weighted"),
    Size(1_000, 40, 100, 3, 200),
    Size(1_000, 40, 100, 3, 200, kind="weighted"),
    Size(1_000, 40, 300, 3, 100),
    Size(10_000, 200, 3, 3, 100),
    Size(10_000, 200, 100, 3, 100),
)


def problem(size: Size) -> Problem:
    draw = np.random.default_rng(1)
    phones = tuple(Host(f"ue{i}", "device", int(draw.integers(20, 100)) * GB, 4 * GB) for i in range(size.streams))
    if size.streams >= size.nodes:
        raise ValueError("as many phones as nodes: no server is left")
    servers = tuple(
        Host(f"n{i}", "edge", int(draw.integers(200, 4000)) * GB, 16 * GB) for i in range(size.nodes - size.streams)
    )
    layer = Block("", 3_300 * MB, 50 * MB, 524_288, 4 * MB)
    blocks = (
        Block("embed", 1 * MB, 125 * MB, 524_288, 4 * MB),
        *(
            Block(f"layer{i}", layer.flops, layer.weight_bytes, layer.output_bytes, layer.working_bytes)
            for i in range(24)
        ),
        Block("head", 270 * MB, 4 * MB, 4096, 1 * MB),
    )
    if size.room:
        whole = size.room * sum(block.weight_bytes for block in blocks)
        phones, servers = (
            tuple(replace(host, memory_bytes=int(whole * draw.uniform(1, 2))) for host in hosts)
            for hosts in (phones, servers)
        )
    return Problem(
        hosts=(*phones, *servers),
        models={"m": Model("m", blocks, 1024)},
        streams=tuple(Stream(f"s{i}", "m", f"ue{i}", 1_000_000) for i in range(size.streams)),
        sla=Sla(95, 10**9, 5_000_000),
    )


def apart(asked: Problem) -> Problem:
    """The same with a rate of its own for each stream."""
    draw = random.Random(5)
    streams = (replace(one, period_us=int(one.period_us * draw.uniform(0.5, 1.5))) for one in asked.streams)
    return replace(asked, streams=tuple(streams))


@dataclass(frozen=True, slots=True)
class Report:
    """One period's telemetry as it arrives."""

    nodes: bytes  # REPORT of every node
    access: bytes  # (4, N) int64: delay out and in, rate out and in
    between: bytes  # (2, S, S) int64: delays and rates between sites


def reports(size: Size) -> Iterator[Report]:
    draw, nodes, phones = np.random.default_rng(2), size.nodes, size.streams
    while True:
        states = np.zeros(nodes, REPORT)
        states["up"], states["load_ppm"] = draw.random(nodes) > 0.01, draw.integers(0, 800_000, nodes)
        states["up"][:phones], states["queue_us"] = True, draw.integers(0, 4_000, nodes)
        delay, rate = draw.integers(50, 500, (2, nodes)), draw.integers(1_000, 10_000, (2, nodes)) * MB
        delay[:, :phones], rate[:, :phones] = (
            draw.integers(4_000, 20_000, (2, phones)),
            draw.integers(5, 200, (2, phones)) * MB,
        )
        far = draw.integers(300, 15_000, (size.sites, size.sites))
        np.fill_diagonal(far, 50)
        wide = draw.integers(200, 10_000, far.shape) * MB
        yield Report(states.tobytes(), np.concatenate((delay, rate)).tobytes(), np.stack((far, wide)).tobytes())


class Intake:
    """Reports to snapshots. Sites never change; paths stay factored where there are many hosts."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._sites = Sites(np.random.default_rng(3).integers(0, size.sites, size.nodes))

    def snapshot(self, now_us: int, report: Report) -> Snapshot:
        size, states = self._size, np.frombuffer(report.nodes, REPORT)
        access = np.frombuffer(report.access, np.int64).reshape(4, size.nodes)
        far, wide = np.frombuffer(report.between, np.int64).reshape(2, size.sites, size.sites)
        delay: Paths = Sited(self._sites, access[0], access[1], far)
        rate: Paths = Sited(self._sites, access[2], access[3], wide, narrowest=True)
        if size.nodes <= DENSE:
            delay, rate = np.asarray(delay), np.asarray(rate)
        nodes = NodeStates(states["up"], states["load_ppm"].astype(np.int64), states["queue_us"].astype(np.int64))
        return Snapshot(now_us, nodes, delay, rate)


def triggers(size: Size, period: int) -> tuple[Trigger, ...]:
    """Streams in turn, as many as are looked at."""
    first = period * size.looked % size.streams
    about = [f"s{(first + k) % size.streams}" for k in range(size.looked)]
    return tuple(Trigger("end_to_end", stream, 2.0, 1.0) for stream in about)


def measure(size: Size) -> dict[str, object]:
    asked = problem(size)
    policy = Joint(asked, OPTIONS | OBJECTIVES.get(size.kind, {}))
    detector, intake, seen = Detector(asked), Intake(size), reports(size)
    guard = Guard(asked, policy, lambda: 0)
    snapshot = intake.snapshot(0, next(seen))
    placement = policy.start(snapshot).placement
    gc.freeze()  # as the process does that the controller is forked from
    took, gaps, planned, moves, busy = list[tuple[float, ...]](), list[float](), list[float](), 0, list[float]()
    for period in range(1, size.periods + 1):
        named = triggers(size, period)
        report, began, clock = next(seen), time.process_time(), [time.perf_counter()]
        snapshot = intake.snapshot(period * 60 * PERIOD_US, report)
        clock.append(time.perf_counter())
        detector.look(snapshot, placement.nodes)
        clock.append(time.perf_counter())
        verdict = guard.decide(snapshot, placement, named)
        clock.append(time.perf_counter())
        decision = verdict.decision
        plan_move(asked, placement.nodes, decision.placement.nodes, snapshot)
        clock.append(time.perf_counter())
        busy.append((time.process_time() - began) * 1e3)
        assert not verdict.refused, verdict.refused
        took.append(tuple((b - a) * 1e3 for a, b in pairwise(clock)))
        found = gap(decision)
        gaps += [] if found is None else [found]
        moved = decision.placement != placement
        planned += [] if found is None or not moved else [found]
        moves += moved
        placement = decision.placement
    times = np.array(took)
    whole = times.sum(axis=1)
    return {
        "nodes": size.nodes,
        "streams": size.streams,
        "looked_at": size.looked,
        "what": size.what,
        "periods": size.periods,
        "moves": moves,
        "p50_ms": float(np.percentile(whole, 50)),
        "p99_ms": float(np.percentile(whole, 99)),
        "max_ms": float(whole.max()),
        "cpu_p50_ms": float(np.percentile(busy, 50)),
        "cpu_p99_ms": float(np.percentile(busy, 99)),
        "limit_ms": LIMIT_MS[size.nodes],
        "parts_p50_ms": dict(zip(PARTS, np.percentile(times, 50, axis=0).tolist(), strict=True)),
        "gap_p50": float(np.percentile(gaps, 50)),
        "gap_p95": float(np.percentile(gaps, 95)),
        "gap_max": float(max(gaps)),
        "gap_min": float(min(gaps)),
        "planned_gap_p95": float(np.percentile(planned, 95)),
        "planned_gap_max": float(max(planned)),
    }


def beside_highs() -> list[dict[str, float]]:
    """The planner and HiGHS on the same instance, one stream: what each takes, and what HiGHS finds less."""
    rows = []
    for nodes, blocks, seeds in ((5, 10, 5), (8, 14, 3), (12, 26, 1)):
        ours, theirs, gaps = list[float](), list[float](), list[float]()
        for seed in range(seeds):
            size = Size(nodes, 3, 1, 1, 1)
            asked = problem(size)
            model = asked.models["m"]
            asked = Problem(
                asked.hosts, {"m": Model("m", model.blocks[:blocks], model.input_bytes)}, asked.streams, asked.sla
            )
            seen = reports(size)
            report = [next(seen) for _ in range(seed + 1)][-1]
            snapshot, planner, began = Intake(size).snapshot(0, report), Planner(asked), time.perf_counter()
            plan = planner.plan(snapshot, ["s0"], {})
            ours.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            best = optimum(asked, snapshot, ["s0"])
            theirs.append((time.perf_counter() - began) * 1e3)
            gaps.append(planner.total_us(snapshot, plan.rows or {}, {}) / best.cost_us - 1)
        rows.append(
            {"nodes": nodes, "blocks": blocks, "instances": seeds, "ours_ms": float(np.median(ours))}
            | {"highs_ms": float(np.median(theirs)), "gap_max": float(max(gaps))}
        )
    return rows


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keep_freed()  # as the controller's process does when it begins
    quick = "quick" in sys.argv
    names = ["nodes", "served", "look", "what", "p50", "p99", "cpu99", "limit", "detect", "decide"]
    names += ["gap50", "gap95", "plan95", "moves"]
    shown, rows = Shown(*names, title=TITLE, box=box.SIMPLE), list[dict[str, object]]()
    for size in SIZES:
        row = measure(replace(size, periods=20) if quick else size)
        rows.append(row)
        parts = row["parts_p50_ms"]
        assert isinstance(parts, dict)
        shown.add_row(
            *(str(row[name]) for name in ("nodes", "streams", "looked_at", "what")),
            *(f"{row[name]:.1f}" for name in ("p50_ms", "p99_ms", "cpu_p99_ms")),
            *(str(row["limit_ms"]), *(f"{parts[part]:.1f}" for part in ("detect", "decide"))),
            *(f"{row[name]:.2%}"[:-1] for name in ("gap_p50", "gap_p95", "planned_gap_p95")),
            str(row["moves"]),
        )
    console = Console(width=WIDTH)
    console.print(shown)
    exact = Shown(
        "nodes", "blocks", "instances", "ours ms", "HiGHS ms", "largest gap", title="beside HiGHS", width=WIDTH
    )
    compared = beside_highs()
    for one in compared:
        exact.add_row(*(f"{value:.4g}" for value in one.values()))
    console.print(exact)
    peers = Shown("others", "ms", title="what others take for a decision", width=WIDTH)
    for what, took in PEERS:
        peers.add_row(what, f"{took:g}")
    console.print(peers)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "decision.json").write_text(
        json.dumps({"loop": rows, "beside_highs": compared, "peers": PEERS}, indent=1)
    )


if __name__ == "__main__":
    main()
