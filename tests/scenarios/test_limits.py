"""Compute that is limited, not modelled: the guest's own control groups, in real time.

A machine under load is slow, so nothing is said of times: the guest's kernel counts what it held back.
"""

import json

import pytest

from testbed.run import RunFailed
from testbed.scenario import ScenarioRun

MIB = 2**20


@pytest.fixture(scope="module")
def limited(emulate) -> ScenarioRun:
    return emulate("limited.yaml", "limited")


def test_what_is_limited_answers_as_the_unsplit_model(limited):
    requests, answers = limited.summary["requests"], limited.summary["answers"]
    assert requests == {"sent": 48, "ok": 48, "failed": 0, "lost": 0, "duplicated": 0}
    assert answers["equal"] == answers["checked"] == 48
    computed = {
        (r["stream"], s["node"]) for r in limited.journal("request") for s in r["spans"] if s["kind"] == "compute"
    }
    assert computed == {("fast.ue1", "fast"), ("slow.ue1", "slow")}


def test_the_kernel_holds_each_host_to_its_device(limited):
    """With half a tick more where it is less than a processor."""
    groups = limited.summary["groups"]
    held = {node: (group["quota_us"], group["period_us"], group["limit_bytes"]) for node, group in groups.items()}
    assert held == {
        "ue1": (103_000, 103_000, 4096 * MIB),
        "fast": (103_000, 103_000, 1024 * MIB),
        "slow": (46_200, 103_000, 512 * MIB),
    }
    assert all(group["killed"] == 0 < group["peak_bytes"] <= group["limit_bytes"] for group in groups.values())


def test_the_slower_device_is_held_back_for_the_same_work(limited):
    """Held to two fifths it stands still for half as long again as it runs, while there is work for it."""
    slow = limited.summary["groups"]["slow"]
    assert slow["throttled"] >= 3
    assert slow["throttled_us"] > slow["used_us"] / 4


def test_an_agent_that_needs_more_memory_than_its_group_may_use_is_killed_and_named(emulate):
    with pytest.raises(RunFailed) as told:
        emulate("limited.yaml", "starved", sets=("models.text.family=vit_tiny", "nodes.slow.memory=8MiB"))
    why = f"slow was killed for want of memory: its control group may use {8 * MIB} bytes"
    assert why in told.value.why
    folder = told.value.folder
    summary = json.loads((folder / "summary.json").read_text())
    faults = [fault for fault in ScenarioRun(folder, summary).journal("fault") if fault["what"] == "memory"]
    assert [fault["why"] for fault in faults] == [why]
    assert {node: group["killed"] for node, group in summary["groups"].items()} == {"ue1": 0, "fast": 0, "slow": 1}
