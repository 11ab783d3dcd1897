"""Large networks where many streams stay: no bound is above what any row costs beside them, and plans meet it."""

import dataclasses

import numpy as np
import pytest

from benchmarks.decision import Intake, Size, apart, problem, reports
from controller.chain import Group
from controller.cost import FULL, HORIZON_US, Forecast, Load, Outlook, backlog_us, wait_us
from controller.memory import Loaded, memory_bytes, overfull
from controller.planner import Planner
from controller.policies.joint import Joint
from controller.programme import solve
from controller.staying import Staying
from controller.table import tabulate
from controller.tiers import Asked, frontier, through_us
from testbed.proof.certificate import certify
from testbed.proof.chains import chains_of

CITY = Size(60, 8, 40, 3, 1)  # 40 phones, of which three are looked at
LOOKED = ["s0", "s1", "s2"]


@pytest.fixture(scope="module")
def asked():
    return apart(problem(CITY))


def world(asked, seed):
    """What is known, and where all streams are: most of them whole on a few servers, which are full or overfull."""
    draw, seen = np.random.default_rng(seed), reports(CITY)
    snapshot = Intake(CITY).snapshot(0, [next(seen) for _ in range(seed + 1)][-1])
    blocks, servers = len(asked.models["m"].blocks), range(CITY.streams, CITY.nodes)
    busy = draw.choice(servers, 2 + seed % 12, replace=False)
    rows = {stream.name: (int(draw.choice(busy)),) * blocks for stream in asked.streams}
    weights = {stream: 4.0 for stream in rows if draw.random() < 0.3}
    return snapshot, rows, weights


def any_row(draw, stream, blocks):
    """One to four runs, over any nodes."""
    cuts = np.sort(draw.choice(np.arange(1, blocks), draw.integers(0, 4), replace=False))
    nodes = draw.choice(np.append(np.arange(CITY.streams, CITY.nodes), int(stream[1:])), len(cuts) + 1)
    return tuple(int(nodes[np.searchsorted(cuts, block, side="right")]) for block in range(blocks))


@pytest.mark.parametrize("seed", range(12))
def test_no_row_costs_less_than_is_said_of_its_nodes(asked, seed):
    snapshot, rows, weights = world(asked, seed)
    table, draw = tabulate(asked), np.random.default_rng(seed)
    stay = {stream: row for stream, row in rows.items() if stream not in LOOKED}
    outlook = Outlook(Forecast(table, snapshot), weights, stay)
    question = Asked(table, snapshot, LOOKED, outlook.under, weights)
    least, deep = through_us(question, Staying.of(outlook.under, backlog_us(snapshot)))
    unloaded, _ = through_us(Asked(table, snapshot, LOOKED), Staying.of(Load(), backlog_us(snapshot)))
    assert (least >= unloaded - 1e-6).all() and (least > unloaded + 1).any()
    group = Group(table, snapshot, LOOKED, np.arange(CITY.nodes)[None])
    each = [weights.get(stream, 1.0) for stream in LOOKED]
    best = solve(group.costs(range(3), [outlook.under] * 3, each))
    for b, stream in enumerate(LOOKED):
        tried = [any_row(draw, stream, len(table.chain(stream).weight)) for _ in range(200)]
        costs = [outlook.total_us({stream: row}) for row in tried]
        for row, cost in [*zip(tried, costs, strict=True), (best[b].row, best[b].cost_us)]:
            assert all(each[b] * min(least[b, n], deep[b]) <= cost * (1 + 1e-9) for n in row)
        assert each[b] * min(least[b].min(), deep[b]) <= best[b].cost_us


def test_waits_grow_at_least_as_said():
    draw = np.random.default_rng(1)
    size = 20_000
    rho, square, own = draw.random(size) * 1.2, draw.exponential(2e5, size), draw.random(size)
    uses, backlog = draw.integers(0, 9, size).astype(float), np.where(draw.random(size) < 0.5, 0.0, 5e4)
    period, weight = np.full((1, 1), 1e6), np.full((1, 1), 4.0)
    staying, time = Staying(rho, square, uses, backlog), own * 1e6
    whole = time + staying.whole_us(time, period, weight)[0]
    said = time * staying.dearer(period, weight)[0] + staying.wait_us
    assert (said <= whole * (1 + 1e-12)).all() and (said > time + staying.wait_us).mean() > 0.5
    assert rho.max() > FULL and (square > HORIZON_US * (1 - FULL) ** 2).any()  # where waits grow slower at the edge
    before = np.maximum(backlog, wait_us(rho, square))
    assert np.allclose(staying.wait_us, before)


