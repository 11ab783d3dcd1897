"""How near to the optimum placements are when memory is short: 500 small random problems, beside HiGHS.

    .venv/bin/python -m benchmarks.tight [problems]

4 to 6 nodes, 8 to 12 blocks, one stream, together 1.3 to 1.8 times the memory that is needed, so that no node holds
everything. The gap is to the optimum: where the planner's own bound proves it there is none to find, the others are
solved by HiGHS, and so is every tenth that is proven, as a check of the proof.
"""

import json
import sys
import time

import numpy as np

from benchmarks.milp import optimum
from benchmarks.table import RESULTS
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream
from controller.planner import Planner

PROVEN, CHECKED = 1e-5, 10
GB, MB = 10**9, 10**6


def instance(seed: int) -> tuple[Problem, Snapshot]:
    draw = np.random.default_rng(seed)
    hosts, count = int(draw.integers(4, 7)), int(draw.integers(8, 13))
    blocks = tuple(
        Block(
            f"b{i}",
            int(draw.integers(1, 50)) * 10**8,
            int(draw.integers(10, 100)) * MB,
            int(draw.integers(10, 600)) * 1000,
            int(draw.integers(0, 5)) * MB,
        )
        for i in range(count)
    )
    need = sum(b.weight_bytes for b in blocks) + max(b.working_bytes for b in blocks)
    memory = draw.dirichlet(np.full(hosts, 3.0)) * need * draw.uniform(1.3, 1.8)
    problem = Problem(
        hosts=tuple(Host(f"n{i}", "z", int(draw.integers(10, 400)) * GB, int(memory[i])) for i in range(hosts)),
        models={"m": Model("m", blocks, 150_000)},
        streams=(Stream("s", "m", "n0", 10**15),),
        sla=Sla(95, 10**6, 10**6),
    )
    nodes = tuple(NodeState(True, int(draw.integers(0, 700_000)), int(draw.integers(0, 9000))) for _ in range(hosts))
    delay = draw.integers(100, 20_000, (hosts, hosts))
    np.fill_diagonal(delay, 0)
    return problem, Snapshot(0, nodes, delay, draw.integers(5, 500, (hosts, hosts)) * MB)


def gap_of(seed: int) -> tuple[float, float, bool]:
    """(gap to the optimum, gap to the planner's own bound, whether HiGHS was asked)."""
    problem, snapshot = instance(seed)
    planner = Planner(problem)
    plan = planner.plan(snapshot, ["s"], {})
    total = planner.total_us(snapshot, plan.rows, {}) if plan.rows else float("inf")
    certified = total / plan.bound_us - 1 if plan.rows else float("inf")
    if certified < PROVEN and seed % CHECKED:
        return max(certified, 0.0), certified, False
    best = optimum(problem, snapshot, "s")
    if best.cost_us == total:
        return 0.0, certified, True
    return total / best.cost_us - 1, certified, True


def main() -> None:
    count, began = int(sys.argv[1]) if len(sys.argv) > 1 else 500, time.perf_counter()
    found = [gap_of(seed) for seed in range(count)]
    gaps, certified = np.array([gap for gap, _, _ in found]), np.array([gap for _, gap, _ in found])
    figures = {
        "problems": count,
        "mean_gap": float(gaps.mean()),
        "p95_gap": float(np.percentile(gaps, 95)),
        "max_gap": float(gaps.max()),
        "least_gap": float(gaps.min()),
        "optimal": float((gaps < PROVEN).mean()),
        "proven_by_itself": float((certified < PROVEN).mean()),
        "asked_highs": sum(asked for _, _, asked in found),
        "seconds": round(time.perf_counter() - began, 1),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tight.json").write_text(json.dumps(figures, indent=1))
    for name, value in figures.items():
        print(f"{name:18}{value:12.6g}")


if __name__ == "__main__":
    main()
