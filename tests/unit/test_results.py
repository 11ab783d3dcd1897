"""What a run leaves when it has ended: results, whatever becomes of the proofs of its decisions."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.progress import Lines
from testbed.run import results
from tests.unit.journal_factory import a_run, written

PROVE = "testbed.proof.finished.prove_worst"
MINIMAL = Path(__file__).parents[2] / "topologies" / "minimal.yaml"


@pytest.fixture
def asked(monkeypatch):
    """The run folders whose decisions were to be proven."""
    asked = []
    monkeypatch.setattr(PROVE, lambda folder, watcher: asked.append(folder))
    return asked


@pytest.mark.parametrize("prove", [True, False])
def test_decisions_are_proven_unless_it_is_not_wanted(tmp_path, asked, prove):
    folder, said = written(tmp_path, a_run()), []
    summary = results(folder, Lines(said.append), prove=prove)
    assert asked == [folder] * prove and said == ["results"]
    assert summary["decision_gap"]["count"] == 2 and (folder / "report.md").exists()


def test_results_are_there_when_a_proof_is_broken_off(tmp_path, monkeypatch):
    def interrupted(folder, watcher):
        raise KeyboardInterrupt

    monkeypatch.setattr(PROVE, interrupted)
    folder = written(tmp_path, a_run())
    with pytest.raises(KeyboardInterrupt):
        results(folder, Lines(print), prove=True)
    assert (folder / "summary.json").exists() and (folder / "report.md").exists()


@pytest.mark.parametrize(("words", "prove"), [((), True), (("--no-prove",), False)])
def test_the_command_says_whether_they_are(tmp_path, monkeypatch, words, prove):
    told = []

    def ended(path, options, progress):
        told.append(options.prove)
        return SimpleNamespace(folder=tmp_path, summary={"policy": "joint"})

    monkeypatch.setattr("testbed.run.run", ended)
    found = CliRunner().invoke(app, ["run", str(MINIMAL), "--json", *words])
    assert found.exit_code == 0 and told == [prove]
