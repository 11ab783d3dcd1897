"""`testbed repeat`: what it refuses, and what it says. The guest is left out; the scenario suite has it."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.journal import merge, read
from testbed.plan import to_json
from testbed.report import summary_of
from testbed.scenario import ScenarioFailed, ScenarioRun
from tests.unit.journal_factory import a_run, written
from tests.unit.test_compile import compiled


@pytest.fixture
def folder(tmp_path):
    """A run that is over, with a plan that names no files which are gone."""
    found = written(tmp_path / "before", a_run())
    (found / "plan.json").write_text(plan_of(tmp_path))
    return found


def plan_of(tmp_path, clock="virtual"):
    (tmp_path / "weights").touch()
    plan = json.loads(to_json(compiled("small")))
    models = [model | {"weights_file": str(tmp_path / "weights"), "answers_file": ""} for model in plan["models"]]
    return json.dumps(plan | {"models": models, "clock": clock})


@pytest.fixture
def again(monkeypatch):
    """What the run comes out as this time: the records of the folder are given over by a function."""
    changes = [lambda records: records]

    def carry_out(_kernel, _plan, new, options, _progress):
        assert (options.clock, options.prove) == ("virtual", False)
        written(new, changes[0](a_run()))
        return SimpleNamespace(folder=new, summary=summary_of(new))

    monkeypatch.setattr("testbed.repeat.carry_out", carry_out)
    monkeypatch.setattr("testbed.repeat.kernel_of", lambda options: None)
    return changes


def repeat(*words):
    return CliRunner().invoke(app, ["repeat", *map(str, words)])


def test_a_run_that_comes_out_the_same_says_so(folder, again, tmp_path):
    (folder / "experiment.yaml").write_text("name: it\n")
    done = repeat(folder, "--out", tmp_path / "now")
    assert done.exit_code == 0
    assert "the same to the bit: fingerprint " in done.stdout
    assert (tmp_path / "now" / "experiment.yaml").read_text() == "name: it\n"


def test_another_outcome_is_exit_code_1_with_the_place_and_what_was_installed_since(folder, again, tmp_path):
    def other(records):
        request = next(record for record in records if record["kind"] == "request")
        request["done_us"] += 1
        run = next(record for record in records if record["kind"] == "run")
        run["versions"] = run["versions"] | {"torch": "9"}
        return records

    again[0] = other
    done = repeat(folder, "--out", tmp_path / "now")
    assert done.exit_code == 1
    assert "not the same: from 0." in done.stdout and "request.done_us was" in done.stdout
    assert "torch was " in done.stdout and " and is 9" in done.stdout
    told = json.loads(repeat(folder, "--out", tmp_path / "json", "--json").stdout)
    assert told["same"] is False and told["difference"]["records"] == 1 and told["versions"]["torch"][1] == "9"


def test_a_policy_of_ones_own_that_was_changed_is_named(folder, again, tmp_path):
    (folder / "policy.py").write_text("class Mine: ...\n")

    def other(records):
        (tmp_path / "now" / "policy.py").write_text("class Mine: pass\n")
        return records[1:]

    again[0] = other
    assert "policy.py was as in the run folder and is another text" in repeat(folder, "--out", tmp_path / "now").stdout


def test_what_was_there_stays_as_it_is(folder, again, tmp_path):
    before = list(read(merge(folder)))
    repeat(folder, "--out", tmp_path / "now")
    assert list(read(merge(folder))) == before


def asserted(folder):
    ScenarioRun(folder, summary_of(folder)).assert_repeats()


def test_a_scenario_test_can_ask_for_it(folder, again):
    asserted(folder)
    asserted(folder)  # each time in a folder of its own
    again[0] = lambda records: records[1:]
    with pytest.raises(ScenarioFailed, match=r"the run does not repeat: from .* was, and .* is; .* records are others"):
        asserted(folder)


def test_a_scenario_test_on_the_real_clock_is_told_that_nothing_repeats_there(folder, again, tmp_path):
    (folder / "plan.json").write_text(plan_of(tmp_path, "real"))
    with pytest.raises(ScenarioFailed, match=r"cannot be repeated: .* on the real clock"):
        asserted(folder)


def refused(folder):
    done = repeat(folder)
    assert done.exit_code == 2
    return done.stderr


def test_no_run_folder_is_wrong_input_and_stays_as_it_is(tmp_path, again):
    assert "no run folder" in refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [lambda plan: plan.pop("links"), lambda plan: plan.update(new=1)])
def test_a_plan_of_another_version_is_wrong_input(folder, again, change):
    plan = json.loads((folder / "plan.json").read_text())
    change(plan)
    (folder / "plan.json").write_text(json.dumps(plan))
    assert "of another version of the testbed" in refused(folder)


def test_a_run_without_its_plan_is_wrong_input(folder, again):
    (folder / "plan.json").unlink()
    assert "its plan cannot be read" in refused(folder)


def test_the_real_clock_is_wrong_input(folder, again, tmp_path):
    (folder / "plan.json").write_text(plan_of(tmp_path, "real"))
    assert "on the real clock" in refused(folder)


def test_a_run_without_an_end_is_wrong_input(tmp_path, again):
    broken = written(tmp_path / "broken", [record for record in a_run() if record["kind"] != "end"])
    (broken / "plan.json").write_text(plan_of(tmp_path))
    assert "did not come to its end" in refused(broken)


def test_a_model_that_left_the_cache_is_wrong_input(folder, again, tmp_path):
    (tmp_path / "weights").unlink()
    assert "is gone; run the experiment anew" in refused(folder)
