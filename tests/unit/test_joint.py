"""The planner against brute force, and when the joint policy moves."""

import dataclasses
import itertools
import random

import numpy as np
import pytest

from controller.chain import Group
from controller.cost import UNREACHABLE_US, Load, predict
from controller.model import Block, Host, Model, NodeState, Placement, Problem, Sla, Snapshot, Stream, Trigger
from controller.planner import Planner
from controller.policies.joint import Joint
from controller.policies.start import BadOption
from controller.policies.static import Static
from controller.programme import solve
from controller.scene import Scene
from controller.table import runs, tabulate
from controller.tiers import WIDTH

RARE = 10**15  # microseconds between requests: nobody ever waits
TRIGGER = (Trigger("end_to_end", "s0", 2.0, 1.0),)


def instance(seed, hosts=4, blocks=5, streams=1, period_us=RARE, memory=None):
    """A random problem and snapshot, zones and a node that is down included."""
    draw = random.Random(seed)
    made = tuple(
        Block(
            f"b{i}",
            draw.randint(1, 50) * 10**8,
            draw.randint(1, 9),
            draw.randint(1, 10**6),
            draw.randint(0, 3),
            draw.choice(["raw", "feature", "feature"]),
        )
        for i in range(blocks)
    )
    problem = Problem(
        tuple(
            Host(f"n{i}", draw.choice(["home", "site"]), draw.randint(10, 400) * 10**9, memory or 10**9)
            for i in range(hosts)
        ),
        {"m": Model("m", made, draw.randint(1, 10**6))},
        tuple(Stream(f"s{i}", "m", f"n{i % hosts}", period_us) for i in range(streams)),
        Sla(95, 100_000, 5_000_000),
        {"raw": frozenset({"home"})} if draw.random() < 0.3 else {},
    )
    size = (hosts, hosts)
    gen = np.random.default_rng(seed)
    rate = gen.integers(5, 500, size) * 10**6 * (gen.random(size) > 0.1)
    nodes = tuple(
        NodeState(draw.random() > 0.1, draw.randint(0, 700_000), draw.randint(0, 9000)) for _ in made[:1] * hosts
    )
    return problem, Snapshot(0, nodes, gen.integers(100, 20_000, size), rate)


def brute(problem, snapshot, current=None):
    """The cheapest rows of all streams over every assignment: (total, rows)."""
    planner = Planner(problem)
    each = itertools.product(range(len(problem.hosts)), repeat=len(problem.models["m"].blocks))
    rows = [row for row in each if planner.permitted(snapshot, {problem.streams[0].name: row})]
    best = (float("inf"), None)
    for choice in itertools.product(rows, repeat=len(problem.streams)):
        named = dict(zip((s.name for s in problem.streams), choice, strict=True))
        total = planner.total_us(snapshot, named, {})
        if total < min(best[0], UNREACHABLE_US) and planner.fits(named, current or {}):
            best = (total, named)
    return best


@pytest.mark.parametrize("seed", range(30))
def test_one_stream_is_placed_exactly_as_brute_force(seed):
    problem, scene = instance(seed)
    total, rows = brute(problem, scene)
    plan = Planner(problem).plan(scene, ["s0"], {})
    if rows is None:
        assert plan.stranded == ("s0",)
        return
    assert abs(Planner(problem).total_us(scene, plan.rows, {}) - total) <= 3  # each part is rounded
    assert plan.bound_us <= total + 3


@pytest.mark.parametrize("seed", range(30))
def test_memory_is_repaired_exactly(seed):
    problem, scene = instance(seed, hosts=3, memory=13)
    total, rows = brute(problem, scene)
    plan = Planner(problem).plan(scene, ["s0"], {})
    if rows is None:
        assert plan.rows is None
        return
    assert abs(Planner(problem).total_us(scene, plan.rows, {}) - total) <= 3
    assert Planner(problem).fits(plan.rows, {})


@pytest.mark.parametrize("seed", range(12))
def test_waiting_for_itself_is_part_of_the_optimum(seed):
    problem, scene = instance(seed, hosts=3, blocks=4, period_us=60_000)
    total, rows = brute(problem, scene)
    if rows is None:
        return
    plan = Planner(problem).plan(scene, ["s0"], {})
    found = Planner(problem).total_us(scene, plan.rows, {})
    nodes = [node for _, _, node in runs(plan.rows["s0"])]
    assert plan.bound_us <= total + 3
    assert found >= total
    if len(nodes) == len(set(nodes)):
        assert found <= total + 3


