"""Layers by parts over the emulated network: heads go round three servers with their keys and values while a model
speaks, and one of the servers is lost twenty times: every token is that of the unsplit model, none twice, none missing.
"""

from collections import defaultdict
from itertools import pairwise

import pytest

from nodes.prepare import smollm
from tests.scenarios.test_generation import right

FOLDER = "tests/scenarios/experiments"
HEADS, CAPITAL = (pytest.mark.experiment(f"{FOLDER}/{name}.yaml") for name in ("heads", "capital"))
SECOND = 1_000_000


def answered(run):
    """The rounds that ended well, by session, in order."""
    found = defaultdict(list)
    for request in sorted(run.journal("request"), key=lambda r: r["sent_us"]):
        if request["outcome"] == "ok":
            found[request["session"]].append(request)
    return found


def moved_over(run):
    """The tokens, each of a session, at which a session went over to another placement and took its caches along."""
    return {
        (session, after["token"])
        for session, rounds in answered(run).items()
        for before, after in pairwise(rounds)
        if before["epoch"] != after["epoch"] and before["life"] == after["life"]
    }


def speaks_as_the_unsplit_model(run):
    run.assert_valid()
    sessions, rounds = run.journal("session"), answered(run)
    for session in sessions:
        assert (session["outcome"], session["error"]) == ("ok", "")
        assert session["tokens"] == right(run, session["input"])
        come = 0
        for one in rounds[session["session"]]:
            again = one["replay"] and one["position"] == 0 and come > 0
            assert one["token"] == (0 if again else come) and one["checked"] and one["equal"]
            come += not again
        assert come == len(session["tokens"])
    assert run.summary["requests"]["duplicated"] == run.summary["requests"]["lost"] == 0
    return sessions


@HEADS
def test_no_token_is_another_nor_lost_nor_twice(testbed, history_is_right):
    history_is_right(testbed)
    sessions = speaks_as_the_unsplit_model(testbed)
    assert len(sessions) == 4 and testbed.summary["sessions"]["finished"] == 4
    assert len(set(sessions[0]["tokens"])) > 10


@HEADS
def test_heads_take_their_keys_and_values_along_at_twenty_tokens(testbed):
    testbed.assert_valid()
    assert len(moved_over(testbed)) >= 20
    first = testbed.journal("session")[0]  # while nothing fails
    assert first["replays"] == 0 and len({n for s, n in moved_over(testbed) if s == first["session"]}) >= 12
    kv = [k for k in testbed.journal("kv") if k["session"] == first["session"] and k["t_us"] < first["done_us"]]
    pulled = [k for k in kv if k["phase"] != "replica"]
    assert pulled and all(len(k["heads"]) == 1 and not k["why"] for k in pulled)
    per_token = 2 * 4 * 16  # a key and a value of 16 numbers
    assert all(k["bytes"] == per_token * (k["tokens"][1] - k["tokens"][0]) for k in pulled)


def losses(run):
    """(the event, when the controller knew of it, the round that failed by it) of each time the server went down."""
    downs = [e for e in run.journal("event") if e["what"] == "node_down"]
    founds = [d for d in run.journal("decision") if any(t["kind"] == "node_down" for t in d["triggers"])]
    failed = [r for r in run.journal("request") if r["outcome"] == "failed"]
    assert len(downs) == len(founds) == len(failed) == 20
    assert {r["error"] for r in failed} <= {"PEER_LOST", "UNKNOWN_SLICE"}  # it was gone, or back with nothing
    failed.sort(key=lambda r: r["sent_us"])
    found = [(down, decision["t_us"], round_) for down, decision, round_ in zip(downs, founds, failed, strict=True)]
    assert all(down["applied_us"] < t_us and r["sent_us"] <= t_us < r["sent_us"] + SECOND for down, t_us, r in found)
    return found


@HEADS
def test_a_server_lost_at_twenty_tokens_is_made_up_for_within_a_second(testbed):
    testbed.assert_valid()
    for _, found_us, round_ in losses(testbed):
        token = [r for r in answered(testbed)[round_["session"]] if r["token"] == round_["token"]]
        resumed_us = min(r["done_us"] for r in token if r["done_us"] > found_us)
        assert resumed_us < found_us + SECOND
    assert len({(round_["session"], round_["token"]) for _, _, round_ in losses(testbed)}) == 20
    assert len({round_["token"] for _, _, round_ in losses(testbed)}) >= 16


