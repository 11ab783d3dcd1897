"""`optimal` in the guest: SciPy is there, thinking takes no virtual time, each decision knows its optimum."""

import pytest

CROWD = "tests/scenarios/experiments/crowd.yaml"


def chosen(decision):
    return next(one for one in decision["candidates"] if not one["why_not"])


@pytest.mark.experiment(CROWD, policy="optimal")
def test_each_decision_is_the_optimum_and_knows_it(testbed):
    decisions = testbed.journal("decision")
    assert decisions and all(one["gap"] <= 1e-6 and not one["refused"] for one in decisions)
    assert min(request["sent_us"] for request in testbed.journal("request")) < 1_000_000
    testbed.assert_optimal(within="0.001%")


@pytest.mark.experiment(CROWD, policy="joint")
def test_joint_is_near_it_and_knows_less(testbed):
    first = testbed.journal("decision")[0]
    assert first["gap"] > 0.05 and "proof" not in first
    testbed.assert_optimal(within="1%")