def test_two_streams_are_near_the_joint_optimum_and_never_below_the_bound():
    gaps = []
    for seed in range(12):
        problem, scene = instance(seed, hosts=3, blocks=3, streams=2, period_us=400_000)
        total, rows = brute(problem, scene)
        if rows is None:
            continue
        plan = Planner(problem).plan(scene, ["s0", "s1"], {})
        gaps.append(Planner(problem).total_us(scene, plan.rows, {}) / total - 1)
        assert plan.bound_us <= total + 6
    assert len(gaps) >= 6
    assert min(gaps) >= -1e-9 and sum(gaps) / len(gaps) < 0.02


def test_work_at_200_nodes_is_bounded_by_count():
    blocks, hosts = 26, 200
    problem, scene = instance(1, hosts, blocks)
    table = tabulate(problem)
    whole = Group(table, scene, ["s0"], np.arange(hosts)[None]).costs([0], [Load()], [1.0])
    assert whole.relaxed <= blocks * blocks * hosts + blocks * hosts * hosts
    (group,) = Scene(table, scene, ["s0"], {}).groups
    assert group.nodes.shape[1] <= WIDTH
    assert solve(group.costs([0], [Load()], [1.0]))[0] == solve(whole)[0]


FAST, SLOW = 100 * 10**9, 50 * 10**9


def street(count=2, period_us=400_000, **changes):
    """A phone, an edge server near it, a MEC server behind; 4 blocks of 10 ms on the edge."""
    blocks = tuple(Block(f"b{i}", 10**9, 10_000_000, 100_000) for i in range(4))
    problem = Problem(
        (Host("ue", "home", 10**9, 10**9), Host("edge", "site", FAST, 10**9), Host("mec", "site", SLOW, 10**9)),
        {"m": Model("m", blocks, 100_000)},
        tuple(Stream(f"s{i}", "m", "ue", period_us) for i in range(count)),
        Sla(95, 120_000, 5_000_000),
    )
    return dataclasses.replace(problem, **changes)


def scene_of(now_us=0, load_ppm=0, up=(True, True, True), latency=None, rate=10**8, edge_rate=None):
    nodes = tuple(NodeState(u, load_ppm if n == 1 else 0, 0) for n, u in enumerate(up))
    rates = np.full((3, 3), rate)
    if edge_rate is not None:
        rates[0, 1] = rates[1, 0] = edge_rate
    delay = np.array([[0, 2000, 4000], [2000, 0, 2000], [4000, 2000, 0]])
    return Snapshot(now_us, nodes, delay, rates, latency or {})


def test_static_keeps_whatever_happens():
    policy = Static(street(), {})
    first = policy.start(scene_of())
    assert first.placement == Placement(1, {"s0": ("edge",) * 4, "s1": ("edge",) * 4})
    assert policy.decide(scene_of(up=(True, False, True)), first.placement, TRIGGER).action == "KEEP"


@pytest.mark.parametrize("policy", [Static, Joint])
def test_start_as_asked(policy):
    pinned = {"placement": {"s0": "mec", "s1": ["ue", "edge", "edge", "mec"]}}
    assert policy(street(), pinned).start(scene_of()).placement.nodes["s1"] == ("ue", "edge", "edge", "mec")
    for bad in ({"s0": "mec"}, {"s9": "mec"}, {"s0": ["mec"], "s1": "mec"}, {"s0": "moon", "s1": "mec"}, "mec"):
        with pytest.raises(BadOption, match="placement"):
            policy(street(), {"placement": bad})
    with pytest.raises(BadOption, match="horizon_s"):
        Joint(street(), {"horizon_s": -1})


def decide(load_ppm=0, now_us=10_000_000, triggers=TRIGGER, options=None, problem=None, **scene):
    problem = problem or street()
    policy = Joint(problem, options or {})
    first = policy.start(scene_of()).placement
    return policy.decide(scene_of(now_us, load_ppm, **scene), first, triggers), policy, first


def test_keeps_without_a_trigger_and_when_nothing_is_better():
    assert decide(900_000, triggers=())[0].reason == "nothing has changed"
    kept, _, first = decide(0)
    assert (kept.action, kept.placement) == ("KEEP", first)
    assert kept.candidates[0].name == "keep" and not kept.candidates[0].why_not


def test_moves_when_it_pays_and_says_why():
    moved, _, first = decide(800_000)
    assert moved.action == "REMAP"
    assert moved.placement.epoch == first.epoch + 1
    assert set(moved.placement.nodes["s0"]) == {"mec"}
    chosen = [c for c in moved.candidates if not c.why_not]
    assert [c.nodes for c in chosen] == [moved.placement.nodes]
    assert moved.lower_bound_us <= sum(part.total_us for part in chosen[0].predicted.values())
    assert {"keep", "optimum"} <= {c.name for c in moved.candidates}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"horizon_s": 0}, "not worth"),
        ({"disturb_ms": 1e9}, "not worth"),
        ({"min_gain": 0.99}, "below 99 %"),
    ],
)
def test_stays_when_it_does_not_pay(options, why):
    kept, _, _ = decide(800_000, options=options)
    assert kept.action == "KEEP" and why in kept.reason


