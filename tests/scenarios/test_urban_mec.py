"""The default experiment under both policies, side by side: the static placement breaks the service level and stays
broken, the joint one recovers."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any

import pytest

from testbed.plan import from_json
from testbed.scenario import ScenarioRun

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("testbed")
POLICIES = ("static", "joint")
PROCESSOR_LIMIT_S = 240  # of a run: the wall time on a machine with nothing else to do
HANGS_S = 600
CHANGE = "mec: rate 5Mbit, delay 40ms"


@pytest.fixture(scope="module")
def compared(new_folder) -> dict[str, Any]:
    """What `testbed compare` says, its run folders, and the processor time that it took."""
    parent = new_folder("urban-mec")
    command = [COMMAND, "compare", "topologies/urban-mec.yaml", "--policies", ",".join(POLICIES), "--json"]
    said, errors = parent / "said.json", parent / "progress.txt"
    began, before = monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with said.open("w") as output, errors.open("w") as log:
        process = subprocess.Popen([*command, "--out", parent / "runs"], stdout=output, stderr=log, cwd=ROOT)
    try:
        while process.poll() is None and monotonic() - began < HANGS_S:
            sleep(0.25)
    finally:
        process.kill()
        process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert process.returncode == 0, errors.read_text()[-3000:]
    return {"cpu_s": cpu_s, "said": json.loads(said.read_text()), "folder": parent / "runs"}


@pytest.fixture(params=POLICIES)
def either(request, compared) -> ScenarioRun:
    return _run(compared, request.param)


@pytest.fixture
def static(compared) -> ScenarioRun:
    return _run(compared, "static")


@pytest.fixture
def joint(compared) -> ScenarioRun:
    return _run(compared, "joint")


def _run(compared: dict[str, Any], policy: str) -> ScenarioRun:
    return ScenarioRun(compared["folder"] / policy, compared["said"]["policies"][policy])


def test_history_is_right(either, history_is_right):
    history_is_right(either)
    either.assert_no_loss()
    either.assert_right()


def test_every_request_is_accounted_for(either):
    counts, plan = either.summary["requests"], from_json(either.artifact("plan.json").read_text())
    planned = sum(len(stream.arrivals_us) for stream in plan.streams)
    assert counts["sent"] == counts["ok"] + counts["failed"] == planned > 200
    assert counts["lost"] == counts["duplicated"] == 0


def test_every_event_fired(either):
    assert len(either.summary["events"]) == 3
    assert CHANGE in [event["text"] for event in either.summary["events"]]


def test_static_breaks_the_service_level_and_stays_broken(static):
    static.assert_valid()
    assert static.summary["moves"]["count"] == 0
    assert static.summary["sla"]["violated_s"] > 60
    assert static.summary["sla"]["recovery_s"] is None


def test_links_between_switches_are_timed(either):
    """All are 1 ms and rest; the frame that times them waits in switches and sockets too."""
    reports = [report for report in either.journal("linkstate") if report["t_us"] > 5_000_000]
    told = [link["latency_us"] for report in reports for link in report["links"]]
    assert len(told) > 600
    assert max(abs(latency_us - 1000) for latency_us in told) < 250
    assert abs(median(told) - 1000) < 100


def test_joint_recovers(joint):
    joint.assert_recovers(within="10s")
    assert joint.summary["moves"]["count"] >= 1
    assert joint.summary["moves"]["aborted"] == 0


def test_joint_ends_at_least_twice_as_fast(static, joint):
    slow, fast = (run.summary["last_30s"]["p95"] for run in (static, joint))
    assert fast is not None
    assert slow is None or slow >= 2 * fast  # None: infinite, requests failed


def test_joint_ends_within_the_service_level(joint):
    joint.assert_sla(p95="250ms", last="30s")


def test_all_decisions_are_the_optimum_and_certain(joint):
    joint.assert_optimal()
    gaps = joint.summary["decision_gap"]
    assert gaps["count"] == gaps["certain"] == len(joint.journal("decision")) > 20


def test_a_run_is_quick(compared):
    """By processor time, which other programs change little."""
    assert compared["cpu_s"] / len(POLICIES) < PROCESSOR_LIMIT_S
