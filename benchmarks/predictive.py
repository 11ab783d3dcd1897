"""Does it help to look ahead? `joint` on what is, on forecasts, and on the truth, over recorded radio links.

    python -m benchmarks.predictive [RECORDING...]

A phone serves ViT-B/16 alone or with an edge server, a MEC server and a cloud behind a radio link whose rate is a trace
(by default the generated ones in traces/; any recording that `testbed trace show` reads). No emulation: the truth is
the cost model, with the time that a request's bytes take over the link as it will be from that second on. So the
policies are compared by what they know, nothing else. Each decides once a second and sees the second that has passed.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from benchmarks.table import RESULTS
from controller.cost import predict
from controller.detect import Detector
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream
from controller.policies.joint import Joint
from controller.policies.predictive import Predictive
from controller.policies.static import Static
from controller.table import Row, Table, tabulate
from nodes.costing.profile import profile
from testbed.devices import PROFILES
from testbed.trace.lookup import read_trace
from testbed.trace.series import resample

SECOND_US = 1_000_000
SLA_MS = 250.0
WIRED_BPS, WIRED_US = 10**9, {"edge": 500, "mec": 2000, "cloud": 15_000}
RADIO_US = 8000
POLICIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "static": (Static, {}),
    "myopic": (Joint, {}),
    "persistence": (Predictive, {"forecast": "persistence"}),
    "holt": (Predictive, {"forecast": "holt"}),
    "learned": (Predictive, {"forecast": "learned"}),
    "oracle": (Predictive, {}),
}


@dataclass(frozen=True, slots=True)
class World:
    """A star around the base station: the radio link replays a trace, the wires behind it stand still."""

    problem: Problem
    up_bps: tuple[int, ...]  # mean of each second
    down_bps: tuple[int, ...]

    def carrying(self, second: int, up_bytes: float, down_bytes: float) -> Snapshot:
        """What a request that starts then meets: rates are those that its bytes will have got in the end."""
        return self._with(second, _met(self.up_bps, second, up_bytes), _met(self.down_bps, second, down_bytes))

    def at(self, first: int, last: int) -> Snapshot:
        """Mean of the seconds first..last-1, as much of them as there is; rates by the time that bytes take."""
        end = min(max(last, first + 1), len(self.up_bps))
        up, down = (
            int(1 / np.mean([1 / max(rate, 8000) for rate in rates[min(first, end - 1) : end]]))
            for rates in (self.up_bps, self.down_bps)
        )
        return self._with(first, up, down)

    def _with(self, second: int, up_bps: int, down_bps: int) -> Snapshot:
        names = [host.name for host in self.problem.hosts]
        rate = np.full((len(names),) * 2, WIRED_BPS)
        rate[0, 1:], rate[1:, 0] = up_bps, down_bps
        leg = np.array([RADIO_US, *(WIRED_US[name] for name in names[1:])])
        delay = leg[:, None] + leg[None, :]
        np.fill_diagonal(delay, 0)
        nodes = tuple(NodeState(True, 0, 0) for _ in names)
        return Snapshot(second * SECOND_US, nodes, delay.astype(np.int64), rate.astype(np.int64))


def _met(rates_bps: Sequence[int], second: int, size_bytes: float) -> int:
    left, seconds = 8 * size_bytes, 0.0
    for rate_bps in (*rates_bps[second:], *rates_bps):  # behind its end the trace begins anew
        if left <= rate_bps:
            return max(1, int(8 * size_bytes / (seconds + left / max(rate_bps, 1)))) if size_bytes else max(rate_bps, 1)
        left, seconds = left - rate_bps, seconds + 1
    return 1


def problem() -> Problem:
    costs = profile("vit_b16")
    blocks = tuple(
        Block(unit.name, unit.flops, unit.weight_bytes, unit.output_bytes, unit.working_bytes, unit.output_class)
        for unit in costs.units
    )
    kinds = {"ue": "phone", "edge": "edge_small", "mec": "mec_gpu", "cloud": "cloud_gpu"}
    return Problem(
        hosts=tuple(Host(n, n, PROFILES[k].flops_per_s, PROFILES[k].memory_bytes) for n, k in kinds.items()),
        models={"vit": Model("vit", blocks, costs.input_bytes)},
        streams=(Stream("s", "vit", "ue", SECOND_US),),
        sla=Sla(95, round(SLA_MS * 1000), 5 * SECOND_US),
    )


def world(recording: Path, seconds: int) -> World:
    series = resample(read_trace(recording), SECOND_US)
    one = series.rate_column("up") or series.rate_column("down")  # a recording of one direction stands for both
    if one is None:
        raise SystemExit(f"{recording}: no rates in it")
    up, down = series.rate_column("up") or one, series.rate_column("down") or one
    return World(problem(), series.columns[up][:seconds], series.columns[down][:seconds])


def run(real: World, kind: Any, options: dict[str, Any]) -> dict[str, float]:
    """Latencies (ms) of every second but the first, and moves."""
    table, options = tabulate(real.problem), dict(options)
    if kind is Predictive and "forecast" not in options:
        options["oracle"] = lambda now_us, long_us: _ahead(real, now_us, long_us)
    policy, detector = kind(real.problem, options), Detector(real.problem)
    placement = policy.start(_seen(real, 1, [])).placement
    latency_ms: list[float] = []
    moves = 0
    for second in range(1, len(real.up_bps)):
        seen = _seen(real, second, latency_ms)
        decision = policy.decide(seen, placement, detector.look(seen, placement.nodes))
        if decision.action in ("REMAP", "RESPLIT"):
            moves, placement = moves + 1, decision.placement
            detector.relearn(seen.now_us)
        latency_ms.append(_latency_ms(real, table, second, table.row(placement.nodes["s"])))
    late = sum(value > SLA_MS for value in latency_ms) / len(latency_ms)
    p95 = float(np.percentile(latency_ms, 95))
    return {"mean_ms": float(np.mean(latency_ms)), "p95_ms": p95, "late_share": late, "moves": float(moves)}


def _latency_ms(real: World, table: Table, second: int, row: Row) -> float:
    crossing = [(a, b, size) for a, b, size in table.legs("s", row).carries if 0 in {a, b}]
    up, down = (sum(size for *ends, size in crossing if ends[way] == 0) for way in (0, 1))
    return predict(table, real.carrying(second, up, down), {"s": row})["s"].total_us / 1000


def _seen(real: World, second: int, latency_ms: Sequence[float]) -> Snapshot:
    """What is known at the beginning of a second: the one before it."""
    before = real.at(second - 1, second)
    measured = {"s": round(1000 * float(np.percentile(latency_ms[-5:], 95)))} if latency_ms else {}
    return Snapshot(second * SECOND_US, before.nodes, before.delay_us, before.rate_bps, measured)


def _ahead(real: World, now_us: int, long_us: int) -> Snapshot:
    first = now_us // SECOND_US
    return Snapshot(now_us, *_parts(real.at(first, first + long_us // SECOND_US)))


def _parts(snapshot: Snapshot) -> tuple[Any, Any, Any]:
    return snapshot.nodes, snapshot.delay_us, snapshot.rate_bps


def main() -> None:
    root = Path(__file__).parents[1]
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("recordings", nargs="*", type=Path, metavar="RECORDING")
    asked.add_argument("--seconds", type=int, default=600)
    given = asked.parse_args()
    recordings = given.recordings or sorted((root / "traces").glob("*.csv"))
    results = {
        one.name: {name: run(world(one, given.seconds), *policy) for name, policy in POLICIES.items()}
        for one in recordings
    }
    for key, title in (
        ("mean_ms", "mean latency, ms"),
        ("late_share", f"share of seconds over {SLA_MS:g} ms"),
        ("moves", "moves"),
    ):
        table = Printed("recording", *POLICIES, title=title)
        for recording, figures in results.items():
            table.add_row(recording, *(f"{figures[policy][key]:.3g}" for policy in POLICIES))
        Console(width=120).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "predictive.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
