"""What the agents' own stream gets out of a link: tensors of 605 KB, more of them than the link carries."""

import pytest

GOODPUT = pytest.mark.experiment("experiments/goodput.yaml")
RATES_BPS = {"slow.ue1": 10_000_000, "middle.ue2": 50_000_000, "fast.ue3": 100_000_000}
TENSOR_BYTES = 197 * 768 * 4
SHARE = 0.9  # of the rate that netem shapes frames to, headers of Ethernet, IP and TCP included


def arrivals(run, stream: str) -> list[int]:
    """When each tensor was whole at the server, in order."""
    spans = [s for r in run.journal("request") if r["stream"] == stream for s in r["spans"]]
    first = [s for s in spans if s["kind"] == "network" and s["step"] == 1]
    assert {s["size_bytes"] for s in first} == {TENSOR_BYTES}
    return sorted(s["end_us"] for s in first)


@GOODPUT
@pytest.mark.parametrize("stream", RATES_BPS)
def test_a_stream_gets_what_its_link_carries(testbed, stream):
    testbed.assert_valid()
    at_us = arrivals(testbed, stream)
    assert len(at_us) > 15
    goodput_bps = (len(at_us) - 1) * TENSOR_BYTES * 8e6 / (at_us[-1] - at_us[0])
    print(f"{stream}: {goodput_bps / RATES_BPS[stream]:.3f} of the rate")
    assert goodput_bps > SHARE * RATES_BPS[stream]


@GOODPUT
def test_nothing_is_lost_on_links_that_are_full(testbed):
    testbed.assert_no_loss()
    assert testbed.summary["requests"]["failed"] == 0
