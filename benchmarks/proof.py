"""How good decisions of `joint` really are: the optimum of each is sought afterwards, as `testbed why --prove` does.

    .venv/bin/python -m benchmarks.proof [periods]

The same problems, periods and options as in `benchmarks.decision`, without memory pressure. Streams are of one rate
there, a request a second; `busy` ones have 20 a second, so that they wait for themselves, and `unlike` ones each its
own, between 2/3 of one and twice it. The last rows are of the policy `optimal`, which seeks the optimum before it
decides. `decided` is the gap that a decision knows of itself, in the time that it has; `proven` that of the same
placement to the bound that is known afterwards (nothing more is sought where a decision knows that its gap is 0),
`closed` in how many periods the optimum is certain (within 1e-6), `above` by how much the chosen placement is above the
best that was found. Seconds are processor time on one processor, of one proof.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.decision import OPTIONS, PERIOD_US, Intake, Size, apart, problem, reports, triggers
from benchmarks.table import RESULTS, WIDTH
from controller.cost import UNREACHABLE_US
from controller.explain import gap
from controller.plugins import build
from controller.table import tabulate
from testbed.proof.certificate import certify
from testbed.proof.finished import ROUNDED_US


@dataclass(frozen=True, slots=True)
class Row:
    size: Size
    rates: str = "alike"  # alike, busy, unlike
    policy: str = "joint"
    options: Mapping[str, Any] = field(default_factory=dict)


CROWD = Size(20, 6, 10, 10, 300)
ROWS = (
    Row(Size(20, 6, 1, 1, 100)),
    Row(Size(20, 6, 1, 1, 100), "busy"),
    Row(Size(20, 6, 3, 3, 100)),
    Row(CROWD),
    Row(replace(CROWD, periods=20), "unlike"),
    Row(Size(100, 12, 1, 1, 50), "busy"),
    Row(Size(100, 12, 3, 3, 50)),
    Row(Size(100, 12, 50, 1, 50)),
    Row(Size(300, 20, 200, 3, 50)),
    Row(Size(1_000, 40, 1, 1, 50), "busy"),
    Row(Size(1_000, 40, 3, 3, 50)),
    Row(Size(1_000, 40, 100, 1, 50)),
    Row(Size(1_000, 40, 100, 3, 50)),
    Row(replace(CROWD, periods=100), "alike", "optimal"),
    Row(replace(CROWD, periods=20), "unlike", "optimal", {"proof": "patient"}),
)
BUSY_US = 50_000
CLOSED = 1e-6


def measure(row: Row) -> dict[str, float | str]:
    size, asked = row.size, problem(row.size)
    if row.rates == "unlike":
        asked = apart(asked)
    if row.rates == "busy":
        asked = replace(asked, streams=tuple(replace(stream, period_us=BUSY_US) for stream in asked.streams))
    asked, policy = build(row.policy, asked, {**OPTIONS, **row.options})
    table, intake, seen = tabulate(asked), Intake(size), reports(size)
    placement = policy.start(intake.snapshot(0, next(seen))).placement
    decided, proven, above, took, closed = list[float](), list[float](), list[float](), list[float](), 0
    for period in range(1, size.periods + 1):
        snapshot = intake.snapshot(period * 60 * PERIOD_US, next(seen))
        decision = policy.decide(snapshot, placement, triggers(size, period))
        placement = decision.placement
        chosen = next(c for c in decision.candidates if not c.why_not)
        if any(latency.total_us >= UNREACHABLE_US for latency in chosen.predicted.values()):
            continue
        decided.append(gap(decision) or 0.0)
        if not decided[-1]:
            closed += 1
            for values in (proven, above, took):
                values.append(0.0)
            continue
        began = time.process_time()
        rows = {stream: table.row(nodes) for stream, nodes in chosen.nodes.items()}
        known_us = decision.lower_bound_us - ROUNDED_US
        found = certify(asked, snapshot, tuple(chosen.predicted), rows, weights=decision.weights, known_us=known_us)
        took.append(time.process_time() - began)
        proven.append(found.start_us / found.bound_us - 1)
        above.append(found.start_us / found.found_us - 1)
        closed += found.found_us <= found.bound_us * (1 + CLOSED)
    return {
        "nodes": size.nodes,
        "streams": size.streams,
        "looked_at": size.looked,
        "rates": row.rates,
        "policy": row.policy,
        "periods": len(took),
        **_spread("decided", decided, (50, 95, 100)),
        **_spread("proven", proven, (50, 95, 100)),
        **_spread("above", above, (95, 100)),
        "closed": closed / len(took),
        **_spread("seconds", took, (50, 95, 100)),
    }


def _spread(name: str, values: list[float], points: tuple[int, ...]) -> dict[str, float]:
    return {f"{name}_p{point}": float(np.percentile(values, point)) for point in points}


def _short(name: str) -> str:
    """Of a column."""
    what, _, point = name.partition("_p")
    return f"{'s' if what == 'seconds' else what[:5]} {point}"


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    most = int(sys.argv[1]) if len(sys.argv) > 1 else None
    sizes = [replace(row.size, periods=min(row.size.periods, most or row.size.periods)) for row in ROWS]
    rows = [measure(replace(row, size=size)) for row, size in zip(ROWS, sizes, strict=True)]
    shares = [name for name in rows[0] if name.partition("_")[0] in ("decided", "proven", "above")]
    seconds = [name for name in rows[0] if name.startswith("seconds")]
    asked = ("policy", "nodes", "served", "looked", "rates", "periods")
    names = (*asked, *map(_short, shares), "closed", *map(_short, seconds))
    shown = Shown(*names, title="gaps in %, proofs in seconds", width=WIDTH + 40)
    for row in rows:
        shown.add_row(
            *(str(row[name]) for name in ("policy", "nodes", "streams", "looked_at", "rates", "periods")),
            *(f"{100 * float(row[name]):.4f}" for name in shares),
            f"{float(row['closed']):.1%}",
            *(f"{float(row[name]):.2f}" for name in seconds),
        )
    Console(width=WIDTH + 40).print(shown)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "proof.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
