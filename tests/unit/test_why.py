"""`testbed why`: the words, and that the coordinator records what they need."""

import json

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.journal import Journal
from testbed.report.why import NoDecision, decisions, detail, overview, pick
from tests.unit.journal_factory import a_run, written
from tests.unit.test_coordinator import SECOND, World, coordinator


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    world = World()
    loop = coordinator(world, tmp_path_factory.mktemp("ledger"))
    loop.begin(0)
    loop.run(10 * SECOND)
    world.load_ppm = 800_000
    loop.run(20 * SECOND)
    return [json.loads(json.dumps(record)) for record in world.records]


def test_a_decision_says_everything(records):
    text = "\n".join(detail(pick(decisions(records), None)))
    for part in (
        "decision 2 at 12.000 s: REMAP, epoch 2",
        "triggered  load edge: 0 % -> 80 %",
        "seen       edge: load 80 %, backlog 0.0 ms",
        "seen       ue -> mec: 4.0 ms, 1000.00 Mbit/s",
        "seen       s: 100.0 ms measured",
        "candidate  keep:",
        "lost: the gain of moving is worth its cost",
        "candidate  optimum:",
        "chosen",
        "s: mec[0-3]: compute 80.0 ms, queue",
        "propagation 8.0 ms",
        "moves 40.0 MB in",
        "% above the bound",
        "bound      no placement is below",
    ):
        assert part in text, part


def test_overview_has_a_line_a_decision(records):
    lines = list(overview(decisions(records)))
    assert len(lines) == 2 and "RESPLIT" in lines[0] and "load edge" in lines[1]


def test_picks(records):
    found = decisions(records)
    assert pick(found, 1)["n"] == 1
    with pytest.raises(NoDecision, match="no decision 9; there are 1 to 2"):
        pick(found, 9)
    with pytest.raises(NoDecision, match="holds no decision"):
        pick([], None)


def test_what_is_refused_or_unreachable_is_said(records):
    record = {**decisions(records)[0], "refused": "the policy raised ValueError", "lower_bound_us": 0, "gap": None}
    candidate = {**record["candidates"][0], "why_not": "no path", "move_bytes": 0}
    parts = dict.fromkeys(("compute_us", "queue_us", "transfer_us", "propagation_us", "total_us"), 10**12)
    text = "\n".join(
        detail({**record, "candidates": [{**candidate, "predicted": {"s": parts}, "nodes": {"s": ["ue"]}}]})
    )
    assert "refused    the policy raised" in text and "unreachable" in text and "bound" not in text


def call(*words):
    return CliRunner().invoke(app, ["why", *map(str, words)])


def test_command(tmp_path, records):
    folder = tmp_path / "run"
    with Journal(folder, "coordinator") as journal:
        for record in records:
            journal.record(**record)
    assert "decision 2 at" in call(folder).stdout and "RESPLIT" in call(folder).stdout
    assert call(folder, "--decision", 1).stdout.startswith("decision 1 at")
    assert json.loads(call(folder, "--decision", 2, "--json").stdout)["action"] == "REMAP"
    assert len(json.loads(call(folder, "--json").stdout)["decisions"]) == 2
    assert call(folder, "--decision", 7).exit_code == 2
    assert call(tmp_path / "none").exit_code == 2


def test_an_older_journal_is_shown_without_what_it_lacks(tmp_path):
    assert "decision 2 at" in call(written(tmp_path, a_run())).stdout
