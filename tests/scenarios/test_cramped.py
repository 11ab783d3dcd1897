"""Two models on servers that hold a part of them each: both streams of the large one share its layers."""

from itertools import groupby

import pytest

MODELS = {"look1.ue1": "sight", "look2.ue2": "sight", "ask.ue3": "text"}


@pytest.mark.experiment("tests/scenarios/experiments/cramped.yaml")
def test_all_are_served_within_memory_and_near_to_the_optimum(testbed):
    testbed.assert_no_loss()
    (start,) = testbed.journal("decision")
    chosen = next(one for one in start["candidates"] if not one["why_not"])
    assert chosen["nodes"].keys() == MODELS.keys() and not start["refused"]
    assert chosen["nodes"]["look1.ue1"] == chosen["nodes"]["look2.ue2"]  # there is no room for it twice
    assert len([*groupby(chosen["nodes"]["look1.ue1"])]) == 2  # two servers, one hop: joint once took three
    assert start["gap"] < 0.05  # memory is in the bound
    testbed.assert_optimal(within="5%")
    assert testbed.summary["answers"] == {"checked": 0, "equal": 0, "relative_error": None}  # nothing is computed
    assert "0 / 48" not in (testbed.folder / "report.md").read_text()
