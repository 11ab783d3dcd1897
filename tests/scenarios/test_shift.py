"""The controller itself moves heads: away from a path that gets long, and out of a zone that privacy closes.

`heads_plus` plans heads and columns of a model that speaks, over servers too slow to be alone; keys and values come
along, and every token is that of the unsplit model.
"""

from statistics import median

import pytest

from tests.scenarios.test_heads import SECOND, moved_over, speaks_as_the_unsplit_model

SHIFT = pytest.mark.experiment("tests/scenarios/experiments/shift.yaml")
PERIOD_US = 200_000


def happened(run, what):
    [event] = [event for event in run.journal("event") if event["what"] == what]
    return event["applied_us"]


def decided(run, epoch):
    [found] = [d for d in run.journal("decision") if d["epoch"] == epoch and d["action"] in {"REMAP", "RESPLIT"}]
    assert not found["refused"] and found["reason"].startswith("heads_plus by head")
    assert 0 <= found["gap"] < 0.1
    return found


def switched_us(run, epoch):
    return next(move["t_us"] for move in run.journal("move") if move["epoch"] == epoch and move["phase"] == "switch")


def last_part_us(run, node):
    """When the node last worked on a part of a layer."""
    return max(part["t_us"] for part in run.journal("part") if part["node"] == node)


@SHIFT
def test_no_token_is_another_lost_or_late(testbed, history_is_right):
    history_is_right(testbed)
    sessions = speaks_as_the_unsplit_model(testbed)
    assert len(sessions) == 2 and all(len(s["tokens"]) == 100 and s["replays"] == 0 for s in sessions)
    assert testbed.summary["requests"]["failed"] == testbed.summary["moves"]["aborted"] == 0


@SHIFT
def test_heads_leave_a_server_whose_path_gets_long_with_their_keys_and_values(testbed):
    testbed.assert_valid()
    slow_us, decision = happened(testbed, "link"), decided(testbed, 2)
    assert slow_us < decision["t_us"] <= slow_us + 3 * PERIOD_US
    assert {t["kind"] for t in decision["triggers"]} == {"link_latency"}
    assert all("edge3" in trigger["subject"] for trigger in decision["triggers"])
    parts = {part["part"] for part in testbed.journal("part") if part["t_us"] < slow_us}
    assert any(part.startswith("rows:") for part in parts) and any(part.startswith("mlp:") for part in parts)
    assert "sum" in parts and "proj" not in parts  # each head has its rows of the projection beside it
    assert {p["node"] for p in testbed.journal("part") if p["t_us"] < slow_us} == {"edge1", "edge2", "edge3"}
    pulled = [kv for kv in testbed.journal("kv") if kv["node"] == "edge4"]
    assert pulled and all(len(kv["heads"]) == 1 and kv["bytes"] and not kv["why"] for kv in pulled)
    assert moved_over(testbed) and last_part_us(testbed, "edge3") < switched_us(testbed, 2) + SECOND
    keep, chosen = (candidate["parts"]["talk.ue1"] for candidate in decision["candidates"])
    assert keep["kv_bytes"] == 0 < sum(kv["bytes"] for kv in pulled if kv["phase"] == "prepare") and chosen["kv_bytes"]
    rounds = [r for r in testbed.journal("request") if r["token"]]
    before = median(r["done_us"] - r["sent_us"] for r in rounds if r["done_us"] < slow_us)
    assert median(r["done_us"] - r["sent_us"] for r in rounds if r["sent_us"] > 9 * SECOND) < 1.25 * before


@SHIFT
def test_heads_leave_a_zone_that_privacy_closes_within_two_periods(testbed):
    testbed.assert_valid()
    closed_us, decision = happened(testbed, "privacy"), decided(testbed, 3)
    assert {t["kind"] for t in decision["triggers"]} == {"privacy"} and "not served" in decision["reason"]
    assert any(
        closed_us - SECOND < part["t_us"] < closed_us for part in testbed.journal("part") if part["node"] == "edge4"
    )
    assert closed_us < switched_us(testbed, 3) <= closed_us + 2 * PERIOD_US
    assert last_part_us(testbed, "edge4") < closed_us + 2 * PERIOD_US  # what was under way at the switch, nothing else
    after = [r for r in testbed.journal("request") if r["sent_us"] > switched_us(testbed, 3)]
    numbers = {r["id"] for r in after}
    assert not any(part["node"] == "edge4" for part in testbed.journal("part") if part["request"] in numbers)
    assert len(after) > 20 and all(r["epoch"] == 3 and r["outcome"] == "ok" for r in after)
    assert not any(span["node"] == "edge4" for r in after for span in r["spans"])
