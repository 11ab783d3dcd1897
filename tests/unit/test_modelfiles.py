"""The files of an experiment's models are made once, and found again without making them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.prepare import answering, answers
from testbed import modelfiles
from testbed.experiment import load_experiment


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """The families whose answers were computed, in order."""
    families: list[str] = []
    compute = answering.answered

    def counted(family, *words, **options):
        families.append(family)
        return compute(family, *words, **options)

    monkeypatch.setattr(answering, "answered", counted)
    return families


def test_the_same_question_is_answered_once(made, tmp_path) -> None:
    first, again = (answers.prepare("vit_tiny", 2, 0, tmp_path) for _ in range(2))
    assert first == again
    assert all(path.exists() for path in first)
    assert made == ["vit_tiny"]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_file_that_is_gone_is_made_again(gone, made, tmp_path) -> None:
    paths = answers.prepare("vit_tiny", 2, 0, tmp_path)
    before = [path.read_bytes() for path in paths]
    paths[gone].unlink()
    assert answers.prepare("vit_tiny", 2, 0, tmp_path) == paths
    assert [path.read_bytes() for path in paths] == before
    assert len(made) == 1 + gone


def test_another_question_has_another_file(made, tmp_path) -> None:
    paths = {answers.prepare("vit_tiny", count, seed, tmp_path)[1] for count in (1, 2) for seed in (0, 1)}
    assert len(paths) == len(made) == 4


def test_other_code_is_another_question(made, monkeypatch, tmp_path) -> None:
    before = answers.prepare("vit_tiny", 2, 0, tmp_path)[1]
    monkeypatch.setattr(answers, "_code", lambda: "other")
    assert answers.prepare("vit_tiny", 2, 0, tmp_path)[1] != before
    assert len(made) == 2


def test_what_is_there_is_found_without_torch(tmp_path) -> None:
    right = answers.prepare("vit_tiny", 2, 0, tmp_path)
    script = (
        "import sys; from pathlib import Path; from nodes.prepare import answers\n"
        f"print(answers.prepare('vit_tiny', 2, 0, Path({str(tmp_path)!r}))[1])\n"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.split() == [str(right[1]), "False"]


def test_an_experiment_gets_the_files_of_each_of_its_models(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    experiment = load_experiment(Path(__file__).with_name("small.yaml"))
    found = modelfiles.model_files(experiment)
    assert found.keys() == experiment.models.keys()
    assert all(Path(path).exists() for files in found.values() for path in (files.weights, files.answers))


def test_what_cannot_be_made_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    experiment = load_experiment(Path(__file__).with_name("small.yaml"))
    (tmp_path / "mec-testbed").mkdir()
    (tmp_path / "mec-testbed" / "models").write_text(json.dumps("a file where a folder should be"))
    with pytest.raises((modelfiles.NotMade, OSError), match="models"):
        modelfiles.model_files(experiment)
