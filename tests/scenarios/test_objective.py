"""An objective of more than latency, end to end: decided by it, said in the journal, proven after the run."""

import pytest

SETS = ("policy.privacy_ms=5", "policy.reconfigure_ms=2", "policy.max_utilisation=0.6")


@pytest.mark.experiment("tests/scenarios/experiments/crowd.yaml", sets=SETS)
def test_what_counts_is_said_and_the_optimum_of_it_is_certain(testbed):
    testbed.assert_no_loss()
    start = testbed.journal("decision")[0]
    (chosen,) = start["candidates"]
    assert start["objective"] == {"privacy_us": 5_000, "reconfigure_us": 2_000, "max_utilisation": 0.6}
    assert chosen["beside_us"] == {"privacy": 5 * 5_000, "changing": 0}  # five phones' words leave their zone once
    latency_us = sum(parts["total_us"] for parts in chosen["predicted"].values())
    assert chosen["weighted_us"] == pytest.approx(latency_us + 25_000, abs=20)
    testbed.assert_optimal(within="1%")
