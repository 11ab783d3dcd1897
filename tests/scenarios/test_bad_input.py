"""Every bad experiment of the corpus ends the command with code 2, a file and a line, and starts nothing."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from time import process_time

import pytest
from typer.testing import CliRunner

import testbed.run
from testbed.cli import app

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
INDEX = json.loads((CORPUS / "index.json").read_text())
COMMAND = Path(sys.executable).with_name("testbed")
LIMIT_S = 2.0  # of processor time: the wall time on a machine with nothing else to do
HANGS_S = 60
AS_PROCESS = ("duplicate.yaml", "bomb.yaml", "bare.yaml", "trace_decreasing.yaml", "flood.yaml")


def test_the_corpus_is_big_enough():
    assert len(INDEX) >= 40
    assert set(AS_PROCESS) <= {case["file"] for case in INDEX}


@pytest.mark.parametrize("command", ["run", "validate"])
@pytest.mark.parametrize("case", INDEX, ids=lambda case: case["file"])
def test_is_refused_before_anything_starts(case, command, monkeypatch):
    def started(*_args, **_kwargs):
        raise AssertionError("a bad experiment was run")

    monkeypatch.setattr(testbed.run, "new_folder", started)
    monkeypatch.setattr(testbed.run, "run_guest", started)
    began = process_time()
    done = CliRunner().invoke(app, [command, str(CORPUS / case["file"])])
    took_s = process_time() - began
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert str(CORPUS / case["at"]) in done.stderr
    assert case["says"] in done.stderr
    assert "Traceback" not in done.output
    assert took_s < LIMIT_S


@pytest.mark.parametrize("name", AS_PROCESS)
def test_the_command_itself_answers_in_time(name, tmp_path):
    case = next(case for case in INDEX if case["file"] == name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [COMMAND, "run", CORPUS / name, "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=HANGS_S,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LIMIT_S
    assert done.returncode == 2
    assert str(CORPUS / case["at"]) in done.stderr
    assert "Traceback" not in done.stderr
    assert case["says"] in json.loads(done.stdout)["error"]
    assert list(tmp_path.iterdir()) == []  # no run folder