@HEADS
def test_what_was_lost_goes_on_from_the_heads_that_others_keep(testbed):
    """Nothing is said again but the few tokens that were not yet there."""
    testbed.assert_valid()
    sessions = testbed.journal("session")
    assert sum(s["resumes"] for s in sessions) >= 15 and sum(s["replays"] for s in sessions) <= 3
    resumed = [r for r in testbed.journal("request") if r.get("resumed")]
    failed = {(r["session"], r["token"]): r["position"] for _, _, r in losses(testbed)}
    behind = [failed[r["session"], r["token"]] - r["position"] for r in resumed if (r["session"], r["token"]) in failed]
    assert len(behind) >= 15 and all(0 <= tokens <= 12 for tokens in behind)
    kept = [k for k in testbed.journal("kv") if k["phase"] == "replica" and not k["why"]]
    assert {k["node"] for k in kept} == {"edge1", "edge2"} and all(k["heads"] for k in kept)


@HEADS
def test_most_losses_fall_into_a_round_that_still_needs_the_server(testbed):
    """Before any of its parts, between them, and behind some of those on the very server."""
    testbed.assert_valid()
    under = [(down["applied_us"], round_) for down, _, round_ in losses(testbed)]
    under = [(t_us, round_) for t_us, round_ in under if round_["sent_us"] < t_us]
    assert len(under) >= 10
    parts = defaultdict(list)
    for part in testbed.journal("part"):
        parts[part["request"]].append(part)
    placed = {(s["epoch"], s["slice"]["node"]) for s in testbed.journal("move") if s["phase"] == "prepare"}
    before = []
    for t_us, round_ in under:
        assert (round_["epoch"], "edge3") in placed
        before.append([part["node"] for part in parts[round_["id"]] if part["t_us"] <= t_us])
    assert sum(map(bool, before)) >= 5 and any("edge3" in nodes for nodes in before)


@HEADS
def test_what_travels_within_a_layer_is_counted(testbed):
    testbed.assert_valid()
    parts = testbed.journal("part")
    spans = [s for r in testbed.journal("request") for s in r["spans"]]
    carried = sum(s["size_bytes"] for s in spans if s["kind"] == "network")
    assert testbed.summary["bytes"]["data"] == carried + sum(p["sent_bytes"] for p in parts)
    assert {p["layer"] for p in parts} == {1, 2, 3} and {p["node"] for p in parts} == {"edge1", "edge2", "edge3"}
    layers = [s for s in spans if s["kind"] == "layer"]
    assert layers and all(s["start_us"] < s["end_us"] for s in layers)


@CAPITAL
def test_smollm_says_paris_while_its_heads_go_round(testbed, history_is_right):
    history_is_right(testbed)
    [session] = speaks_as_the_unsplit_model(testbed)
    assert smollm.text(session["tokens"]).startswith(" Paris.")
    assert session["replays"] == 0 and len(moved_over(testbed)) >= 3
    assert {p["layer"] for p in testbed.journal("part")} == {4, 12, 20, 28}


@CAPITAL
def test_a_head_that_moves_takes_its_weights_along_and_no_others(testbed):
    """Those of its group of queries, its key and its value; beside them only what sessions keep."""
    testbed.assert_valid()
    loads = [m for m in testbed.journal("move") if m["phase"] == "prepare" and m["epoch"] > 1 and m["slice"]]
    ahead = {k["bytes"] for k in testbed.journal("kv") if k["phase"] == "prepare"}
    came = [load["bytes"] for load in loads if load["bytes"]]
    weights = 4 * 576 * (192 + 64 + 64)
    assert len(came) == len({load["move"] for load in loads}) >= 10
    assert all(size - weights in {0, *ahead} for size in came)
    assert {load["slice"]["part"].split(":")[0] for load in loads} == {"heads"}


@CAPITAL
def test_halves_of_the_feed_forward_part_are_added_up_where_the_projection_is(testbed):
    testbed.assert_valid()
    ran = {(part["node"], part["part"]) for part in testbed.journal("part") if part["part"].startswith("mlp")}
    halves = {("edge3", "mlp:0-768"), ("edge1", "mlp:768-1536")}
    assert ran == {*halves, ("edge2", "mlp:norm"), ("edge2", "mlp:sum")}
