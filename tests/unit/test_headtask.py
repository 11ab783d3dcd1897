"""Streams placed by heads: what the head-level planners are given, what comes back, and that it may be done."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.model import NodeState, Snapshot, Trigger
from controller.moves import routes
from controller.policies.heads import Heads
from controller.policies.heads_plus import HeadsPlus
from controller.policies.headtask import by_heads, head_task
from controller.policies.wishes import wished
from controller.table import tabulate
from controller.validity import objection
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation.problem import problem_of
from testbed.experiment import load_experiment

SHIFT = Path(__file__).resolve().parents[1] / "scenarios" / "experiments" / "shift.yaml"
STREAM, SLOW_US = "talk.ue1", 30_000
LATE = (Trigger("link_latency", "edge2->edge3", 30.0, 1.0),)
CLOSED = (Trigger("privacy", STREAM, 1.0, 0.0),)


def made(*sets):
    """The experiment, its projections in one block unless they are said to be in rows."""
    sets = ("models.chat.proj_rows=false", *sets)
    plan = compile_plan(load_experiment(SHIFT, sets=sets), {"chat": ModelFiles("/w", "/a", 2)})
    return wished(problem_of(plan), {"veto": ["ue1"]})


def snapshot(problem, now_us=0, slow=()):
    """Everyone a fraction of a millisecond apart; the phone farther, `slow` ones much farther."""
    names = [host.name for host in problem.hosts]
    access = np.array([5500 if n == "ue1" else 100 + SLOW_US * (n in slow) for n in names])
    delay, rate = access[:, None] + access, np.full((len(names),) * 2, 10**9)
    np.fill_diagonal(delay, 0)
    return Snapshot(now_us, tuple(NodeState(True, 0, 0) for _ in names), delay, rate)


def used(decision):
    return set(decision.placement.nodes[STREAM])


def scene_for(policy, now, row=None):
    current = {} if row is None else {STREAM: row}
    return policy.scene(now, STREAM, {}, current, 1 if current else 0)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("whole", [False, True])
def test_a_row_is_a_plan_and_back(parts, whole):
    problem = made(f"models.chat.ffn_parts={parts}")
    policy = HeadsPlus(problem, {})
    now = snapshot(problem)
    row = policy.row(scene_for(policy, now))
    scene = scene_for(policy, now, row)
    task = head_task(scene, whole_ffn=whole)
    assert by_heads(scene) and task.asked.model.columns == (0 if whole or parts == 1 else 4)
    assert (task.asked.model.layers, task.asked.model.heads) == (3, 4)
    back = task.row(task.asked.before)
    assert len(back) == scene.blocks and (task.plan(back) == task.asked.before).all()
    if task.asked.model.columns or parts == 1:
        assert back == row
    assert task.asked.spent.move_head[1, 2] > 0 and not task.asked.spent.move_ffn.any()


def test_heads_plus_spreads_leaves_a_slow_path_and_obeys_privacy_without_waiting():
    problem = made()
    policy, table, now = HeadsPlus(problem, {}), tabulate(problem), snapshot(problem)
    first = policy.start(now)
    assert first.action == "RESPLIT" and used(first) == {"edge1", "edge2", "edge3"}
    assert any(stop.parts for stop in routes(problem, first.placement.nodes)[STREAM])
    later = snapshot(problem, 6_000_000, ["edge3"])
    assert policy.decide(snapshot(problem, 1_000_000), first.placement, LATE).action == "KEEP"
    moved = policy.decide(later, first.placement, LATE)
    assert used(moved) == {"edge1", "edge2", "edge4"} and not objection(table, later, first.placement, moved)
    closed = replace(problem, zones={"feature": frozenset({"device", "own"})})
    policy.rezone(closed)
    soon = replace(later, now_us=7_000_000)
    away = policy.decide(soon, moved.placement, CLOSED)
    assert "edge4" not in used(away) and not objection(tabulate(closed), soon, moved.placement, away)
    assert "not served" in away.reason


def test_a_small_gain_moves_nothing():
    problem = made()
    policy, now = HeadsPlus(problem, {}), snapshot(problem)
    first = policy.start(now)
    loaded = tuple(NodeState(True, 40_000 * (host.name == "edge2"), 0) for host in problem.hosts)
    assert policy.decide(replace(now, now_us=10**7, nodes=loaded), first.placement, LATE).action == "KEEP"


def load(now, problem, node, load_ppm):
    return replace(now, nodes=tuple(NodeState(True, load_ppm * (host.name == node), 0) for host in problem.hosts))


def heads_on(problem, decision, node):
    """Positions of the heads there."""
    blocks, row = problem.models["chat"].blocks, decision.placement.nodes[STREAM]
    return [i for i, block in enumerate(blocks) if block.part.startswith("heads") and row[i] == node]


def test_algorithm_1_keeps_all_on_one_of_four_equal_servers_because_its_scores_are_equal():
    """shift.yaml by hand: the terms of max{m/M, b/C, CommFactor} for the largest block, and the load limit."""
    problem = made()
    [stream], blocks = problem.streams, problem.models["chat"].blocks
    edge = next(host for host in problem.hosts if host.name == "edge1")
    layer = [block for block in blocks if block.unit == 1]
    ffn = [block for block in layer if block.part.startswith("mlp")]
    compute_s = sum(block.flops for block in ffn) / edge.flops_per_s
    memory = sum(block.weight_bytes + block.kept_bytes + block.working_bytes for block in ffn) / edge.memory_bytes
    talk_s = 2 * max(block.output_bytes for block in layer) * 8 / 1e9  # to everything else of the layer, of 1 Gbit/s
    assert memory < talk_s * 100 < compute_s == pytest.approx(0.0089, abs=1e-4)  # so b/C decides, and C is the same
    token_s = 3 * sum(block.flops for block in layer) / edge.flops_per_s
    assert token_s == pytest.approx(0.04997, abs=1e-5) and stream.period_us == 52_500  # and all of it is within C
    policy = Heads(problem, {})
    first = policy.start(snapshot(problem))
    assert used(first) == {"edge1"}
    late = policy.decide(snapshot(problem, 6_000_000, ["edge1"]), first.placement, LATE)  # delay is in no term
    assert (late.action, late.reason) == ("KEEP", "Algorithm 1 by head: the same as now")


def test_algorithm_1_spreads_heads_by_its_load_limit_and_moves_those_of_a_loaded_server():
    """20 of 50 ms of work do not fit into 30; then b/C of one server is 2.5 times the others', by background load."""
    problem = made()
    policy, table, now = Heads(problem, {"interval_s": 0.03}), tabulate(problem), snapshot(problem)
    first = policy.start(now)
    assert used(first) == {"edge1", "edge2"} and heads_on(problem, first, "edge2")
    for node in ("edge1", "edge2"):
        work = sum(
            block.flops
            for block, name in zip(problem.models["chat"].blocks, first.placement.nodes[STREAM], strict=True)
            if name == node and block.part
        )
        assert work <= 0.03 * 12_000_000
    loaded = load(snapshot(problem, 6_000_000), problem, "edge2", 600_000)
    moved = policy.decide(loaded, first.placement, (Trigger("load", "edge2", 0.6, 0.0),))
    assert moved.action != "KEEP" and not objection(table, loaded, first.placement, moved)
    assert heads_on(problem, moved, "edge3") == heads_on(problem, first, "edge2")
    assert heads_on(problem, moved, "edge1") == heads_on(problem, first, "edge1")
    chosen = moved.candidates[-1].parts[STREAM]
    assert chosen.kv_bytes > 0 == chosen.weighed_us  # (7) is told, and not asked
    again = policy.decide(replace(loaded, now_us=12_000_000), moved.placement, LATE)
    assert again.action == "KEEP"  # of equal scores the device it is on
    none = Heads(problem, {"interval_s": 0.001}).start(now)
    assert none.action == "INFEASIBLE"


def test_algorithm_1_places_by_heads_what_one_node_cannot_hold():
    problem = made()
    alone = Heads(problem, {}).start(snapshot(problem))
    assert len(used(alone)) == 1  # the score of the paper does not spread heads
    small = tuple(replace(host, memory_bytes=900_000) if host.name != "ue1" else host for host in problem.hosts)
    problem = replace(problem, hosts=small)
    spread = Heads(problem, {}).start(snapshot(problem))
    assert len(used(spread)) > 1 and spread.reason == "start: Algorithm 1 by head"
    assert any(stop.parts for stop in routes(problem, spread.placement.nodes)[STREAM])
