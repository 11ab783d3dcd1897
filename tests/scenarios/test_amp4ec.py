"""Paper 001 end to end: real requests of MobileNetV2 on its cluster, with its policy, its cache and its deployer.

Bursts on four, three and two servers beside the whole model on one (docs/amp4ec.md has the figures of runs of their
own, benchmarks/cluster.py), and an edge server that goes and comes under a steady load.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pytest

from benchmarks.cluster import SERVERS
from controller.amp4ec.scheduler import balance
from nodes.costing.profile import profile
from testbed.percentile import percentile

BURSTS = {"four": 4, "three": 3, "two": 2, "one": 1}  # servers that are left
REQUESTS, INPUTS = 64, 8
STRONGEST_PER_S = 50e9 / sum(unit.flops for unit in profile("mobilenet_v2").units)  # of edge1, without any network
FEWER = pytest.mark.experiment("experiments/amp4ec-fewer.yaml")
NODES = pytest.mark.experiment("experiments/amp4ec-nodes.yaml")
DOWN_US, UP_US = 3_300_000, 6_900_000


@dataclass(frozen=True)
class Burst:
    answered_per_s: float  # from the first request to the last answer
    p95_ms: float
    busy_us: dict[str, int]  # computing, by server

    @classmethod
    def of(cls, run, name):
        asked = [r for r in run.journal("request") if r["stream"].startswith(name) and r["outcome"] == "ok"]
        busy = Counter()
        for span in (s for r in asked for s in r["spans"] if s["kind"] == "compute"):
            busy[span["node"]] += span["end_us"] - span["start_us"]
        took_us = max(r["done_us"] for r in asked) - min(r["sent_us"] for r in asked)
        p95_us = percentile([r["done_us"] - r["sent_us"] for r in asked], 95)
        return cls(len(asked) * 1e6 / took_us, p95_us / 1000, dict(busy))


def answered_on(run, epoch):
    """The servers that computed requests of an epoch."""
    ok = [r for r in run.journal("request") if r["outcome"] == "ok" and r["epoch"] == epoch]
    return {span["node"] for r in ok for span in r["spans"] if span["kind"] == "compute"}


@FEWER
def test_every_answer_of_the_bursts_is_right(testbed, history_is_right):
    history_is_right(testbed)
    testbed.assert_no_loss()
    testbed.assert_right()
    asked = REQUESTS * len(BURSTS)
    assert testbed.summary["answers"] == {**testbed.summary["answers"], "checked": asked, "equal": asked}
    assert testbed.summary["requests"]["ok"] == asked


@FEWER
@pytest.mark.parametrize(("name", "servers"), BURSTS.items())
def test_a_burst_is_answered_by_the_servers_that_are_left(testbed, name, servers):
    testbed.assert_valid()
    epochs = {r["epoch"] for r in testbed.journal("request") if r["stream"].startswith(name)}
    assert len(epochs) == 1
    assert answered_on(testbed, *epochs) == set(SERVERS[:servers])


@FEWER
def test_more_servers_answer_more_than_the_strongest_alone_could(testbed):
    testbed.assert_valid()
    found = {name: Burst.of(testbed, name) for name in BURSTS}
    print(found)
    assert found["one"].answered_per_s < STRONGEST_PER_S
    for name in ("two", "three", "four"):
        assert found[name].answered_per_s > STRONGEST_PER_S
        assert found[name].p95_ms < found["one"].p95_ms
        assert 0.7 < balance([found[name].busy_us[server] for server in SERVERS[: BURSTS[name]]]) <= 1


@NODES
def test_what_the_phone_keeps_crosses_no_network_and_is_compared_too(testbed):
    testbed.assert_right()
    requests = testbed.journal("request")
    hits = [r for r in requests if r.get("cached")]  # one that failed does not say
    lookups = sum(r["stream"] == "kept.ue1" for r in requests)
    assert testbed.summary["cache"] == {"hits": len(hits), "lookups": lookups, "ratio": len(hits) / lookups}
    assert len(hits) >= lookups // 2
    assert all(r["checked"] and r["equal"] and not r["spans"] for r in hits)
    assert max(r["done_us"] - r["sent_us"] for r in hits) < 1000
    asked = [r for r in requests if not r.get("cached")]
    assert testbed.summary["bytes"]["data"] == sum(
        s["size_bytes"] for r in asked for s in r["spans"] if s["kind"] == "network"
    )


@NODES
def test_a_server_that_goes_or_comes_is_noticed_within_two_seconds(testbed, history_is_right):
    history_is_right(testbed)
    events = {event["what"]: event["applied_us"] for event in testbed.journal("event")}
    assert set(events) == {"node_down", "node_up"}
    for what, at_us in events.items():
        named = [
            decision["t_us"]
            for decision in testbed.journal("decision")
            if any((t["kind"], t["subject"]) == (what, "edge2") for t in decision["triggers"])
        ]
        assert named, what
        print(f"{what}: noticed after {(named[0] - at_us) / 1e6:.3f} s")
        assert at_us <= named[0] <= at_us + 2_000_000


@NODES
def test_service_goes_on_without_it_and_comes_back_to_it(testbed):
    testbed.assert_no_loss()
    assert testbed.summary["moves"] == {"count": 2, "aborted": 0}
    assert "edge2" in answered_on(testbed, 1)
    assert answered_on(testbed, 2) == {"edge1", "edge3"}
    assert "edge2" in answered_on(testbed, 3)
    failed = [r for r in testbed.journal("request") if r["outcome"] == "failed"]
    assert {r["error"] for r in failed} <= {"DEADLINE", "PEER_LOST", "UNKNOWN_SLICE"}
    assert all(DOWN_US - 200_000 < r["sent_us"] < DOWN_US + 2_000_000 for r in failed)
    sent = sorted(r["sent_us"] for r in testbed.journal("request") if r["outcome"] == "ok" and r["spans"])
    assert max(b - a for a, b in pairwise(sent)) < 1_200_000


@NODES
def test_what_the_phone_keeps_outlasts_the_servers(testbed):
    kept = [r for r in testbed.journal("request") if r["stream"] == "kept.ue1"]
    assert [r["cached"] for r in kept] == [False] * INPUTS + [True] * (len(kept) - INPUTS)
    assert all(r["outcome"] == "ok" and r["equal"] for r in kept)


@NODES
def test_optimised_slices_answer_as_the_unsplit_optimised_model(testbed):
    testbed.assert_right()
    told = testbed.summary["optimised"]
    assert told["net"] == {"level": "torchscript", "off_plain": 0.0}
    assert told["kept"]["level"] == "int8" and 0 < told["kept"]["off_plain"] < 0.05


@NODES
def test_the_deployer_says_what_it_put_where_and_took_away(testbed):
    moves = testbed.journal("move")
    put = {
        tuple(m["slice"][key] for key in ("node", "model", "first", "last")): m
        for m in moves
        if m["phase"] == "prepare"
    }
    taken = {
        tuple(m["slice"][key] for key in ("node", "model", "first", "last")): m
        for m in moves
        if m["phase"] == "release" and m["slice"]
    }
    assert taken and set(taken) <= set(put)
    assert all(len(m["digest"]) == 64 for m in put.values())
    digests = {}
    for (_, model, first, last), m in put.items():  # the same slice is the same wherever it lies
        assert digests.setdefault((model, first, last), m["digest"]) == m["digest"]
