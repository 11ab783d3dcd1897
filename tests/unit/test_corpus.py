"""Each bad experiment of tests/corpus is refused with the message and at the place its index says."""

import json
from pathlib import Path

import pytest

from testbed.experiment import ExperimentError, load_experiment

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
INDEX = json.loads((CORPUS / "index.json").read_text())


def _place(fault) -> str:
    path = Path(fault.path).relative_to(CORPUS)
    return f"{path}:{fault.line}" if fault.line else str(path)


@pytest.mark.parametrize("case", INDEX, ids=lambda case: case["file"])
def test_is_refused_with_place_and_reason(case):
    with pytest.raises(ExperimentError) as caught:
        load_experiment(CORPUS / case["file"])
    told = [(_place(fault), f"{fault.field}: {fault.why}") for fault in caught.value.faults]
    assert any(place == case["at"] and case["says"] in text for place, text in told), told
    assert case["says"] in str(caught.value)


def test_index_and_folder_agree():
    assert len(INDEX) >= 40
    assert sorted(case["file"] for case in INDEX) == sorted(path.name for path in CORPUS.glob("*.yaml"))
