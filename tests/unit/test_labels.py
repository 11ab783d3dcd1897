"""One stream where memory is short: nodes that are left out, and what is loaded already."""

import importlib
from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest

from benchmarks.decision import Intake, Size, problem, reports
from controller import labels
from controller.chain import Group, room_in
from controller.cost import Forecast, Load
from controller.labels import fitted
from controller.memory import Loaded
from controller.planner import Planner
from controller.table import tabulate
from controller.tight import Prices, tight
from tests.unit.test_joint import instance

SHORT = Size(20, 6, 1, 1, 1, room=0.3)


def chain_of(made, scene, nodes, current=None):
    table = tabulate(made)
    group = Group(table, scene, ["s0"], np.arange(nodes)[None])
    room = room_in(table, "s0", Loaded(table, current or {}), {})
    return tight(group.costs([0], [Load()], [1.0], [room]), group, 0, room)


def every_row(chain):
    """(what it costs, the bytes charged for it (K,), its nodes) of each row."""
    for row in product(range(len(chain.free)), repeat=chain.blocks):
        cuts = [0, *(cut for cut in range(1, chain.blocks) if row[cut] != row[cut - 1]), chain.blocks]
        parts = [(first, last, row[first]) for first, last in pairwise(cuts)]
        used = np.zeros(len(chain.free))
        for part in parts:
            used[part[2]] += chain.charged[part]
        yield chain.cost_us(parts), used, set(row)


@pytest.mark.parametrize("seed", range(6))
def test_what_rows_over_a_node_cost_at_least(seed):
    chain = chain_of(*instance(seed, hosts=3, blocks=4, memory=13), 3)
    prices = np.random.default_rng(seed).uniform(0, 300, 3) * (np.arange(3) > 0)
    through, least = Prices(chain, prices).through_us, np.full(3, np.inf)
    for cost, used, nodes in every_row(chain):
        if (used <= chain.free).all():
            least[list(nodes)] = np.minimum(least[list(nodes)], cost)
    assert (through <= least * (1 + 1e-9)).all() and through.min() == pytest.approx(Prices(chain, prices).least_us)


def periods(count, size=SHORT):
    """What is short of memory in one period after the other, moved each time to where the plan is."""
    made, seen, intake, current = problem(size), reports(size), Intake(size), {}
    planner = Planner(made)
    for period in range(count):
        scene = intake.snapshot(period, next(seen))
        plan = planner.plan(scene, ["s0"], {}, current)
        yield made, scene, current, plan
        current = dict(plan.rows)


def test_nodes_that_are_left_out_are_in_no_better_row(monkeypatch):
    for made, scene, current, _ in periods(10):
        chain = chain_of(made, scene, 20, current)
        found = fitted(chain)
        with monkeypatch.context() as patch:
            patch.setattr(labels._Search, "narrow", lambda self: None)
            every = fitted(chain)
        assert found.best.cost_us >= every.least_us * (1 - 1e-9) and every.best.cost_us >= found.least_us * (1 - 1e-9)
        assert found.best.cost_us == pytest.approx(every.best.cost_us, rel=0.02)
    search = labels._Search(chain, None, every.best.cost_us)
    search.better_prices(8)
    search.narrow()
    assert len(search._top) < 20 or search.least_us == search.best_us


def test_nothing_better_is_left_where_no_node_is():
    *_, (made, scene, current, _) = periods(3)
    chain = chain_of(made, scene, 20, current)
    search = labels._Search(chain, None, 1.0)  # who could be cheaper?
    search.better_prices(3)
    search.narrow()
    assert not search.open and search.least_us == search.best_us == 1.0


def test_the_bound_knows_what_stays_loaded_until_the_move_is_over():
    gaps = []
    for made, scene, current, plan in list(periods(16))[1:]:
        total = Forecast(tabulate(made), scene).total_us(plan.rows, {})
        assert plan.bound_us <= total * (1 + 1e-6) and Planner(made).fits(plan.rows, current)
        gaps.append(total / plan.bound_us - 1)
    assert (np.array(gaps) < 1e-6).mean() > 0.8 and max(gaps) < 0.05


def test_one_stream_that_nobody_hears_is_sought_once(monkeypatch):
    sought = []
    for module, name in (("scene", "fitted"), ("scene", "cheapest"), ("turns", "solve")):
        ask = getattr(importlib.import_module(f"controller.{module}"), name)
        asked = partial(lambda ask, *args: sought.append(1) or ask(*args), ask)
        monkeypatch.setattr(f"controller.{module}.{name}", asked)
    found = []
    for *_, plan in periods(24, replace(SHORT, room=0.15)):
        found.append(len(sought))
        sought.clear()
        assert plan.rows
    assert max(found) == 1 and sum(found) > 12
