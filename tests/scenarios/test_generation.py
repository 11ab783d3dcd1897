"""SmolLM2 with its real weights, split over a phone, an edge server and a MEC server, goes on speaking while its layers
move and while one of the servers is lost: every token is that of the unsplit model, none twice, none missing. The two
servers stand by each other, and by the phone (`kv: replica`).
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nodes.prepare import smollm, tensorfile
from testbed.scenario import ScenarioRun

SCRIPT = Path(__file__).parent / "experiments" / "script.py"
CHAT = pytest.mark.experiment("topologies/chat.yaml", policy=f"{SCRIPT}:Script", sets=("kv=replica",))
TOKENS, SECOND = 48, 1_000_000


def rounds_of(run: ScenarioRun, session: str) -> list[dict]:
    return [r for r in run.journal("request") if r["session"] == session]


def right(run: ScenarioRun, which: int) -> list[int]:
    """What the unsplit model says, from the answers file."""
    [model] = json.loads(run.artifact("plan.json").read_text())["models"]
    tokens: np.ndarray = tensorfile.read(Path(model["answers_file"]))[f"tokens.{which}"]
    return tokens.tolist()


@CHAT
def test_it_says_what_the_unsplit_model_says(testbed, history_is_right):
    history_is_right(testbed)
    sessions = testbed.journal("session")
    assert len(sessions) == 10
    for session in sessions:
        assert (session["outcome"], session["error"]) == ("ok", "")
        assert session["tokens"] == right(testbed, session["input"])
    capital = smollm.text(sessions[0]["tokens"])
    assert capital.startswith(" Paris.")
    told = testbed.summary["sessions"]
    assert (told["started"], told["finished"], told["failed"]) == (10, 10, 0)
    assert told["tokens"] == 10 * TOKENS
    assert told["first_token_ms"]["p50"] < 100 and told["tokens_per_s"]["median"] > 20


@CHAT
def test_no_token_is_lost_or_comes_twice(testbed):
    testbed.assert_valid()
    for session in testbed.journal("session"):
        come = 0
        for answered in (r for r in rounds_of(testbed, session["session"]) if r["outcome"] == "ok"):
            again = answered["replay"] and answered["position"] == 0 and come > 0
            assert answered["token"] == (0 if again else come)
            come += not again
        assert come == TOKENS
    assert testbed.summary["requests"]["duplicated"] == testbed.summary["requests"]["lost"] == 0


@CHAT
def test_caches_follow_the_layers_within_an_answer(testbed):
    """Those that move to who stood by are there; the others' rows go ahead, and at the switch what was said since."""
    testbed.assert_valid()
    switches = {m["epoch"]: m["t_us"] for m in testbed.journal("move") if m["phase"] == "switch"}
    assert len(switches) == 5 and testbed.summary["moves"] == {"count": 4, "aborted": 0}
    spoken = [r for r in testbed.journal("request") if r["outcome"] == "ok"]
    over = {e for r, s in pairwise(spoken) if r["session"] == s["session"] and (e := s["epoch"]) != r["epoch"]}
    assert over == {2, 3, 4, 5}  # each switch came while a session was speaking
    kv = [k for k in testbed.journal("kv") if not k["why"]]
    first, second = (k["t_us"] for k in testbed.journal("move") if k["phase"] == "switch" and k["epoch"] in {3, 4})
    ahead, behind = ([k for k in kv if k["phase"] == phase] for phase in ("prepare", "switch"))
    [copied] = [k for k in ahead if k["tokens"][0] == 0]  # the phone's own layers, by which the MEC server stood
    assert copied["blocks"] == [2, 8] and copied["t_us"] < first + SECOND
    begun = [k for k in kv if k["tokens"][0] == 0]
    assert second > first and sum(k["bytes"] for k in behind) < sum(k["bytes"] for k in begun) / 10
    assert testbed.summary["bytes"]["moves"] == sum(k["bytes"] for k in (*ahead, *behind))


@CHAT
def test_who_stands_by_keeps_up_with_what_is_said(testbed):
    """In the background: each takes what is behind its rows, once; who serves what takes nothing of it."""
    testbed.assert_valid()
    ends = {}
    for kept in (k for k in testbed.journal("kv") if k["phase"] == "replica" and not k["why"]):
        key = kept["node"], kept["session"], tuple(kept["blocks"]), kept["source"]
        assert kept["tokens"][0] in {0, ends.get(key, kept["tokens"][0])}
        ends[key] = kept["tokens"][1]
    assert {node for node, *_ in ends} == {"edge1", "mec"}
    last = {
        s["session"]: max(r["position"] for r in rounds_of(testbed, s["session"])) for s in testbed.journal("session")
    }
    near = [end >= last[session] - 8 for (node, session, _, _), end in ends.items() if node == "mec"]
    assert sum(near) > len(near) / 2


@CHAT
def test_it_goes_on_within_a_second_after_a_server_was_found_lost(testbed):
    testbed.assert_valid()
    [down] = testbed.journal("event")
    found = next(d for d in testbed.journal("decision") if any(t["kind"] == "node_down" for t in d["triggers"]))
    assert not any(s["replays"] for s in testbed.journal("session"))
    [session] = [s for s in testbed.journal("session") if s["resumes"]]
    assert session["resumes"] == 1
    failed = [r for r in testbed.journal("request") if r["outcome"] == "failed"]
    assert {(r["session"], r["error"]) for r in failed} == {(session["session"], "PEER_LOST")}
    mine = rounds_of(testbed, session["session"])
    assert any(r["outcome"] == "ok" and r["done_us"] < down["applied_us"] for r in mine)
    resumed = min(r["done_us"] for r in mine if r["outcome"] == "ok" and r["token"] == failed[0]["token"])
    assert down["applied_us"] < found["t_us"] < resumed < found["t_us"] + SECOND
    [again] = [r for r in mine if r.get("resumed")]  # from what the other server has: a few tokens are said again to it
    assert again["token"] == failed[0]["token"] and 0 <= failed[0]["position"] - again["position"] <= 8