def test_weights_that_travel_cost_time():
    heavy = street(weights="transfer")
    moved, _, _ = decide(800_000, problem=heavy)
    chosen = next(c for c in moved.candidates if not c.why_not)
    assert (chosen.move_bytes, chosen.move_us) == (40_000_000, 3_202_000)


def test_cooldown_holds_back_unless_nothing_is_served():
    moved, policy, _ = decide(800_000)
    worse = dataclasses.replace(scene_of(11_000_000, 0), rate_bps=scene_of().rate_bps.copy())
    worse.rate_bps[0, 2] = worse.rate_bps[2, 0] = 10**6
    held = policy.decide(worse, moved.placement, TRIGGER)
    assert held.action == "KEEP" and "cool-down" in held.reason
    later = dataclasses.replace(worse, now_us=16_500_000)
    assert policy.decide(later, moved.placement, ()).action == "REMAP"  # no trigger: it is still looking
    moved, policy, _ = decide(800_000)
    dead = scene_of(11_000_000, up=(True, True, False))
    assert policy.decide(dead, moved.placement, TRIGGER).action == "REMAP"


def test_a_move_that_failed_is_not_asked_again_at_once():
    _, policy, first = decide(800_000)
    assert "cool-down" in policy.decide(scene_of(11_000_000, 800_000), first, ()).reason
    assert policy.decide(scene_of(16_000_000, 800_000), first, ()).action == "REMAP"


def test_a_stream_over_the_sla_is_reason_enough_to_look():
    assert decide(800_000, triggers=(), latency={"s0": 130_000})[0].action == "REMAP"


def test_leaves_a_dead_node_and_reports_when_there_is_no_other():
    assert decide(up=(True, False, True))[0].action == "REMAP"
    far_zone = street(zones={"raw": frozenset({"site"}), "feature": frozenset({"site"})})
    none, _, first = decide(up=(True, False, False), problem=far_zone)
    assert (none.action, none.placement) == ("INFEASIBLE", first)


def test_a_stranded_phone_does_not_hold_the_others():
    hosts = street().hosts
    problem = street(
        hosts=(*hosts, Host("ue2", "home", 10**9, 1)),
        streams=(Stream("s0", "m", "ue", 400_000), Stream("s1", "m", "ue2", 400_000)),
    )
    up = NodeState(True, 0, 0)
    calm = Snapshot(0, (up,) * 4, np.full((4, 4), 2000), np.full((4, 4), 10**8))
    rate = calm.rate_bps.copy()
    rate[3, :] = rate[:, 3] = 0
    policy = Joint(problem, {})
    first = policy.start(calm).placement
    bad = dataclasses.replace(calm, rate_bps=rate, nodes=(up, NodeState(True, 900_000, 0), up, up))
    decision = policy.decide(bad, first, TRIGGER)
    assert decision.action == "REMAP" and "without any path: s1" in decision.reason
    assert decision.placement.nodes["s1"] == first.nodes["s1"] != decision.placement.nodes["s0"]


def test_new_slices_fit_beside_the_old_ones():
    tight = tuple(dataclasses.replace(host, memory_bytes=40_000_000) for host in street().hosts)
    problem = street(hosts=tight)
    decision, _, _ = decide(800_000, problem=problem)
    assert decision.action == "REMAP"
    planner = Planner(problem)
    rows = {s: planner.table.row(nodes) for s, nodes in decision.placement.nodes.items()}
    assert planner.fits(rows, {"s0": (1,) * 4, "s1": (1,) * 4})


def test_start_says_when_nothing_fits():
    tiny = tuple(dataclasses.replace(host, memory_bytes=10) for host in street().hosts)
    decision = Joint(street(hosts=tiny), {}).start(scene_of())
    assert decision.action == "INFEASIBLE" and not decision.placement.nodes and "s0" in decision.reason


def test_streams_spread_when_one_node_would_overflow():
    busy = street(count=3, period_us=120_000)
    start = Joint(busy, {}).start(scene_of(rate=10**9))
    used = {node for row in start.placement.nodes.values() for node in row}
    assert used >= {"edge", "mec"}
    predicted = predict(
        tabulate(busy), scene_of(rate=10**9), {s: tabulate(busy).row(r) for s, r in start.placement.nodes.items()}
    )
    assert max(latency.total_us for latency in predicted.values()) < 500_000


def test_same_questions_same_answers():
    first, second = decide(800_000)[0], decide(800_000)[0]
    assert first == second
