"""Certified gaps: bounds that hold, memory pressure, large networks, and what the objective and its limits do."""

import dataclasses

import numpy as np
import pytest

from benchmarks.decision import Intake, Size, problem, reports
from benchmarks.milp import optimum
from benchmarks.tight import judged, one
from controller.cost import Forecast, Load, Outlook, backlog_us, predict
from controller.explain import gap
from controller.model import NodeStates
from controller.planner import Planner
from controller.policies.joint import Joint
from controller.scene import Scene
from controller.sited import Sited, Sites
from controller.staying import Staying
from controller.table import tabulate
from controller.tiers import WIDEST, WIDTH, Asked, through_us
from tests.unit.test_joint import brute, instance, scene_of, street

NOTHING = Load()
LARGE = Size(300, 20, 2, 2, 1)


@pytest.mark.parametrize("seed", range(8))
def test_the_integer_programme_is_brute_force(seed):
    made, scene = instance(seed, hosts=3, memory=13)
    best = optimum(made, scene, ["s0"])
    assert best.proven and best.cost_us == pytest.approx(brute(made, scene)[0])


def test_under_memory_pressure_the_gap_to_the_optimum_is_small():
    gaps = np.array([judged(*one(seed)).gap for seed in range(1, 40)])
    assert gaps.min() > -1e-9 and gaps.mean() <= 0.005 and np.percentile(gaps, 95) <= 0.03


def test_without_memory_pressure_one_stream_has_no_gap():
    for seed in range(1, 30):
        made, scene = instance(seed, hosts=6, blocks=9)
        plan = Planner(made).plan(scene, ["s0"], {})
        if plan.rows:
            assert Planner(made).total_us(scene, plan.rows, {}) <= plan.bound_us * (1 + 1e-6)


def large(sited=True):
    made = problem(LARGE)
    snapshot = Intake(dataclasses.replace(LARGE, nodes=300)).snapshot(0, next(reports(LARGE)))
    site = np.random.default_rng(3).integers(0, LARGE.sites, LARGE.nodes)
    draw = np.random.default_rng(1)
    far, wide = draw.integers(300, 9000, (20, 20)), draw.integers(200, 9000, (20, 20)) * 10**6
    access, rates = draw.integers(50, 500, (2, 300)), draw.integers(10, 9000, (2, 300)) * 10**6
    delay, rate = Sited(Sites(site), *access, far), Sited(Sites(site), *rates, wide, narrowest=True)
    rate = dataclasses.replace(rate, sites=delay.sites)
    return made, dataclasses.replace(
        snapshot,
        delay_us=delay if sited else np.asarray(delay),
        rate_bps=rate if sited else np.asarray(rate),
    )


def test_sited_paths_are_read_like_dense_ones():
    _, snapshot = large()
    delay, rate = np.asarray(snapshot.delay_us), np.asarray(snapshot.rate_bps)
    some, same = np.array([3, 7, 250]), (7, 7)
    for key in ((3, 7), same, (some, 5), (some[:, None], some[None] + 1), (slice(None), 4), (4, slice(None))):
        assert np.array_equal(snapshot.delay_us[key], delay[key])
        if key is not same:
            assert np.array_equal(snapshot.rate_bps[key], rate[key])
    assert (np.diag(delay) == 0).all() and snapshot.delay_us.shape == (300, 300)


def test_states_as_arrays_are_read_like_a_tuple():
    _, scene = instance(1)
    states = NodeStates.of(scene.nodes)
    assert tuple(states) == scene.nodes == states[:] and states[1] == scene.nodes[1] and len(states) == len(scene.nodes)


def through(table, scene, streams, stay=NOTHING, weights=None):
    asked = Asked(table, scene, streams, stay, weights or {})
    return through_us(asked, Staying.of(stay, backlog_us(scene)))


