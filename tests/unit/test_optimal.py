"""`optimal`: joint's rules on plans that are proven, so that each decision knows its own gap; and where it may not."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.decision import OPTIONS, Size, triggers
from controller import instances
from controller.explain import gap
from controller.guard import LIMIT_US, limit_us
from controller.objective import Objective
from controller.planner import Planner
from controller.plugins import find
from controller.policies.exact import Exact
from controller.policies.joint import Joint
from controller.policies.start import BadOption
from controller.table import tabulate
from testbed.proof.certificate import ATTEMPTS, QUICK
from testbed.proof.optimal import Optimal, Prover
from tests.unit.test_proof import periods, solved

CROWD = Size(20, 6, 10, 10, 1)
ROUNDED = 1e-6


def test_ten_that_crowd_are_decided_with_a_gap_of_nothing():
    asked, known = list(periods(CROWD, {1, 8, 50, 56})), {Joint: [], Optimal: []}
    for kind, gaps in known.items():
        policy = kind(asked[0][0], OPTIONS)
        current = policy.start(asked[0][1]).placement
        for n, (_, scene) in enumerate(asked[1:], 1):
            decision = policy.decide(scene, current, triggers(CROWD, n))
            current = decision.placement
            gaps.append(gap(decision))
    assert max(known[Optimal]) <= ROUNDED and max(known[Joint]) > 0.01 and min(known[Joint]) > 10 * ROUNDED


def test_it_begins_with_what_brute_force_finds():
    tried = 0
    for _, (made, scene, _, looked, _, least, _) in solved(60):
        if len(looked) < len(made.streams):
            continue
        tried += 1
        decision = Optimal(made, {}).start(scene)
        assert decision.candidates[0].weighted_us == pytest.approx(least, abs=1)
        assert decision.lower_bound_us == pytest.approx(least, rel=2e-6, abs=1)
    assert tried > 20


def test_memory_may_be_in_the_way_and_what_is_sure_stays_sure():
    kept = 0
    for seed in (*range(20), 55, 72, 118, 141):
        made, scene = instances.problem(seed), instances.scene(instances.problem(seed), seed)
        streams = sorted(stream.name for stream in made.streams)
        exact = Exact(made, {"steps": 10**6}).rows(scene, {}, 0)
        plan, quick = (kind(made).plan(scene, streams, {}) for kind in (Prover, Planner))
        if plan.rows is None or plan.stranded or set(exact) != set(streams):
            assert plan.rows == quick.rows and plan.bound_us == quick.bound_us
            continue
        planner = Planner(made)
        least = planner.total_us(scene, exact, {})
        assert planner.fits(plan.rows, {}) and planner.permitted(scene, plan.rows)
        assert quick.bound_us <= plan.bound_us <= least * (1 + ROUNDED)
        assert planner.total_us(scene, plan.rows, {}) <= planner.total_us(scene, quick.rows, {})
        kept += plan.bound_us < least * (1 - 1e-3)
    assert kept  # where memory is short the proof does not count it, and so does not meet


def test_of_another_objective_and_of_a_limited_one():
    (made, scene), names = next(periods(CROWD, {8})), [f"s{n}" for n in range(10)]
    utilised, limited = Objective(utilisation_us=1e4), Objective(max_utilisation=0.95)
    plans = [kind(made, utilised).plan(scene, names, {}) for kind in (Planner, Prover)]
    assert plans[0].rows == plans[1].rows and plans[0].bound_us == plans[1].bound_us
    quick, plan = (kind(made, limited).plan(scene, names, {}) for kind in (Planner, Prover))
    assert plan.rows == quick.rows and plan.bound_us > quick.bound_us


def test_a_stream_without_a_path_is_left_out():
    (made, scene), names = next(periods(CROWD, {8})), [f"s{n}" for n in range(10)]
    current = {s: row for s, row in Planner(made).plan(scene, names, {}).rows.items()}
    rate = np.array(scene.rate_bps)
    rate[0, :] = rate[:, 0] = 0
    nodes = tuple(replace(node, up=n != 0) for n, node in enumerate(scene.nodes))
    cut = replace(scene, rate_bps=rate, nodes=nodes)
    quick, plan = (kind(made).plan(cut, names, {}, current) for kind in (Planner, Prover))
    assert plan.stranded == quick.stranded == ("s0",) and plan.rows["s0"] == current["s0"]
    assert plan.bound_us > quick.bound_us
    assert plan.outlook.total_us({s: plan.rows[s] for s in names[1:]}) == pytest.approx(plan.bound_us, rel=2e-6)


def test_it_has_the_time_that_it_needs():
    made = instances.problem(3)
    assert limit_us(find("joint")(made, {}), {}) == LIMIT_US
    assert limit_us(find("optimal")(made, {}), {}) == 3_600_000_000
    assert limit_us(find("optimal")(made, {}), {"time_limit_s": 2}) == 2_000_000
    with pytest.raises(BadOption, match="time_limit_s"):
        limit_us(find("optimal")(made, {}), {"time_limit_s": "long"})


def test_how_much_is_tried_is_said():
    made = instances.problem(3)
    with pytest.raises(BadOption, match="policy option proof: 'much'; one of quick, patient is right"):
        Optimal(made, {"proof": "much"})
    tried = [Optimal(made, options).planner(made)._attempts for options in ({}, {"proof": "patient"})]
    assert tried == [QUICK, ATTEMPTS]


def test_privacy_that_changes_is_proven_by_the_new_rules():
    made = replace(instances.problem(5), zones={})
    policy = Optimal(made, {})
    ruled = replace(made, zones={"raw": frozenset({made.hosts[0].zone})})
    policy.rezone(ruled)
    decision, table = policy.start(instances.scene(ruled, 5)), tabulate(ruled)
    assert decision.placement.nodes
    assert all(table.permits(s, table.row(nodes)) for s, nodes in decision.placement.nodes.items())
