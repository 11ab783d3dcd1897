"""Algorithm 1, the rivals at head level, the simulation, and the three as policies of layers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.head_rules import RULES
from controller.conformance import faults
from controller.heads.algorithm1 import Algorithm1, Blocks, Bounds, Devices
from controller.heads.blocks import dynamic, heads
from controller.heads.exact import exact
from controller.heads.galaxy import galaxy, galaxy_bytes, galaxy_fits, galaxy_s
from controller.heads.model import HeadModel, Infeasible, Scene
from controller.heads.pipeline import pipeline
from controller.heads.rivals import edgeshard, greedy, round_robin, static
from controller.heads.simulate import Setting, simulate
from controller.heads.task import fits, task
from controller.heads.worlds import Sort, scenes, world
from controller.policies.galaxy import Galaxy
from controller.policies.heads import Heads
from controller.policies.heads_plus import HeadsPlus
from controller.policies.start import BadOption
from tests.unit.test_heads_planner import cost, instance
from tests.unit.test_joint import TRIGGER, scene_of, street


def run(memory, have, flops=None, before=None, bounds=None, sends=None):
    """Blocks of these sizes on devices of these; all devices equally fast."""
    size, devices = len(memory), len(have)
    work = np.zeros(size) if flops is None else np.array(flops, dtype=float)
    made = Blocks(
        np.array(memory, dtype=float),
        work,
        np.zeros((size, size)) if sends is None else np.array(sends, dtype=float),
        np.ones((size, devices), dtype=bool),
        None if before is None else np.array(before),
    )
    slow = (1 - np.eye(devices)) * 1e-3
    room = Devices(np.array(have, dtype=float), np.full(devices, np.inf), np.full(devices, 10.0), slow)
    found = Algorithm1(made, room, bounds or Bounds()).assign()
    return found if isinstance(found, Infeasible) else found.tolist()


def test_the_score_is_the_largest_of_three_shares():
    assert run([4], [8, 16]) == [1]  # memory: 1/2 or 1/4
    assert run([4, 4], [8, 16], sends=[[0, 900], [0, 0]]) == [1, 1]  # 0.9 s of talk is worse than a full device
    assert run([4, 4], [8, 9], sends=[[0, 9], [0, 0]]) == [1, 1]


def test_the_weighted_score_is_the_authors_and_differs():
    sends = [[0, 700], [0, 0]]
    assert run([12, 4], [20, 14], sends=sends) == [0, 0]
    weighted = Bounds(score="weighted", weights=(0.0, 1.0, 0.0))
    assert run([12, 4], [20, 14], sends=sends, bounds=weighted) == [0, 0]
    assert run([14, 8], [20, 15], sends=sends, bounds=weighted) == [0, 1]


def test_of_equal_scores_the_block_stays_where_it_is():
    assert run([4, 4], [8, 8], before=[1, 1]) == [1, 1]


def test_the_overload_resolver_moves_others_away():
    """The first block is the more demanding; the second then fits only where the first is."""
    assert run([2, 7], [8, 3], flops=[8, 0]) == [1, 0]


def test_backtracking_exchanges_blocks_when_none_can_move():
    """4 3 | 3 2 2 leave no room for the last 2, but 4 2 2 | 3 3 2 do."""
    found = run([4, 3, 3, 2, 2, 2], [8, 8])
    assert sum(size for size, at in zip([4, 3, 3, 2, 2, 2], found, strict=True) if at == 0) == 8


def test_infeasible_says_why():
    assert "by itself" in run([9], [8, 8]).reason
    assert "backtracking" in run([3, 3, 3], [5, 3]).reason
    assert "(U)" in run([2, 7], [8, 3], flops=[8, 0], bounds=Bounds(moves=0)).reason
    ticks = iter(range(10))
    late = Bounds(time_s=0.5, clock=lambda: float(next(ticks)))
    assert "Tmax" in run([2, 7], [8, 3], flops=[8, 0], bounds=late).reason


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), mode=st.sampled_from(["paper", "physical"]))
def test_algorithm_1_gives_what_fits_and_never_beats_the_optimum(seed, mode):
    asked = instance(seed, 3, 1, 4, mode)
    found, best = heads(asked), exact(asked)
    if isinstance(found, Infeasible):
        assert found.proven == isinstance(best, Infeasible)
        return
    assert fits(asked, found) and cost(asked, found) >= cost(asked, best) * (1 - 1e-9)
    assert (heads(asked) == found).all()


def roomy(devices=3, layers=1, count=4, **others):
    known = next(scenes(world(Sort(devices, background=0.0), 1), 1))
    return task(HeadModel("m", layers, count, 64 * count, 4, 64), replace(known, **others), "paper")


def test_greedy_takes_the_first_device_that_fits_and_round_robin_the_next():
    asked = roomy()
    assert (greedy(asked) == 0).all()
    assert round_robin(asked)[0].tolist() == [0, 1, 2, 0, 1, 2]
    head, _, ffn, _ = asked.need.resident_bytes
    small = replace(asked, memory=np.array([ffn + head, 1e9, 1e9]))
    assert greedy(small)[0].tolist() == [1, 1, 1, 1, 0, 0]  # FFN and projection have the most work
    assert round_robin(replace(asked, memory=np.array([1e9, 1.0, 1e9])))[0].tolist() == [0, 2, 0, 2, 0, 2]


def test_static_and_edgeshard_never_move_and_dynamic_keeps_layers_whole():
    asked = roomy(layers=3)
    placed = np.array([[2, 1, 0, 2, 1, 0]] * 3)
    for rule in (static, edgeshard):
        assert (rule(replace(asked, before=placed)) == placed).all()
    for rule in (dynamic, edgeshard):
        plan = rule(asked)
        assert (plan == plan[:, :1]).all()


def test_one_memory_a_state_misses_what_more_labels_find():
    """EdgeShard's rule is never better than the same with more labels, and worse somewhere."""
    ratios = []
    for seed in range(40):
        asked = instance(seed, 4, 5, 2, "physical", before=False, tight=1.0)
        one, more = (cost(asked, pipeline(asked, labels)) for labels in (1, 32))
        if more < float("inf"):
            ratios.append(one / more)
    assert min(ratios) > 1 - 1e-9 and max(ratios) > 1 + 1e-6


