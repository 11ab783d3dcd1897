"""What the journal says of placements by parts: the costs that were minimised, the slowest ways, and a bound."""

import json
from dataclasses import replace

import numpy as np
import pytest

from controller.explain import gap, recorded
from controller.heads.costs import latency_s, migration_s
from controller.model import NodeState
from controller.moves import routes
from controller.policies.galaxy import Galaxy
from controller.policies.heads import Heads
from controller.policies.heads_plus import HeadsPlus
from controller.policies.headtask import head_task
from controller.policies.partway import PartForecast
from controller.policies.rowtask import by_rows, cost_s, is_by_rows
from controller.table import tabulate
from testbed.emulation.phones import hops
from testbed.report.why import detail
from tests.unit.test_headtask import LATE, STREAM, made, scene_for, snapshot

IDLE = 10**12  # microseconds between requests: nobody waits


def uneven(problem, seed):
    """A world where every node and every path is another."""
    draw, now = np.random.default_rng(seed), snapshot(problem)
    size = len(problem.hosts)
    delay, rate = draw.integers(100, 9000, (2, size, size)) * np.array([1, 10_000])[:, None, None]
    np.fill_diagonal(delay, 0)
    loads = tuple(NodeState(True, int(draw.integers(0, 800_000)), 0) for _ in range(size))
    return replace(now, nodes=loads, delay_us=delay, rate_bps=rate)


def rare(problem):
    return replace(problem, streams=tuple(replace(stream, period_us=IDLE) for stream in problem.streams))


def a_row(draw, table, blocks):
    """Anything that may be, on the servers; half of the layers on one of them."""
    servers = [table.index[f"edge{n}"] for n in (1, 2, 3, 4)]
    row = draw.choice(servers, blocks)
    for first in range(1, blocks - 1, 9):
        if draw.random() < 0.5:
            row[first : first + 9] = draw.choice(servers)
    return tuple(row.tolist())


@pytest.mark.parametrize("parts", [1, 4])
def test_what_is_predicted_is_what_the_planner_minimises(parts):
    problem = rare(made(f"models.chat.ffn_parts={parts}"))
    policy, table, draw = HeadsPlus(problem, {}), tabulate(problem), np.random.default_rng(parts)
    for seed in range(20):
        now = uneven(problem, seed)
        row, before = (a_row(draw, table, 2 + 3 * (5 + parts)) for _ in range(2))
        task = head_task(scene_for(policy, now, before))
        plan = task.plan(row)
        row = (*row[:-1], int(task.behind_at[plan[-1, -1]]))
        [latency] = PartForecast(table, now).latencies({STREAM: row}).values()
        [said] = PartForecast(table, now).by_parts({STREAM: row}, {STREAM: before}, {STREAM: 1.0}).values()
        least_us = 1e6 * (task.there_s[row[0]] + latency_s(plan, task.asked.spent, row[0]))
        moved_us = 1e6 * migration_s(plan, task.asked.before, task.asked.spent)
        assert latency.total_us - latency.queue_us == pytest.approx(least_us, abs=4) and latency.queue_us < 2
        assert said.kv_us == said.weighed_us == pytest.approx(moved_us, abs=2)
        assert task.bound_s() * 1e6 <= least_us + moved_us


def rowed(*sets):
    return made("models.chat.proj_rows=true", *sets)


@pytest.mark.parametrize("parts", [1, 4])
def test_of_plans_by_rows_too(parts):
    """Also where a layer's input is not where its sum is made: it goes there first."""
    problem = rare(rowed(f"models.chat.ffn_parts={parts}"))
    policy, table, draw = HeadsPlus(problem, {}), tabulate(problem), np.random.default_rng(parts)
    for seed in range(20):
        now = uneven(problem, seed)
        plan, before = (task_plan(draw, table, parts) for _ in range(2))
        task = head_task(scene_for(policy, now, head_task(scene_for(policy, now)).row(before)))
        rows = by_rows(scene_for(policy, now), task)
        row = rows.row(plan, by_rows=True)
        [latency] = PartForecast(table, now).latencies({STREAM: row}).values()
        old = {STREAM: task.row(before)}
        [said] = PartForecast(table, now).by_parts({STREAM: row}, old, {STREAM: 1.0}).values()
        found_us = latency.total_us - latency.queue_us + said.weighed_us
        assert found_us == pytest.approx(1e6 * cost_s(task, rows, plan), abs=5)
        assert rows.bound_s() * 1e6 <= found_us and is_by_rows(task, row) == any(len(set(p[:4])) > 1 for p in plan)


