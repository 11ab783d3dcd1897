"""A town in which a model moves with its weights: every answer is right, and the same seed gives the same run.

To the bit, though the second run has other programs beside it that keep every processor busy; and a city of fifty
hosts, where one microsecond would decide who is first in a queue.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from nodes.costing.costs import costs
from testbed.fingerprint import first_difference
from testbed.report import summary_of
from testbed.scenario import ScenarioRun
from tests.scenarios.test_moves import epochs_ok

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


@TOWN
def test_every_record_is_the_same(testbed, again):
    """Requests, spans, probes, counters, decisions with their candidates: all but what the processor took."""
    testbed.assert_valid()
    again.assert_valid()
    assert first_difference(testbed.journal(), again.journal()) is None
    assert testbed.summary["fingerprint"] == again.summary["fingerprint"] is not None


@TOWN
def test_something_moved_so_that_the_comparison_says_something(testbed):
    assert {"REMAP", "RESPLIT"} & {decision["action"] for decision in testbed.journal("decision")[1:]}


@TOWN
def test_another_seed_is_another_run(testbed, emulate):
    other = emulate("town.yaml", "town-seed", sets=("weights=transfer",), seed=9)
    assert first_difference(testbed.journal(), other.journal())


@pytest.mark.experiment("../../topologies/city-50.yaml", sets=("duration=10s",))
def test_a_city_is_the_same_to_the_bit_from_its_own_plan(testbed):
    testbed.assert_repeats()
    folders = list(testbed.folder.parent.glob(f"{testbed.folder.name}-again-*"))
    assert [summary_of(folder)["fingerprint"] for folder in folders] == [testbed.summary["fingerprint"]]
