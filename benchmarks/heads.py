"""arXiv 2505.02533 as a decision problem: distance to the optimum, decision time, and where a head split pays.

    python -m benchmarks.heads             all, some minutes
    python -m benchmarks.heads --quick     the same on few seeds (heads-quick.json)
    python -m benchmarks.heads crossover   the tables whose names hold the word

Every table names its mode (docs/heads.md); times are wall times of this process, the machine not being kept quiet. All
policies see the same worlds, each its own state. JSON goes to benchmarks/results/heads.json, table by table.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.head_rules import COLUMNS, EXACT, RULES, interval, model_for, total_s
from benchmarks.table import RESULTS, WIDTH
from controller.heads.blocks import heads
from controller.heads.costs import Mode, latency_s
from controller.heads.exact import exact
from controller.heads.mixing import all_patterns, mixed
from controller.heads.model import HeadModel, Infeasible, Plan, Scene, kind
from controller.heads.pipeline import pipeline
from controller.heads.plus import heads_plus
from controller.heads.simulate import Clock, Setting, simulate
from controller.heads.summed import place_summed
from controller.heads.task import Task, objective_s, task
from controller.heads.tolls import tolls_of
from controller.heads.worlds import Sort, World, scene, scenes, world

LARGE = HeadModel("large", 1, 32, 2048, 4, 64)  # the paper's medium scale
SMALL = HeadModel("small", 1, 8, 512, 4, 64)
PEERS = {25: (7.6, 78.0), 48: (30.0, 729.0)}  # ms: the authors' resource_aware, an exact sweep in plain Python
AUTHORS = {3: 0.017352, 4: 0.016139}  # s: their own exhaustive search on their own instances

Cells = Sequence[object]


def show(title: str, columns: Sequence[str], rows: Sequence[Cells]) -> list[dict[str, object]]:
    table = Table(*columns, title=title, width=WIDTH)
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=WIDTH).print(table)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def authors_instances() -> list[dict[str, object]]:
    """Their toy comparison: links drawn by random.seed(123), Gbit/s divided into GiB, three tiers, L = 512, h = 8."""
    rows = []
    for size, said in AUTHORS.items():
        draw = random.Random(123)
        rate = np.zeros((size, size))
        for a in range(size):
            for b in range(a + 1, size):
                rate[a, b] = rate[b, a] = draw.uniform(0.1, 0.5) * 2**30
        speed = np.array([4e10, 2e10, *([1e10] * (size - 2))])
        known = Scene(np.full(size, 4e9), speed, rate, np.zeros((size, size)), 0)
        asked = task(HeadModel("their small", 1, 8, 512, 4, 512), known, "code")
        found = [_cost(asked, rule(asked)) for rule in (exact, place_summed)]
        rows.append((f"{size} x 8", said, *(round(cost, 6) for cost in found)))
    return show("Mode code: the authors' instances, s a token", ("devices x heads", "they", "exact", "sweep"), rows)


def _cost(asked: Task, plan: Plan | Infeasible) -> float:
    return float("inf") if isinstance(plan, Infeasible) else objective_s(asked, plan)


def against_exact(seeds: int, tokens: int = 3) -> list[dict[str, object]]:
    """3-5 devices, paper mode: first decision, and delay with migrations of a short generation, over the optimum's."""
    first, whole = {name: list[float]() for name in RULES}, {name: list[float]() for name in RULES}
    for seed in range(seeds):
        devices = 3 + seed % 3
        made = world(Sort(devices, gbit_per_s=(0.1, 0.5)), seed)
        model = replace(SMALL, heads=8, width=512) if devices < 5 else replace(SMALL, heads=6, width=384)
        known, setting = list(scenes(made, tokens)), Setting("paper")
        best = simulate(EXACT, model, known, setting)
        for name, rule in RULES.items():
            steps = simulate(rule, model_for(name, model), known, setting)
            first[name].append(total_s(steps[:1]) / total_s(best[:1]))
            whole[name].append(total_s(steps) / total_s(best))
    rows = []
    for name in RULES:
        (one, one_half), (all_, all_half) = interval(first[name]), interval(whole[name])
        rows.append((name, one, one_half, max(first[name]), all_, all_half, max(whole[name])))
    columns = ("policy", "first, mean", "+- 95 %", "worst", f"{tokens} tokens, mean", "+- 95 % ", "worst ")
    return show(f"Mode paper: ratio to the optimum, 3-5 devices, {seeds} seeds", columns, rows)


