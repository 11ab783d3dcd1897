"""Moves under trouble: one taken back, nodes that fail, models in slices. (test_repeat.py has one without trouble.)

A placement changes while requests are on their way; whatever happens, each request ends once, and each answer is
that of the unsplit model.
"""

import pytest

from testbed.scenario import ScenarioRun

TROUBLE = pytest.mark.experiment("experiments/trouble.yaml")
SPLIT = pytest.mark.experiment("experiments/split.yaml")
NAMED = {"DEADLINE", "PEER_LOST", "UNKNOWN_SLICE", "NO_ROUTE"}


def epochs_ok(run: ScenarioRun) -> list[int]:
    """The epochs on which requests were answered."""
    return sorted({request["epoch"] for request in run.journal("request") if request["outcome"] == "ok"})


@TROUBLE
def test_a_move_to_a_node_that_fails_is_taken_back(testbed, history_is_right):
    history_is_right(testbed)
    testbed.assert_no_loss()
    aborted = [move for move in testbed.journal("move") if move["phase"] == "abort"]
    assert testbed.summary["moves"]["aborted"] == 1
    assert any("edge1" in move["why"] for move in aborted)
    during = [r for r in testbed.journal("request") if 4_000_000 <= r["sent_us"] < 10_000_000]
    assert {r["epoch"] for r in during} == {1}  # the old placement serves on


@TROUBLE
def test_the_move_is_made_when_the_node_is_back(testbed):
    testbed.assert_valid()
    commits = [move for move in testbed.journal("move") if move["phase"] == "commit" and move["epoch"] > 1]
    assert 10_000_000 < commits[0]["t_us"] < 20_000_000
    served = [r for r in testbed.journal("request") if r["epoch"] == commits[0]["epoch"] and r["outcome"] == "ok"]
    assert served
    assert {s["node"] for r in served for s in r["spans"] if s["kind"] == "compute"} == {"edge1"}


@TROUBLE
def test_requests_leave_a_serving_node_that_fails(testbed):
    testbed.assert_valid()
    down_us, back_us = 20_000_000, 25_000_000
    commits = [m for m in testbed.journal("move") if m["phase"] == "commit" and down_us < m["t_us"] < back_us]
    assert commits, "the policy stayed with a node that is down"
    failed = [r for r in testbed.journal("request") if r["outcome"] == "failed"]
    assert failed
    assert {r["error"] for r in failed} <= NAMED
    assert testbed.summary["requests"]["failed"] == len(failed)
    after = [r for r in testbed.journal("request") if commits[0]["t_us"] + 1_000_000 < r["sent_us"] < back_us]
    assert after
    assert all(r["outcome"] == "ok" for r in after)


@SPLIT
def test_slices_of_a_model_answer_as_the_whole(testbed, history_is_right):
    history_is_right(testbed)
    testbed.assert_no_loss()
    first = [r for r in testbed.journal("request") if r["epoch"] == 1]
    ways = {r["stream"]: [s["node"] for s in r["spans"] if s["kind"] == "compute"] for r in first}
    assert ways == {"cam.ue1": ["ue1", "edge1", "mec"], "cam.ue2": ["edge1", "mec"]}


@SPLIT
def test_a_split_model_moves(testbed):
    testbed.assert_right()
    assert testbed.summary["moves"]["count"] >= 1
    assert testbed.summary["moves"]["aborted"] == 0
    assert testbed.summary["bytes"]["moves"] > 0
    assert len(epochs_ok(testbed)) >= 2