def task_plan(draw, table, columns):
    """Any heads and columns; a layer ends where its columns are, or at the projection, one of the nodes with heads."""
    servers = [table.index[f"edge{n}"] for n in (1, 2, 3, 4)]
    plan = draw.choice(servers, (3, 4 + (columns if columns > 1 else 0) + 2))
    plan[:, -2] = plan[:, 0]
    if columns > 1:
        same = (plan[:, 4:-2] == plan[:, 4:5]).all(axis=1)
        plan[:, -1] = np.where(same, plan[:, 4], plan[:, -2])
    return plan.astype(np.intp)


def test_heads_plus_takes_the_rows_of_the_projection_to_their_heads_where_that_is_faster():
    problem, whole = rowed(), made()
    now, later = snapshot(problem), snapshot(problem, 6_000_000, ["edge3"])
    policy = HeadsPlus(problem, {})
    first, gathered = policy.start(now), HeadsPlus(whole, {}).start(now)
    assert first.lower_bound_us == pytest.approx(42_870, abs=10) and gap(first) < 1e-3
    assert gathered.lower_bound_us == pytest.approx(45_370, abs=10)
    stops = routes(problem, first.placement.nodes)[STREAM]
    parts = [[part for _, part in stop.parts] for stop in stops if stop.parts]
    assert len(parts) == 3 and all(any(p.startswith("rows:") for p in one) and "proj" not in one for one in parts)
    moved = policy.decide(later, first.placement, LATE)
    assert moved.action != "KEEP" and "edge3" not in moved.placement.nodes[STREAM] and gap(moved) < 1e-3
    assert policy.decide(replace(later, now_us=12_000_000), moved.placement, LATE).action == "KEEP"
    fast = rowed(*(f"nodes.edge{n}.flops=100MFLOPS" for n in (1, 2, 3, 4)))
    assert len(set(HeadsPlus(fast, {}).start(now).placement.nodes[STREAM])) == 1  # apart is slower, either way
    assert Heads(problem, {"interval_s": 0.03}).start(now).action == "RESPLIT"


def test_sums_are_put_on_one_node_where_the_inputs_would_have_to_come_to_them():
    """GPT-2 over four equal servers: 233 ms gathered; the search thinks of 215 by rows, its plan costs more."""
    sets = ("models.chat.family=gpt2", *(f"nodes.edge{n}.flops=1GFLOPS" for n in (1, 2, 3, 4)))
    problem = rowed(*sets)
    decision = HeadsPlus(problem, {}).start(snapshot(problem))
    row, blocks = decision.placement.nodes[STREAM], problem.models["chat"].blocks
    sums = {node for node, block in zip(row, blocks, strict=True) if block.part == "proj"}
    assert len(sums) == 1 and gap(decision) < 0.01
    [latency] = decision.candidates[-1].predicted.values()
    assert latency.total_us - latency.queue_us == pytest.approx(217_000, rel=0.01)


def test_a_layer_is_as_slow_as_the_slowest_of_its_ways():
    """Everything on edge1 but a head of the first layer, which is on edge2, and edge2 is far: by hand."""
    problem = rare(made())
    table, now = tabulate(problem), snapshot(problem, slow=["edge2"])
    edge1, edge2, blocks = table.index["edge1"], table.index["edge2"], problem.models["chat"].blocks
    row = [edge1] * len(blocks)
    near = PartForecast(table, now).latencies({STREAM: tuple(row)})[STREAM]
    row[1] = edge2
    [far] = PartForecast(table, now).latencies({STREAM: tuple(row)}).values()
    [said] = PartForecast(table, now).by_parts({STREAM: tuple(row)}, {}, {}).values()
    way_us, head_us = 2 * 100 + 30_000, blocks[1].flops / 12  # 12 MFLOP/s
    assert far.propagation_us - near.propagation_us == 2 * way_us
    assert near.compute_us - far.compute_us == pytest.approx(3 * head_us, abs=2)  # three heads meanwhile, on edge1
    width_bytes, head_bytes = blocks[0].output_bytes, blocks[1].output_bytes
    assert (said.layers, said.collect_bytes) == (1, width_bytes + head_bytes)
    wire_us = (width_bytes + head_bytes) * 8 / 1000  # 1 Gbit/s
    assert said.collect_us == pytest.approx(2 * (way_us + 1000) + wire_us, abs=2)
    assert (said.kv_bytes, said.weighed_us) == (0, 0)