def test_galaxy_shares_by_capability_and_then_by_memory():
    asked = roomy(3, count=8, flops_per_s=np.array([1e10, 2e10, 1e10]))
    shares = galaxy(asked)
    assert shares.heads.tolist() == [2, 4, 2] and shares.mlp.tolist() == pytest.approx([0.25, 0.5, 0.25])
    head, proj, ffn, _ = asked.need.resident_bytes
    unit = head + proj / 8
    tight = replace(asked, memory=np.array([1e9, 3 * unit + 0.1 * ffn, 1e9]))
    less = galaxy(tight)
    assert less.heads.sum() == 8 and less.heads[1] == 3 and galaxy_fits(tight, less)
    assert less.mlp.sum() == pytest.approx(1) and less.mlp[1] == pytest.approx(0.1)
    assert galaxy_bytes(tight, less)[1] == pytest.approx(3 * unit + 0.1 * ffn)
    assert isinstance(galaxy(replace(asked, memory=np.full(3, 2 * unit))), Infeasible)


def test_galaxy_pays_two_all_reduces_a_layer():
    size, rate = 4, 1e6
    known = Scene(np.full(size, 1e12), np.full(size, 1e18), np.full((size, size), rate), np.zeros((size, size)), 0)
    asked = task(HeadModel("m", 2, 4, 256, 4, 100), known, "paper")
    wide = 100 * 256 * 4
    assert galaxy_s(asked, galaxy(asked)) == pytest.approx(wide / rate + 2 * 4 * 3 / 4 * wide / rate, rel=1e-3)
    one = galaxy(asked, devices=1)
    assert galaxy_s(asked, one) < 1e-3
    assert galaxy_s(asked, galaxy(asked, devices=0)) == galaxy_s(asked, one)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(["heads", "heads_plus", "greedy", "dynamic"]))
def test_the_order_of_policies_does_not_matter_and_a_seed_says_all(seed, order):
    model, setting = HeadModel("m", 1, 6, 384, 4, 32), Setting("paper")
    made = world(Sort(4), seed)

    def steps(name):
        return simulate(RULES[name], model, scenes(made, 4), setting)

    first = {name: steps(name) for name in order}
    assert first == {name: steps(name) for name in sorted(order)}


def test_the_simulation_counts_growth_moves_and_what_is_not_served():
    model, made = HeadModel("m", 2, 8, 512, 4, 64), world(Sort(4, gbit_per_s=(5, 10)), 3)
    steps = simulate(heads, model, scenes(made, 40, 10), Setting("paper", interval_tokens=10))
    assert [step.token for step in steps] == [0, 10, 20, 30]
    assert all(a.memory_bytes < b.memory_bytes for a, b in pairwise(steps))
    assert steps[0].moved_blocks == 0 and steps[0].migration_s == 0
    assert all((step.moved_blocks > 0) == (step.migration_s > 0) for step in steps)
    small = Sort(2, memory_gb=(0.0, 0.1, 0.001, 0.0012))
    lost = simulate(heads, model, scenes(world(small, 1), 2), Setting("paper"))
    assert all(step.infeasible and step.delay_s is None for step in lost)
    shared = simulate(galaxy, model, scenes(made, 3), Setting("physical"))
    assert all(step.delay_s > 0 and step.moved_blocks == 0 for step in shared)


def test_heads_plus_never_costs_more_than_algorithm_1_on_the_same_state():
    for seed in range(30):
        asked = instance(seed, 5, 1 + seed % 2, 8, ("paper", "physical")[seed % 2])
        assert cost(asked, RULES["heads_plus"](asked)) <= cost(asked, heads(asked)) * (1 + 1e-9)


@pytest.mark.parametrize("policy", [Heads, HeadsPlus, Galaxy])
def test_the_policies_conform_by_layer(policy):
    assert faults(policy, seeds=range(6), limit_s=30) == []


def test_the_policies_place_layers_and_heads_plus_stays_for_little():
    problem = street(count=1)
    for policy, nodes in ((HeadsPlus, ("edge",) * 4), (Galaxy, None), (Heads, None)):
        placed = policy(problem, {}).start(scene_of()).placement.nodes["s0"]
        assert len(placed) == 4 and (nodes is None or placed == nodes)
    plus = HeadsPlus(problem, {})
    first = plus.start(scene_of()).placement
    assert plus.decide(scene_of(10_000_000, load_ppm=20_000), first, TRIGGER).action == "KEEP"
    assert plus.decide(scene_of(20_000_000, load_ppm=900_000), first, TRIGGER).action == "REMAP"


@pytest.mark.parametrize(
    ("policy", "options"),
    [(Heads, {"score": "least"}), (Heads, {"moves": -1}), (HeadsPlus, {"labels": "x"}), (Galaxy, {"devices": -1})],
)
def test_bad_options(policy, options):
    with pytest.raises(BadOption):
        policy(street(), options)