def decisions(count: int, worlds: int) -> list[dict[str, object]]:
    """25 x 32 and 48 x 32, every decision with new background and a placement before; task included."""
    rows = []
    for devices, peers in PEERS.items():
        for mode, name in TIMED:
            made = [world(Sort(devices, delay_s=0.0005), seed) for seed in range(worlds)]
            wall, moves = _took_ms(made, count, mode, name, time.perf_counter)
            cpu, _ = _took_ms(made, count, mode, name, time.thread_time)
            shown = [float(np.percentile(took, share)) for took in (wall, cpu) for share in (50, 99)]
            beside = peers if mode == "paper" else ("", "")
            rows.append((f"{devices} x 32", mode, name, len(wall), *shown, moves, *beside))
    columns = (
        "size",
        "mode",
        "policy",
        "decisions",
        "p50 ms",
        "p99 ms",
        "p50 CPU ms",
        "p99 CPU ms",
        "moves",
        "theirs",
        "sweep",
    )
    return show("Decision time; beside it, ms, theirs and an exact sweep in plain Python", columns, rows)


TIMED: tuple[tuple[Mode, str], ...] = (
    ("paper", "heads"),
    ("paper", "heads_plus"),
    ("paper", COLUMNS),
    ("physical", "heads_plus"),
    ("physical", COLUMNS),
)


def _took_ms(made: Sequence[World], count: int, mode: Mode, name: str, clock: Clock) -> tuple[list[float], int]:
    """Each decision's time, and the blocks moved."""
    setting = Setting(mode, horizon=1.0 if mode == "paper" else 100.0)  # otherwise nothing ever moves
    steps = [
        step
        for one in made
        for step in simulate(RULES[name], model_for(name, LARGE), scenes(one, count), setting, clock)
    ]
    return [step.decision_s * 1e3 for step in steps], sum(step.moved_blocks for step in steps)


def generation(
    name: str, sort: Sort, model: HeadModel, setting: Setting, runs: tuple[int, int]
) -> list[dict[str, object]]:
    """N tokens: each policy its own state, in the same worlds."""
    tokens, seeds = runs
    rows = []
    for policy, rule in RULES.items():
        steps = [
            step
            for seed in range(seeds)
            for step in simulate(
                rule, model_for(policy, model), scenes(world(sort, seed), tokens), setting, time.perf_counter
            )
        ]
        served = [step.delay_s for step in steps if step.delay_s is not None]
        delay = float(np.mean(served)) if served else float("nan")
        migrated = float(np.mean([step.migration_s for step in steps])) / setting.interval_tokens
        share, moved = len(served) / len(steps), sum(step.moved_blocks for step in steps) / seeds
        took = float(np.median([step.decision_s for step in steps])) * 1e3
        rows.append((policy, delay, migrated, delay + migrated, share, moved, took))
    columns = ("policy", "token s", "migration s a token", "both", "served", "blocks moved a run", "decision ms")
    return show(f"Mode {setting.mode}: {name}, {tokens} tokens, {seeds} seeds", columns, rows)


def small_chains(seeds: int) -> list[dict[str, object]]:
    """Many layers with little memory, against all placements."""
    rows = []
    for devices, layers, count in ((2, 2, 3), (3, 2, 2), (2, 3, 2)):
        ratios = {"heads_plus": list[float](), "heads": list[float]()}
        for seed in range(seeds):
            asked = _tight(devices, layers, count, seed)
            best = _cost(asked, exact(asked))
            if best < float("inf"):
                for name, rule in (("heads_plus", heads_plus), ("heads", heads)):
                    ratios[name].append(_cost(asked, rule(asked)) / best)
        for name, found in ratios.items():
            optimal = sum(ratio < 1 + 1e-9 for ratio in found) / len(found)
            rows.append((f"{devices} x {layers} x {count}", name, len(found), *interval(found), max(found), optimal))
    columns = ("devices x layers x heads", "policy", "feasible", "ratio, mean", "+- 95 %", "worst", "optimal")
    return show("Mode physical: many layers, tight memory, ratio to the optimum", columns, rows)


def larger_chains(seeds: int) -> list[dict[str, object]]:
    """More than can be tried: against the best way to put together all patterns that a layer can have."""
    rows = []
    for devices, layers, count in ((3, 4, 8), (4, 3, 4)):
        ratios, open_ = list[float](), 0
        for seed in range(seeds):
            asked = _tight(devices, layers, count, seed)
            found = heads_plus(asked)
            if isinstance(found, Infeasible):
                continue
            limit_s = objective_s(asked, found) * (1 - 1e-9)
            best = mixed(asked, all_patterns(asked), tolls_of(asked), limit_s, ways=6000)
            open_ += not best.proven
            ratios.append(1.0 if best.plan is None else limit_s / objective_s(asked, best.plan))
        optimal = sum(ratio < 1 + 1e-8 for ratio in ratios) / len(ratios)
        size = f"{devices} x {layers} x {count}"
        rows.append((size, len(ratios), open_, *interval(ratios), max(ratios), optimal))
    columns = ("devices x layers x heads", "feasible", "not proven", "ratio, mean", "+- 95 %", "worst", "optimal")
    return show("Mode physical: more layers, tight memory, heads_plus over the optimum", columns, rows)


