"""A module of somebody's own on emulated nodes, as the example has it: the radio gets slow, its first units move."""

import pytest

OWN = pytest.mark.experiment("examples/own_model.yaml")


@OWN
def test_it_is_cut_and_moved_and_answers_with_its_own_bits(testbed):
    testbed.assert_valid()
    testbed.assert_no_loss()
    testbed.assert_recovers(within="10s")
    answers, requests = testbed.summary["answers"], testbed.summary["requests"]
    assert answers["checked"] == answers["equal"] == requests["sent"] == 64
    assert testbed.summary["moves"]["count"] == 1
    last = testbed.journal("request")[-1]
    computed = {span["node"] for span in last["spans"] if span["kind"] == "compute"}
    assert computed == {"ue1", "edge1"}
