"""From one placement to the next."""

import dataclasses

import numpy as np
import pytest

from controller.model import Block, Host, Model, NodeState, Problem, Sla, Slice, Snapshot, Stream
from controller.moves import TRANSITIONS, IllegalTransition, Load, advance, move_cost, plan_move, routes, slices
from controller.table import tabulate

PROBLEM = Problem(
    hosts=tuple(Host(name, "z", 10**9, 10**9) for name in "abc"),
    models={"m": Model("m", tuple(Block(str(i), 1, 1_000_000, 1) for i in range(4)), 1)},
    streams=(Stream("s", "m", "a", 1000), Stream("t", "m", "a", 1000)),
    sla=Sla(95, 1000, 1000),
    weights="transfer",
)
UP = NodeState(True, 0, 0)
SCENE = Snapshot(0, (UP, UP, UP), np.zeros((3, 3), dtype=np.int64), np.full((3, 3), 8_000_000))
OLD = {"s": tuple("aabb"), "t": tuple("aabb")}


def test_runs_become_slices_and_are_shared():
    assert slices(PROBLEM, OLD) == (Slice("a", "m", 0, 2), Slice("b", "m", 2, 4))
    assert routes(PROBLEM, {"s": tuple("abba")})["s"] == (
        Slice("a", "m", 0, 1),
        Slice("b", "m", 1, 3),
        Slice("a", "m", 3, 4),
    )


def test_only_the_difference_is_loaded_and_only_the_unused_released():
    move = plan_move(PROBLEM, OLD, {"s": tuple("aacc"), "t": tuple("aabb")}, SCENE)
    assert move.prepare == (Load(Slice("c", "m", 2, 4), "b"),)
    assert move.release == ()
    assert plan_move(PROBLEM, OLD, OLD, SCENE).prepare == ()
    assert plan_move(PROBLEM, OLD, {name: tuple("cccc") for name in OLD}, SCENE).release == slices(PROBLEM, OLD)


@pytest.mark.parametrize(
    ("new", "down", "weights", "source"),
    [
        ("cccc", (), "prestaged", None),
        ("cccc", (), "transfer", "a"),  # as much there as on b: the first
        ("cccc", (0,), "transfer", "b"),
        ("cccc", (0, 1), "transfer", None),
        ("aacc", (1,), "transfer", None),
        ("bbbb", (), "transfer", "a"),
    ],
)
def test_where_the_weights_come_from(new, down, weights, source):
    scene = dataclasses.replace(SCENE, nodes=tuple(NodeState(n not in down, 0, 0) for n in range(3)))
    problem = dataclasses.replace(PROBLEM, weights=weights)
    new = {name: tuple(new) for name in OLD}
    loads = plan_move(problem, OLD, new, scene).prepare
    assert [load.source for load in loads] == [source]


def test_cost_of_a_move_is_what_must_travel():
    table = tabulate(PROBLEM)
    assert move_cost(table, {"s": (0, 0, 1, 1)}, {"s": (1, 1, 1, 1)}, SCENE) == (2_000_000, 2_000_000)
    assert move_cost(table, {"s": (0, 0, 1, 1)}, {"s": (0, 0, 1, 1)}, SCENE) == (0, 0)
    assert move_cost(table, {}, {"s": (0, 0, 1, 1)}, SCENE) == (0, 0)
    prestaged = tabulate(dataclasses.replace(PROBLEM, weights="prestaged"))
    assert move_cost(prestaged, {"s": (0, 0, 1, 1)}, {"s": (1, 1, 1, 1)}, SCENE) == (0, 0)


def test_abort_only_before_the_switch():
    before = {state for state, events in TRANSITIONS.items() if "abort" in events.values()}
    assert before == {"prepare", "commit"}
    assert {nxt for events in TRANSITIONS.values() for nxt in events.values()} <= set(TRANSITIONS)


def test_a_move_out_of_order_is_refused():
    assert advance("prepare", "loaded") == "commit"
    with pytest.raises(IllegalTransition, match="switched"):
        advance("switch", "failed")
    with pytest.raises(IllegalTransition, match="it has ended"):
        advance("done", "loaded")