def _tight(devices: int, layers: int, count: int, seed: int) -> Task:
    draw = np.random.default_rng((seed, 2))
    made = world(Sort(devices, gbit_per_s=(0.1, 10.0), delay_s=float(draw.uniform(0, 5e-4))), seed)
    asked = task(HeadModel("tiny", layers, count, 64 * count, 4, 64), scene(made, 0), "physical")
    head, proj, ffn, _ = asked.need.resident_bytes
    whole = layers * (count * head + proj + ffn)
    return replace(asked, memory=draw.uniform(0.3, 1.8, devices) * whole / devices)


def crossover(contexts: Sequence[int], rtts_ms: Sequence[float], heads_of: Sequence[int]) -> list[dict[str, object]]:
    """4 equal devices that each hold a third of 24 layers: the pipeline's delay over the even head split's."""
    rows = []
    for count in heads_of:
        for rtt in rtts_ms:
            cells = [_cell(count, rtt, context) for context in contexts]
            rows.append((count, rtt, *cells))
    columns = ("heads", "RTT ms", *(f"L = {context}" for context in contexts))
    said = "Mode physical: pipeline / head split (above 1 the split wins), and what heads_plus makes of it"
    return show(said, columns, rows)


def _cell(count: int, rtt_ms: float, context: int) -> str:
    size, layers = 4, 24
    model = HeadModel("crossover", layers, count, 2048, 2, context)
    delay = np.full((size, size), rtt_ms / 2e3)
    np.fill_diagonal(delay, 0.0)
    known = Scene(np.full(size, 1e18), np.full(size, 2e10), np.full((size, size), 1.25e8), delay, 0)
    asked = task(model, known, "physical")
    head, proj, ffn, _ = asked.need.resident_bytes
    asked = replace(asked, memory=np.full(size, layers * (count * head + proj + ffn) / 3 * 1.01))
    chain, found = pipeline(asked), heads_plus(asked)
    split = np.empty((layers, count + 2), dtype=np.intp)
    split[:, :-2] = np.arange(count) * size // count
    split[:, -2:] = (np.arange(layers) * size // layers)[:, None]
    if isinstance(chain, Infeasible) or isinstance(found, Infeasible):
        return "-"
    one, other, best = (latency_s(plan, asked.spent, 0) for plan in (chain, split, found))
    return f"{one / other:.2f} {kind(found)} {one / best:.2f}"


def sections(quick: bool) -> dict[str, Callable[[], list[dict[str, object]]]]:
    """Name, which begins with the mode, -> what measures and shows it."""
    tokens = 20 if quick else 100
    medium, near = Sort(25, delay_s=0.0005), Sort(8, delay_s=0.0001)
    chain = HeadModel("chain", 12, 32, 2048, 4, 2048)
    staged = Setting("physical", interval_tokens=5, horizon=5, weights_move=False)
    contexts, rtts_ms = (128, 1024, 4096, 16384, 65536), (0.1, 0.3, 1.0, 3.0, 10.0)
    return {
        "code: authors' instances": authors_instances,
        "paper: ratio to exact": lambda: against_exact(6 if quick else 100),
        "decision time": lambda: decisions(20 if quick else 50, 2 if quick else 10),
        "paper: generation": lambda: generation("25 devices x 32 heads", medium, LARGE, Setting("paper"), (tokens, 3)),
        "physical: generation": lambda: generation(
            "8 devices, 12 layers x 32 heads, 2048 wide, L0 = 2048", near, chain, staged, (tokens, 3)
        ),
        "physical: small chains": lambda: small_chains(6 if quick else 50),
        "physical: larger chains": lambda: larger_chains(4 if quick else 40),
        "physical: crossover": lambda: crossover(contexts, rtts_ms, (8, 32) if quick else (8, 16, 32, 64)),
    }


def main(words: Sequence[str]) -> None:
    quick, asked = "--quick" in words, [word for word in words if word != "--quick"]
    path = RESULTS / ("heads-quick.json" if quick else "heads.json")
    found = json.loads(path.read_text()) if path.exists() else {}
    RESULTS.mkdir(exist_ok=True)
    for name, measure in sections(quick).items():
        if all(word in name for word in asked):
            found[name] = measure()
            path.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