def test_parts_wait_for_each_other_on_a_node_and_whole_layers_once():
    problem = rare(made())
    table, now = tabulate(problem), snapshot(problem)
    busy = replace(now, nodes=tuple(NodeState(True, 0, 7_000 * host.name.startswith("edge")) for host in problem.hosts))
    row = [table.index["edge1"]] * len(problem.models["chat"].blocks)
    assert PartForecast(table, busy).latencies({STREAM: tuple(row)})[STREAM].queue_us == 7_000
    row[1] = table.index["edge2"]  # embedding; heads, projection and feed-forward part; the other layers
    assert PartForecast(table, busy).latencies({STREAM: tuple(row)})[STREAM].queue_us == 5 * 7_000


def told(problem, now, decision):
    record = json.loads(json.dumps(recorded(problem, now, decision)))
    return "\n".join(detail({"n": 1, "t_us": 0, "duration_us": 0, **record}))


@pytest.mark.parametrize("rival", [HeadsPlus, Heads, Galaxy])
def test_the_gap_is_that_of_the_bound_of_heads_plus_and_why_says_it(rival):
    problem = made()
    policy, now = rival(problem, {}), snapshot(problem)
    first, least = policy.start(now), HeadsPlus(problem, {}).start(now)
    assert first.lower_bound_us == pytest.approx(least.lower_bound_us, rel=1e-3)
    assert gap(first) == 0 if rival is HeadsPlus else gap(first) > 0.1
    text = told(problem, now, first)
    assert "waiting not counted; the chosen one is" in text and "layers by parts, within them" in text
    assert "keys and values" not in text


def test_galaxy_shares_whole_layers_among_those_who_may_have_them():
    problem = made()
    policy, now = Galaxy(problem, {"devices": 3}), snapshot(problem)
    row = policy.start(now).placement.nodes[STREAM]
    blocks = problem.models["chat"].blocks
    at = {unit: {n for n, block in zip(row, blocks, strict=True) if block.unit == unit} for unit in range(5)}
    assert all(len(nodes) == 1 for nodes in at.values()) and set(row) == {"edge1", "edge2", "edge3"}


def test_a_move_says_what_its_keys_and_values_take_beside_the_prediction():
    problem = made()
    policy, now = HeadsPlus(problem, {}), snapshot(problem)
    first = policy.start(now)
    later = snapshot(problem, 6_000_000, ["edge3"])
    moved = policy.decide(later, first.placement, LATE)
    keep, chosen = (candidate.parts[STREAM] for candidate in moved.candidates)
    assert keep.kv_bytes == keep.weighed_us == 0 < chosen.weighed_us < chosen.kv_us
    blocks = problem.models["chat"].blocks
    rows = first.placement.nodes[STREAM], moved.placement.nodes[STREAM]
    heads = sum(a != b and block.part.startswith("heads") for block, a, b in zip(blocks, *rows, strict=True))
    assert chosen.kv_bytes == heads * (blocks[1].read_bytes - blocks[1].weight_bytes) and heads >= 3
    rounds = 30e6 / problem.streams[0].period_us
    assert chosen.weighed_us == pytest.approx(chosen.kv_us / rounds, abs=1)
    assert gap(moved) == 0 and "bytes of keys and values in" in told(problem, later, moved)
    slow, fast = (sum(c.predicted[STREAM].total_us for c in moved.candidates[i : i + 1]) for i in (0, 1))
    assert slow > fast + 6 * 30_000  # there and back in each of three layers


def test_where_pins_take_the_layers_apart_there_is_no_bound():
    problem = made()
    problem = replace(problem, pins={(STREAM, 1): "edge2"})
    decision = HeadsPlus(problem, {"placement": {STREAM: ["edge1", "edge2", *["edge1"] * 27]}}).start(snapshot(problem))
    assert decision.action == "RESPLIT" and (decision.lower_bound_us, gap(decision)) == (0, None)
    assert "bound      no bound" in told(problem, snapshot(problem), decision)


def test_the_ways_that_are_counted_are_those_that_a_request_takes():
    """As long as a layer's input is on a node of that layer; else it goes by way of the projection."""
    problem = rare(made())
    policy = HeadsPlus(problem, {})
    row = policy.row(scene_for(policy, snapshot(problem)))
    table, names = policy._table, policy._table.names(row)
    forecast = PartForecast(table, snapshot(problem))
    use = forecast.use(STREAM, row)
    taken = {pair for pair in hops("ue1", routes(problem, {STREAM: names})[STREAM]) if pair[0] != pair[1]}
    assert {(table.problem.hosts[a].name, table.problem.hosts[b].name) for (a, b), *_ in use.paths} == taken