@pytest.mark.parametrize("seed", range(6))
def test_plans_beside_many_that_stay_are_the_optimum(asked, seed):
    """With the frontier of an empty network they were up to half as dear again as the bound."""
    snapshot, rows, weights = world(asked, seed)
    planner = Planner(asked)
    plan = planner.plan(snapshot, LOOKED, weights, rows)
    total = plan.outlook.total_us({stream: plan.rows[stream] for stream in LOOKED})
    assert plan.bound_us * (1 - 1e-9) <= total <= plan.bound_us * 1.03
    found = certify(asked, snapshot, tuple(LOOKED), dict(plan.rows), weights=weights, known_us=plan.bound_us)
    assert found.bound_us <= total + 1 and plan.bound_us <= found.found_us + 1 and total <= found.found_us * 1.02


@pytest.mark.parametrize("seed", range(4))
def test_proofs_count_what_others_wait_longer_only_once(asked, seed):
    """A row over other nodes has its own waits in its cost; those of who stays are counted at the places."""
    snapshot, rows, weights = world(asked, seed)
    table = tabulate(asked)
    stay = Forecast(table, snapshot).load_of_many({s: row for s, row in rows.items() if s not in LOOKED}, weights)
    alone = Load({n: (rho, square, 0.0) for n, (rho, square, _) in stay.nodes.items()})
    kept = [{table.source(s), *rows[s]} for s in LOOKED]
    (chains,) = chains_of(table, snapshot, rows, stay, weights={s: weights.get(s, 1.0) for s in LOOKED})
    each = np.array([weights.get(s, 1.0) for s in LOOKED])
    quiet, heard = (
        each * frontier(Asked(table, snapshot, LOOKED, load, weights), kept).beyond_us for load in (alone, stay)
    )
    assert chains.beyond_us == pytest.approx(quiet) and (quiet <= heard + 1e-6).all()


def test_what_is_loaded_with_more_rows_is_what_all_of_them_hold(asked):
    table, draw = tabulate(asked), np.random.default_rng(2)
    blocks = len(asked.models["m"].blocks)
    for seed in range(20):
        _, rows, _ = world(asked, seed % 6)
        old = {stream: any_row(draw, stream, blocks) for stream in rows}
        tight = dataclasses.replace(table, memory=table.memory * draw.choice([0.1, 0.3]), tight=frozenset(range(60)))
        kept = {stream: row for stream, row in rows.items() if stream not in LOOKED}
        more = {stream: any_row(draw, stream, blocks) for stream in LOOKED}
        loaded = Loaded(tight, kept, old)
        assert loaded.overfull(more) == pytest.approx(overfull(tight, {**kept, **more}, old))
        assert loaded.used_with(more) == pytest.approx(memory_bytes(tight, {**kept, **more}, old))
        every = Loaded(tight, {**kept, **more}, old).runs("m", {})
        assert loaded.runs("m", more) == every == loaded.runs("m", {}) | Loaded(tight, more).runs("m", {})


def test_joint_decides_beside_hundreds_that_stay_without_a_gap():
    size = Size(300, 20, 200, 3, 1)
    made, seen = problem(size), reports(size)
    policy, intake = Joint(made, {"cooldown_s": 0, "rest_s": 0, "min_gain": 0}), Intake(size)
    current = policy.start(intake.snapshot(0, next(seen))).placement
    late = {"s1": 2 * 10**9, "s2": 2 * 10**9, "s3": 2 * 10**9}
    snapshot = dataclasses.replace(intake.snapshot(10**8, next(seen)), latency_us=late)
    decision = policy.decide(snapshot, current, ())
    chosen = next(candidate for candidate in decision.candidates if not candidate.why_not)
    assert decision.action in {"REMAP", "RESPLIT"}
    assert chosen.weighted_us <= decision.lower_bound_us * 1.01
