"""How near to the optimum placements are when memory is short: 500 small random problems, beside HiGHS.

    .venv/bin/python -m benchmarks.tight [problems] [one|several]

4 to 6 nodes, 8 to 12 blocks, together 1.3 to 1.8 times the memory that is needed, so that no node holds everything;
one stream, or two to three streams of one or two models, which share what they load of the same one. The gap is to the
optimum: where the planner's own bound proves it there is none to find, the others are solved by HiGHS, and of one
stream so is every tenth that is proven, as a check of the proof; where HiGHS gives up, it is that to the bound. `bound`
is how far the bound is below the optimum.
"""

import json
import sys
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.milp import optimum
from benchmarks.table import RESULTS
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream
from controller.planner import Planner

PROVEN, CHECKED = 1e-5, 10
GB, MB = 10**9, 10**6
LIMIT_S = 300.0  # of HiGHS for one problem
SELDOM_US = 10**15  # between requests: nobody waits for another
Draw = np.random.Generator


@dataclass(frozen=True, slots=True)
class Found:
    gap: float  # to the optimum
    certified: float  # to the planner's own bound
    below: float  # how far that is below the optimum
    asked: bool  # HiGHS
    sure: bool  # that it is the optimum
    took_ms: float


def one(seed: int) -> tuple[Problem, Snapshot]:
    """One stream."""
    draw = np.random.default_rng(seed)
    hosts, count = int(draw.integers(4, 7)), int(draw.integers(8, 13))
    model = _model(draw, "m", count)
    memory = draw.dirichlet(np.full(hosts, 3.0)) * _bytes(model) * draw.uniform(1.3, 1.8)
    return _problem(draw, memory, {"m": model}, (Stream("s", "m", "n0", SELDOM_US),))


def several(seed: int) -> tuple[Problem, Snapshot]:
    """Two or three streams of one or two models."""
    draw = np.random.default_rng(seed)
    hosts, count = int(draw.integers(4, 7)), int(draw.integers(2, 4))
    models = [_model(draw, f"m{k}", int(draw.integers(8, 13))) for k in range(int(draw.integers(1, 3)))]
    memory = draw.dirichlet(np.full(hosts, 3.0)) * sum(map(_bytes, models)) * draw.uniform(1.3, 1.8)
    streams = tuple(Stream(f"s{k}", models[k % len(models)].name, f"n{k % hosts}", SELDOM_US) for k in range(count))
    return _problem(draw, memory, {model.name: model for model in models}, streams)


def _model(draw: Draw, name: str, count: int) -> Model:
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
    return Model(name, blocks, 150_000)


def _bytes(model: Model) -> int:
    return sum(b.weight_bytes for b in model.blocks) + max(b.working_bytes for b in model.blocks)


def _problem(
    draw: Draw, memory: np.ndarray, models: dict[str, Model], streams: tuple[Stream, ...]
) -> tuple[Problem, Snapshot]:
    hosts = len(memory)
    problem = Problem(
        hosts=tuple(Host(f"n{i}", "z", int(draw.integers(10, 400)) * GB, int(memory[i])) for i in range(hosts)),
        models=models,
        streams=streams,
        sla=Sla(95, 10**6, 10**6),
    )
    nodes = tuple(NodeState(True, int(draw.integers(0, 700_000)), int(draw.integers(0, 9000))) for _ in range(hosts))
    delay = draw.integers(100, 20_000, (hosts, hosts))
    np.fill_diagonal(delay, 0)
    return problem, Snapshot(0, nodes, delay, draw.integers(5, 500, (hosts, hosts)) * MB)


def judged(problem: Problem, snapshot: Snapshot, *, check: bool = False) -> Found:
    """`check`: HiGHS is asked even if the planner has a proof."""
    planner, names = Planner(problem), [stream.name for stream in problem.streams]
    began = time.perf_counter()
    plan = planner.plan(snapshot, names, {})
    took = (time.perf_counter() - began) * 1e3
    total = planner.total_us(snapshot, plan.rows, {}) if plan.rows else float("inf")
    certified = total / plan.bound_us - 1 if plan.rows else float("inf")
    if certified < PROVEN and not check:
        return Found(max(certified, 0.0), certified, 0.0, False, True, took)
    best = optimum(problem, snapshot, names, LIMIT_S)
    if not best.proven:  # all that is known of the gap is that bound
        return Found(certified, certified, 0.0, True, False, took)
    found = 0.0 if best.cost_us == total else total / best.cost_us - 1
    return Found(found, certified, 1 - plan.bound_us / best.cost_us, True, True, took)


def figures(found: list[Found]) -> dict[str, float]:
    gaps, certified, below, took = (
        np.array([getattr(one, name) for one in found]) for name in ("gap", "certified", "below", "took_ms")
    )
    return {
        "problems": len(found),
        "mean_gap": float(gaps.mean()),
        "p95_gap": float(np.percentile(gaps, 95)),
        "max_gap": float(gaps.max()),
        "least_gap": float(gaps.min()),
        "optimal": float((gaps < PROVEN).mean()),
        "proven_by_itself": float((certified < PROVEN).mean()),
        "bound_p50": float(np.percentile(below, 50)),
        "bound_p95": float(np.percentile(below, 95)),
        "least_bound": float(below.min()),  # below 0 by more than rounding: the bound would be wrong
        "asked_highs": sum(one.asked for one in found),
        "not_solved": sum(not one.sure for one in found),
        "plan_p50_ms": float(np.percentile(took, 50)),
        "plan_p99_ms": float(np.percentile(took, 99)),
    }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    kinds = {"one": one, "several": several}
    chosen = {name: kinds[name] for name in sys.argv[2:]} or kinds
    for name, make in chosen.items():
        began = time.perf_counter()
        checks = CHECKED if name == "one" else count
        found = [judged(*make(seed), check=seed % checks == 0) for seed in range(count)]
        row = figures(found) | {"seconds": round(time.perf_counter() - began, 1)}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"tight-{name}.json").write_text(json.dumps(row, indent=1))
        print(f"{name} stream{'s' if name == 'several' else ''}")
        for what, value in row.items():
            print(f"  {what:18}{value:12.6g}")


if __name__ == "__main__":
    main()