@pytest.mark.parametrize("sited", [True, False])
def test_nodes_that_are_not_considered_cannot_be_better(sited, monkeypatch):
    made, scene = large(sited)
    streams = sorted(stream.name for stream in made.streams)
    least, deep = through(Planner(made).table, scene, streams)
    few = Scene(Planner(made).table, scene, streams, {})
    assert few.groups[0].nodes.shape[1] <= max(WIDTH, WIDEST // len(streams)) < len(made.hosts)
    monkeypatch.setattr("controller.tiers.WIDTH", 10**6)
    every = Scene(Planner(made).table, scene, streams, {})
    for at, stream in enumerate(streams):
        exact = every.alone[stream].best
        assert few.alone[stream].least_us <= exact.cost_us + 1e-6 <= few.alone[stream].best.cost_us + 2e-6
        assert all(min(least[at, n], deep[at]) <= exact.cost_us + 1e-6 for n in exact.row)
        if sited:
            assert few.alone[stream].best.cost_us == pytest.approx(exact.cost_us)


def test_blocks_that_are_alike_are_taken_as_one_and_no_bound_is_above_that_of_each(monkeypatch):
    made, seen, streams = problem(LARGE), reports(LARGE), ["s0", "s1"]
    table, intake = Planner(made).table, Intake(LARGE)
    for _ in range(4):
        scene = intake.snapshot(0, next(seen))
        least, deep = through(table, scene, streams)
        monkeypatch.setattr("controller.tiers.CUTS", 99)
        each, none = through(table, scene, streams)
        monkeypatch.undo()
        assert np.isinf(none).all() and (deep > each.min(axis=1)).all()
        assert (np.minimum(least, deep[:, None]) <= each + 1e-6).all()
        assert least.min(axis=1) == pytest.approx(each.min(axis=1))
        assert np.isclose(least, each).mean() > 0.95


def placed(options, load_ppm=0, **changes):
    return Joint(street(**changes), options).start(scene_of(load_ppm=load_ppm)).placement.nodes


def test_a_limit_of_utilisation_spreads_the_streams():
    assert placed({}) == {"s0": ("edge",) * 4, "s1": ("edge",) * 4}
    spread = placed({"max_utilisation": 0.15})  # one stream makes 0.1
    assert {row[0] for row in spread.values()} == {"edge", "mec"} or len({*spread["s0"], *spread["s1"]}) > 1


@pytest.mark.parametrize(("share", "node"), [(0.03, "edge"), (0.01, "ue")])
def test_a_limit_of_a_path_keeps_data_where_it_is(share, node):
    assert set(placed({"max_link_share": share}, count=1)["s0"]) == {node}  # a request takes 8 ms of 400 each way


def test_privacy_risk_has_a_price():
    rare = {"count": 1, "period_us": 10**8}
    assert placed({}, **rare) == {"s0": ("edge",) * 4}
    assert placed({"privacy_ms": 100_000}, **rare) == {"s0": ("ue",) * 4}
    assert placed({"privacy_ms": 3_000}, **rare) == {"s0": ("ue", "edge", "edge", "edge")}  # raw stays, features go


def test_only_the_streams_that_are_about_are_looked_at_when_there_are_many():
    many = street(count=6)
    policy = Joint(many, {"breadth": 2})
    first = policy.start(scene_of()).placement
    moved = policy.decide(scene_of(10_000_000, 900_000, latency={"s3": 130_000, "s4": 130_000}), first, ())
    assert moved.action == "REMAP" and sorted(moved.candidates[0].predicted) == ["s3", "s4"]
    assert {s for s in first.nodes if moved.placement.nodes[s] != first.nodes[s]} <= {"s3", "s4"}


def test_of_too_many_late_streams_the_slowest_are_looked_at():
    """Those that were moved stay late until that is measured; the others come next, whatever their names are."""
    many, late = street(count=6), {f"s{n}": 130_000 for n in range(6)}
    policy, table, moved = Joint(many, {"breadth": 2, "rest_s": 0, "cooldown_s": 0}), tabulate(many), set[str]()
    placement = policy.start(scene_of()).placement
    for second in (10, 11, 12):
        scene = scene_of(second * 1_000_000, 900_000, latency=late)
        before = {s: table.row(nodes) for s, nodes in placement.nodes.items()}
        slow = {s: latency.total_us for s, latency in predict(table, scene, before).items()}
        decision = policy.decide(scene, placement, ())
        looked = decision.candidates[0].predicted
        assert len(looked) == 2 and min(slow[s] for s in looked) >= max(slow[s] for s in slow if s not in looked)
        moved |= {s for s, nodes in decision.placement.nodes.items() if nodes != placement.nodes[s]}
        placement = decision.placement
    assert len(moved) >= 4


def test_totals_beside_others_and_theirs_are_the_whole():
    made, scene = instance(4, streams=3, period_us=60_000)
    forecast, rows = Forecast(Planner(made).table, scene), {"s0": (0,) * 5, "s1": (1,) * 5, "s2": (0, 0, 1, 1, 1)}
    kept = {s: rows[s] for s in ("s0", "s1")}
    whole = Outlook(forecast, {}, kept).total_us({"s2": rows["s2"]}) + forecast.total_us(kept, {})
    assert whole == pytest.approx(forecast.total_us(rows, {}))
    assert whole == pytest.approx(sum(one.total_us for one in forecast.latencies(rows).values()), abs=8)


def test_the_gap_is_of_what_is_minimised():
    """Late streams count more, and what the others wait longer counts."""
    many = street(count=6)
    policy = Joint(many, {"breadth": 2, "rest_s": 0, "cooldown_s": 0})
    first = policy.start(scene_of()).placement
    moved = policy.decide(scene_of(10_000_000, 900_000, latency={"s3": 130_000, "s4": 130_000}), first, ())
    keep, chosen = moved.candidates[:2]
    assert moved.weights == {"s3": 4.0, "s4": 4.0} and not chosen.why_not
    alone = {candidate.name: sum(us.total_us for us in candidate.predicted.values()) for candidate in (keep, chosen)}
    assert all(candidate.weighted_us > 4 * alone[candidate.name] + 1_000 for candidate in (keep, chosen))
    for candidate in (keep, chosen):
        one = dataclasses.replace(moved, candidates=(dataclasses.replace(candidate, why_not=""),))
        assert gap(one) == pytest.approx(max(candidate.weighted_us / moved.lower_bound_us - 1, 0), abs=1e-6)
    assert gap(moved) == 0
