"""A town in which a model moves with its weights: every answer is right, and the same seed gives the same run again.

The second run has other programs beside it that keep every processor busy.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from nodes.costing.costs import costs
from testbed.scenario import ScenarioRun
from tests.scenarios.test_moves import epochs_ok

TOLERANCE = 0.005
BUSY_LIMIT_S = 240  # the loops end by themselves even if nobody ends them
LEAST_BUSY_S = 3.0
LOOP = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
TOWN = pytest.mark.experiment("experiments/town.yaml", sets=("weights=transfer",))
MODEL_BYTES = sum(block.weight_bytes for block in costs("vit_tiny"))


def phases(run: ScenarioRun, epoch: int) -> list[str]:
    """The phases of the move to an epoch, each once, in order."""
    return list(dict.fromkeys(move["phase"] for move in run.journal("move") if move["epoch"] == epoch))


@TOWN
def test_weights_travel_over_the_network(testbed, history_is_right):
    history_is_right(testbed)
    testbed.assert_no_loss()
    assert testbed.summary["moves"] == {"count": 1, "aborted": 0}
    assert testbed.summary["bytes"]["moves"] == MODEL_BYTES
    assert testbed.summary["links"]["mec"]["down"]["tx_bytes"] > MODEL_BYTES
    assert testbed.summary["links"]["edge1"]["up"]["tx_bytes"] > MODEL_BYTES
    assert phases(testbed, 2) == ["prepare", "commit", "switch", "drain", "release", "done"]


@TOWN
def test_answers_are_right_before_during_and_after_a_move(testbed):
    testbed.assert_right()
    move = [record["t_us"] for record in testbed.journal("move") if record["epoch"] == 2]
    requests = testbed.journal("request")
    assert [r for r in requests if r["done_us"] < move[0]]
    assert [r for r in requests if r["sent_us"] <= move[-1] and r["done_us"] >= move[0]]
    assert [r for r in requests if r["sent_us"] > move[-1]]
    assert testbed.summary["answers"]["equal"] == testbed.summary["requests"]["sent"]
    assert epochs_ok(testbed) == [1, 2]


@contextmanager
def busy_processors() -> Iterator[list[psutil.Process]]:
    """A busy loop on each processor."""
    loops = []
    try:
        for cpu in sorted(os.sched_getaffinity(0)):
            loops.append(subprocess.Popen([sys.executable, "-c", LOOP, str(BUSY_LIMIT_S)]))
            os.sched_setaffinity(loops[-1].pid, {cpu})
        yield [psutil.Process(loop.pid) for loop in loops]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.fixture(scope="module")
def again(emulate) -> ScenarioRun:
    """The town once more, with busy loops on the same processors."""
    with busy_processors() as loops:
        done = emulate("town.yaml", "town-again", sets=("weights=transfer",))
        assert all(loop.cpu_times().user > LEAST_BUSY_S for loop in loops), "the processors were not kept busy"
    return done


def percentiles(summary: dict[str, Any]) -> dict[str, float | None]:
    """Every latency percentile of a summary by where it stands."""
    parts = {"all": summary["latency_ms"], "last 30 s": summary["last_30s"]}
    parts |= {stream: held for stream, held in summary["streams"].items()}
    parts |= {
        f"{event['text']} {phase}": event[phase]
        for event in summary["events"]
        for phase in ("before", "during", "after")
    }
    return {f"{where} {name}": held[name] for where, held in parts.items() for name in ("p50", "p95", "p99")}


def decided(run: ScenarioRun) -> list[tuple[str, Any]]:
    """What was decided, in order: the action and the placement it chose."""
    return [
        (decision["action"], next((c["nodes"] for c in decision["candidates"] if not c["why_not"]), None))
        for decision in run.journal("decision")
    ]


@TOWN
def test_latencies_are_the_same(testbed, again):
    testbed.assert_valid()
    again.assert_valid()
    first, second = percentiles(testbed.summary), percentiles(again.summary)
    assert first.keys() == second.keys()
    off = {
        where: (ms, second[where])
        for where, ms in first.items()
        if (ms is None) != (second[where] is None) or (ms and abs(second[where] / ms - 1) > TOLERANCE)
    }
    assert not off


@TOWN
def test_decisions_are_the_same(testbed, again):
    actions = [action for action, _ in decided(testbed)]
    assert {"REMAP", "RESPLIT"} & set(actions[1:]), "nothing moved: the comparison says little"
    assert decided(testbed) == decided(again)


@TOWN
def test_requests_and_bytes_are_the_same(testbed, again):
    for key in ("requests", "moves", "bytes", "answers"):
        assert testbed.summary[key] == again.summary[key]
