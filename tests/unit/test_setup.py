"""The set-up: what it says, and that nothing is done twice."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "setup" / "setup.py"


@pytest.fixture
def setup(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("project_setup", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    return module


def test_what_a_command_prints_is_shown_only_when_it_fails(setup, capfd):
    setup.do("greeting", ["sh", "-c", "echo hello"])
    told = capfd.readouterr().out.splitlines()
    assert told == ["set-up: greeting ...", "set-up: greeting: done in 0 s"]
    with pytest.raises(setup.SetupFailed, match=r"(?s)greeting: `sh .*` ended with exit code 3:\nhello\nthere$"):
        setup.do("greeting", ["sh", "-c", "echo hello; echo there >&2; exit 3"])
    assert capfd.readouterr().out == "set-up: greeting ...\n"


def test_what_is_there_is_not_installed_again(setup, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(setup, "do", lambda what, command, env=None: asked.append(what))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    setup.set_up_venv()
    assert asked == ["virtual environment", "build tools", "locked Python packages", "torch", "the project itself"]
    asked.clear()
    setup.set_up_venv()
    assert asked == []
    (tmp_path / "project.stamp").write_text("another pyproject.toml")
    setup.set_up_venv()
    assert asked == ["the project itself"]


def test_an_ordinary_user_is_told_the_line_that_installs(setup, monkeypatch):
    monkeypatch.setattr(setup.packages, "missing", lambda present: [("one", "two"), ("bc",)])
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup, "installable", lambda names: names[0])
    with pytest.raises(setup.SetupFailed, match="sudo apt-get install --no-install-recommends one bc\n"):
        setup.set_up_packages()
