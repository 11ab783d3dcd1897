"""The cluster of paper 001 (arXiv 2504.00407) in the emulation: one server beside AMP4EC on two, three and four.

    python -m benchmarks.cluster [VARIANT...]     about half a minute for each; all of them when none is named

64 requests of MobileNetV2 at 160 a second, more than the strongest server answers. Times are virtual, so that each
variant gives the same again; only decisions take time of this machine.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from rich.console import Console
from rich.table import Table

from benchmarks.table import RESULTS
from controller.amp4ec.scheduler import balance
from testbed.percentile import percentile
from testbed.progress import Unwatched
from testbed.run import RunOptions, run
from testbed.scenario import ScenarioRun
from testbed.summary import first_records, latency_us

EXPERIMENT = Path(__file__).parent.parent / "tests/scenarios/experiments/amp4ec.yaml"
SERVERS = ("edge1", "edge2", "edge3", "edge4")


@dataclass(frozen=True, slots=True)
class Variant:
    servers: tuple[str, ...]  # that may take part
    sets: tuple[str, ...] = ()


def _amp4ec(count: int, *sets: str) -> Variant:
    vetoes = (f"policy.veto=[{', '.join(SERVERS[count:])}]",) if count < len(SERVERS) else ()
    return Variant(SERVERS[:count], (*vetoes, *sets))


VARIANTS = {
    "one": Variant(SERVERS[:1], ("policy.name=server_only", "policy.server=edge1")),
    "two": _amp4ec(2),
    "three": _amp4ec(3),
    "four": _amp4ec(4),
    "four-cache": _amp4ec(4, "models.net.result_cache=8"),
    "four-balanced": _amp4ec(4, "policy.cut=balanced"),
    "four-replicas": _amp4ec(4, "policy.partitions=1"),
    "four-paper": _amp4ec(4, "policy.mode=paper"),
    "four-paper-formula": _amp4ec(4, "policy.mode=paper", "policy.cut=cost", "policy.costs=formula"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    first_ms: float  # of the first request, which finds nothing before it
    p50_ms: float
    p95_ms: float
    answered_per_s: float  # from the first request to the last answer
    balance: float  # Jain's index of the seconds that the servers were busy
    busy_s: dict[str, float]
    decision_ms: float  # the longest, processor time
    hit_ratio: float | None  # of the phone's cache
    data_bytes: int  # tensors over the network


def figures(done: ScenarioRun, servers: tuple[str, ...]) -> Figures:
    """Of a run in which every request was answered; `servers`: that could take part."""
    requests = first_records(done.journal("request"))
    late_us = max(request["done_us"] for request in requests) - min(request["sent_us"] for request in requests)
    latencies = [latency_us(request) for request in requests]
    p50, p95 = ((percentile(latencies, percent) or 0.0) / 1000 for percent in (50, 95))
    busy = {record["node"]: record["busy_s"] for record in done.journal("node")}  # the last word of each
    cache = done.summary.get("cache")
    return Figures(
        latencies[0] / 1000,
        p50,
        p95,
        len(requests) * 1e6 / late_us,
        balance([round(busy[server] * 1e6) for server in servers]),
        {server: busy[server] for server in servers},
        max(decision["duration_us"] for decision in done.journal("decision")) / 1000,
        cache and cache["ratio"],
        done.summary["bytes"]["data"],
    )


def measure(name: str) -> Figures:
    variant = VARIANTS[name]
    options = RunOptions(out=Path(mkdtemp(prefix=f"cluster-{name}-")), sets=variant.sets)
    done = run(EXPERIMENT, options, Unwatched())
    seen = ScenarioRun(done.folder, done.summary)
    seen.assert_no_loss()
    seen.assert_right()
    return figures(seen, variant.servers)


def main() -> None:
    names = sys.argv[1:] or list(VARIANTS)
    columns = (
        "variant",
        "first, ms",
        "p50, ms",
        "p95, ms",
        "answers/s",
        "balance",
        "busy, s",
        "decision, ms",
        "hits",
        "data, MB",
    )
    table, results = Table(*columns, title="AMP4EC's cluster"), {}
    for name in names:
        found = measure(name)
        results[name] = dataclasses.asdict(found)
        numbers = (found.first_ms, found.p50_ms, found.p95_ms, found.answered_per_s, found.balance)
        busy = " ".join(f"{seconds:.2f}" for seconds in found.busy_s.values())
        hits = "" if found.hit_ratio is None else f"{found.hit_ratio:.0%}"
        data_mb = f"{found.data_bytes / 1e6:.1f}"
        table.add_row(name, *(f"{n:.3g}" for n in numbers), busy, f"{found.decision_ms:.3g}", hits, data_mb)
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cluster.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
