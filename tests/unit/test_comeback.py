"""Rows that come back to a node wait for themselves there: brute force knows the best, and no bound is above it."""

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.decision import Intake, Size, problem, reports
from controller import comeback, tiers
from controller.chain import Group
from controller.comeback import OneStream, cheapest, comes_back
from controller.cost import Forecast, Load
from controller.planner import Planner
from controller.programme import solve
from controller.table import tabulate
from tests.unit.test_proof import case, cost_us

SHORT = (2_000, 10_000, 30_000, 90_000)  # microseconds between requests: nodes are full, some more than that


def asked(seeds, alone=True):
    """(problem, scene, the stream looked at, where all are, weights, the least it can cost); nodes are busy."""
    for seed in range(seeds):
        made, scene, _, every, draw = case(seed, ((3, 5, 2), (2, 6, 3), (4, 4, 2)))
        if not all(every.values()):
            continue
        streams = [replace(one, period_us=draw.choice(SHORT) * draw.randint(1, 9)) for one in made.streams]
        names = sorted(every)[:1] if alone else sorted(every)
        made = replace(made, streams=tuple(one for one in streams if one.name in names))
        weights = {name: draw.choice([1.0, 4.0]) for name in names}
        rows = {name: draw.choice(every[name]) for name in names}
        forecast, mine = Forecast(tabulate(made), scene), names[0]
        least = min(cost_us(forecast, scene, [mine], {**rows, mine: row}, weights) for row in every[mine])
        yield made, scene, mine, rows, weights, least


def costs_of(made, scene, stream):
    group = Group(tabulate(made), scene, [stream], np.arange(len(made.hosts))[None])
    return group, group.costs([0], [Load()], [1.0])


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside others"])
def test_the_best_row_of_one_stream_is_found_and_known_to_be(alone):
    came_back = total = 0
    for made, scene, mine, rows, weights, least in asked(90, alone):
        plan = Planner(made).plan(scene, [mine], weights, rows)
        _, costs = costs_of(made, scene, mine)
        came_back += comes_back(solve(costs)[0].row)
        total += 1
        assert plan.outlook.total_us({mine: plan.rows[mine]}) == pytest.approx(least, rel=1e-9)
        assert plan.bound_us <= least * (1 + 2e-6)
        assert plan.bound_us == pytest.approx(least, rel=2e-6) or least > 2 * weights[mine] * comeback.KNEE_US
    assert total > 50 and came_back > total / 10


@pytest.mark.parametrize("nodes", [0, 4], ids=["coming back costs something", "what coming back costs is known"])
@pytest.mark.parametrize("steps", [0, 1, 4, 10**6])
def test_a_search_that_ends_early_says_less_and_nothing_wrong(monkeypatch, nodes, steps):
    monkeypatch.setattr(comeback, "NODES", nodes)
    short = 0
    for made, scene, mine, _, weights, weighted in asked(60):
        least = weighted / weights[mine]
        group, costs = costs_of(made, scene, mine)
        best = solve(costs)[0]
        if not comes_back(best.row):
            continue
        found, took = cheapest(OneStream(costs, group.own(0), 1.0, {}, len(made.hosts)), best.row, steps)
        forecast = Forecast(tabulate(made), scene)
        assert found.best.cost_us == pytest.approx(cost_us(forecast, scene, [mine], {mine: found.best.row}), rel=1e-9)
        assert took <= steps and best.cost_us <= found.least_us * (1 + 1e-9) and found.least_us <= least * (1 + 1e-9)
        short += found.least_us < least * (1 - 1e-6)
    assert (short == 0) == (steps == 10**6)


def test_what_comes_back_costs_what_it_is_predicted_to():
    """Also beside others, by weight, with what these wait longer."""
    for made, scene, mine, rows, weights, _ in asked(60, alone=False):
        table, draw = tabulate(made), random.Random(1)
        group, forecast = Group(table, scene, [mine], np.arange(len(made.hosts))[None]), Forecast(table, scene)
        others = {name: row for name, row in rows.items() if name != mine}
        load = forecast.load(others, weights)
        costs, hosts = group.costs([0], [load], [weights[mine]]), len(made.hosts)
        there = {n * hosts + n: of for n, of in load.nodes.items()} | {
            a * hosts + b: of for (a, b), of in load.paths.items()
        }
        one = OneStream(costs, group.own(0), weights[mine], there, hosts)
        row = tuple(draw.choice(range(hosts)) for _ in rows[mine])
        told = comeback._Search(one).cost_us(row)
        if np.isfinite(told):
            assert told == pytest.approx(cost_us(forecast, scene, [mine], {**rows, mine: row}, weights), rel=1e-9)


def test_more_nodes_are_considered_where_a_stream_that_waits_for_itself_may_be_better_over_them(monkeypatch):
    size = Size(100, 12, 1, 1, 1)
    made = problem(size)
    made = replace(made, streams=(replace(made.streams[0], period_us=50_000),))
    intake, seen, planner = Intake(size), reports(size), Planner(made)
    scenes = [intake.snapshot(n * 60_000_000, next(seen)) for n in range(8)]

    def gaps():
        plans = [planner.plan(scene, ["s0"], {}) for scene in scenes]
        return [
            planner.total_us(scene, plan.rows, {}) / plan.bound_us - 1
            for scene, plan in zip(scenes, plans, strict=True)
        ]

    assert max(gaps()) < 2e-6
    monkeypatch.setattr(tiers, "WIDEST", 0)
    assert max(gaps()) > 0.01
