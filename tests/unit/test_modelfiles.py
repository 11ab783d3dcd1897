"""The files of an experiment's models are made once, and found again without asking for them."""

import json
from pathlib import Path

import pytest

from testbed import modelfiles
from testbed.experiment import load_experiment


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """How often files were made; the makers write nothing but empty ones."""
    times: list[list[str]] = []

    def made(name, words):
        if "fails" in times:
            raise modelfiles.NotMade(f"the model {name} could not be made: no room")
        times.append(list(words))
        paths = {key: str(tmp_path / key) for key in ("weights_file", "answers_file")}
        for path in paths.values():
            open(path, "w").close()  # noqa: PTH123
        return paths | {"off_plain": 0.0}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mec-testbed" / "models").mkdir(parents=True)
    monkeypatch.setattr(modelfiles, "_made", made)
    return times


def found():
    return modelfiles.model_files(load_experiment(Path(__file__).with_name("small.yaml")))


def test_the_same_question_is_asked_once(asked) -> None:
    first, again = found(), found()
    assert first == again
    assert len(asked) == len(first)


def test_a_file_that_is_gone_is_made_again(asked, tmp_path) -> None:
    found()
    (tmp_path / "answers_file").unlink()
    found()
    assert len(asked) == 2


def test_other_code_is_another_question(asked, monkeypatch, tmp_path) -> None:
    found()
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "new.py").write_text("")
    monkeypatch.setattr(modelfiles, "NODES", tmp_path / "nodes")
    found()
    assert len(asked) == 2


def test_a_note_that_is_no_json_is_not_believed(asked, tmp_path) -> None:
    found()
    for note in (tmp_path / "mec-testbed" / "models").glob("found-*.json"):
        assert json.loads(note.read_text())
        note.write_text("{")
    assert found()
    assert len(asked) == 2
