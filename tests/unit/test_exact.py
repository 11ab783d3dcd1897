"""All rows of one run or two, and what a few of them cost together: nothing is left out, and no bound is too high."""

import itertools

import numpy as np
import pytest

from controller import turns
from controller.chain import Group, tables
from controller.choices import Picked
from controller.cost import Forecast, Load, wait_us
from controller.planner import Planner
from controller.short import Short
from controller.table import runs
from tests.unit.test_joint import brute, instance

NEVER = np.array([np.inf])


def short_of(made, scene, table, limit_us):
    nodes = np.arange(len(made.hosts))
    group = Group(table, scene, ["s0"], nodes[None])
    costs = group.costs([0], [Load()], [1.0])
    found = tables(costs)
    least = (found[1][:, -1] + costs.leave).min(axis=1)
    return Short(Picked(group, [0], costs, least, NEVER, found), least + limit_us), least + limit_us


def rows_of(made, scene, table):
    """(row, cost alone) of all rows that there are."""
    forecast, blocks = Forecast(table, scene), len(made.models["m"].blocks)
    for row in itertools.product(range(len(made.hosts)), repeat=blocks):
        if table.permits("s0", row) and forecast.up(row):
            cost = forecast.total_us({"s0": row}, {})
            if cost < 1e11:
                yield row, cost


def nothing(b, nodes, rho):
    return np.zeros(len(nodes))


@pytest.mark.parametrize("limit_us", [5_000, 60_000])
def test_all_rows_of_two_runs_below_the_limit_are_listed_with_their_cost(limit_us):
    for seed in range(6):
        made, scene = instance(seed, hosts=4, blocks=4, period_us=200_000)
        table = Planner(made).table
        short, limit = short_of(made, scene, table, limit_us)
        listed, values = short.listed(*short.priced(nothing), limit)
        found = {listed.row(m): listed.least_us[m] for m in range(len(values))}
        wanted = {row: cost for row, cost in rows_of(made, scene, table) if len(runs(row)) <= 2 and cost < limit[0]}
        assert found == pytest.approx(wanted) and values == pytest.approx(listed.least_us)


def test_no_longer_row_costs_less_than_is_said_when_runs_pay():
    told = 0
    for seed in range(12):
        made, scene = instance(seed, hosts=3, blocks=5, period_us=200_000)
        table, draw = Planner(made).table, np.random.default_rng(seed)
        short, limit = short_of(made, scene, table, 80_000)
        price = draw.uniform(0, 30_000, len(made.hosts))
        forecast, per_us = Forecast(table, scene), 1 / 200_000

        def extra(b, nodes, rho, price=price):
            return price[nodes] * rho

        least = short.others_us(extra, NEVER)[0]
        for row, _ in rows_of(made, scene, table):
            if len(runs(row)) < 3:
                continue
            use, pays = forecast.use("s0", row), np.zeros(len(made.hosts))
            for n, time in use.visits:
                pays[n] = max(pays[n], price[n] * per_us * time)
            waits = [max(wait_us(rho, square), scene.nodes[n].queue_us) for n, rho, square in use.nodes]
            waits += [wait_us(rho, square) for _, rho, square in use.paths]
            assert least <= use.moving_us + sum(waits) + pays.sum() + 1e-6
            told += least < limit[0] - 1e-6
    assert told > 50


@pytest.mark.parametrize(
    ("streams", "hosts", "blocks", "period_us"), [(2, 3, 3, 400_000), (2, 3, 3, 90_000), (3, 2, 3, 250_000)]
)
def test_what_is_proven_is_never_above_brute_force(streams, hosts, blocks, period_us, monkeypatch):
    raised = []
    finer = turns.Turn._finer
    monkeypatch.setattr(turns, "HANDFUL", 1)
    monkeypatch.setattr(turns, "NEARBY", np.inf)
    monkeypatch.setattr(
        turns.Turn,
        "_finer",
        lambda self, found, *rest: raised.append((found, finer(self, found, *rest))) or raised[-1][1],
    )
    for seed in range(12):
        made, scene = instance(seed, hosts=hosts, blocks=blocks, streams=streams, period_us=period_us)
        total, rows = brute(made, scene)
        planner, names = Planner(made), [stream.name for stream in made.streams]
        plan = planner.plan(scene, names, {})
        if rows is not None and not plan.stranded:
            assert plan.bound_us <= total * (1 + 1e-9) <= planner.total_us(scene, plan.rows, {}) * (1 + 2e-9)
    assert any(after.least_us > before.least_us * (1 + 1e-6) for before, after in raised)
