"""Two phones drive through six cells: each handover takes as long as was asked, and no request is left unexplained."""

import re
from pathlib import Path

import pytest

from testbed.plan import from_json
from testbed.scenario import ScenarioRun

DRIVING = Path(__file__).resolve().parents[2] / "topologies" / "driving.yaml"
MS = 1000
CORE_US = 2 * (3 * 500 + 1000)  # there and back between the base station that is furthest from the server and it
REROUTED_US = 6 * MS  # Open vSwitch looks through what its datapath holds at most once in 5 ms


@pytest.fixture(scope="module")
def driven(emulate) -> ScenarioRun:
    return emulate(DRIVING, "driving")


@pytest.fixture(scope="module")
def handovers(driven) -> list[dict]:
    driven.assert_valid()
    return driven.journal("handover")


def test_every_handover_happens(driven, handovers):
    assert len(handovers) == driven.summary["handovers"]["count"] == 10
    planned = {event["text"] for event in driven.journal("run")[0]["events"]}
    assert {f"{h['phone']}: handover {h['from']} to {h['to']}" for h in handovers} == planned
    assert driven.summary["virtual_s"] >= 30


def test_the_phone_is_away_for_as_long_as_was_asked(handovers):
    assert {h["interruption_us"] for h in handovers} == {30 * MS, 50 * MS}
    off = [h for h in handovers if abs(h["measured_us"] / h["interruption_us"] - 1) > 0.1]
    assert not off
    late_us = [h["attached_us"] - h["asked_us"] - h["interruption_us"] for h in handovers]
    late_us += [h["detached_us"] - h["asked_us"] for h in handovers]
    assert not [us for us in late_us if not 0 <= us < 2 * MS]


def test_the_network_finds_the_phone_at_once(handovers):
    """The answers that are missing are those of the core's round trip, and of the flows' change."""
    silent = [h["silent_us"] - h["measured_us"] for h in handovers]
    assert 0 < max(silent) <= CORE_US + REROUTED_US
    assert all(h["lost_probes"] >= 45 for h in handovers)  # of the 50 in an interruption


def test_the_sdn_application_follows(driven, handovers):
    """Each phone is forgotten at one switch and found at the next; flows are replaced, not added to."""
    plan = from_json(driven.artifact("plan.json").read_text())
    dpids = {switch.name: switch.dpid for switch in plan.switches}
    reports = [record for record in driven.journal("linkstate") if record["t_us"] > 0]
    changes = [change for record in reports for change in record["changes"]]
    for phone in (host for host in plan.hosts if host.kind == "phone"):
        own = [change for change in changes if phone.mac in change]
        found = [re.search(r"found .* at (\d+):", change) for change in own]
        targets = [dpids[h["to"]] for h in handovers if h["phone"] == phone.name]
        assert [int(place[1]) for place in found if place] == targets
        assert sum("forgotten" in change for change in own) == len(targets) == 5
    assert len({record["flows"] for record in reports}) == 1


def test_every_request_is_answered_or_fails_by_name(driven, history_is_right):
    history_is_right(driven)
    driven.assert_no_loss()
    requests = driven.journal("request")
    assert len(requests) == driven.summary["requests"]["sent"] > 100
    assert all(request["error"] for request in requests if request["outcome"] == "failed")


def test_requests_survive_a_handover(driven, handovers):
    """TCP sends again what was lost: a request that meets a handover comes late, not never."""
    met = [
        request
        for request in driven.journal("request")
        for h in handovers
        if request["stream"] == f"cam.{h['phone']}"
        and h["detached_us"] - 20 * MS <= request["sent_us"] <= h["attached_us"]
    ]
    assert met
    assert any(request["outcome"] == "ok" and request["done_us"] - request["sent_us"] > 80 * MS for request in met)


def test_the_report_tells(driven):
    report = driven.artifact("report.md").read_text()
    assert "## Handovers (ms): asked / measured / silent" in report
    assert "5.36 s: ue1 bs1 to bs2" in report
