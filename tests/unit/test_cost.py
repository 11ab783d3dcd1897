"""Predicted latency, memory and traffic against sums done by hand."""

import dataclasses

import numpy as np
import pytest

from controller.cost import UNREACHABLE_US, predict, traffic_bytes, wait_us
from controller.memory import memory_bytes
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream
from controller.table import runs, tabulate

MODEL = Model("m", (Block("a", 1_000_000_000, 100, 2_000_000, 7), Block("b", 3_000_000_000, 200, 1_000, 5)), 1_000_000)
PROBLEM = Problem(
    hosts=(
        Host("ue", "home", 10**9, 1000),
        Host("edge", "site", 100 * 10**9, 1000),
        Host("mec", "site", 1000 * 10**9, 1000),
    ),
    models={"m": MODEL},
    streams=(Stream("s", "m", "ue", 10**12),),  # so rare that it never waits for itself
    sla=Sla(95, 100_000, 5_000_000),
    hop_overhead_us=1000,
)


def snapshot(**changes):
    up = NodeState(True, 0, 0)
    plain = Snapshot(
        0, (up, up, up), np.array([[0, 5000, 7000], [5000, 0, 2000], [7000, 2000, 0]]), np.full((3, 3), 80_000_000)
    )
    return dataclasses.replace(plain, **changes)


def test_runs_are_contiguous():
    assert runs((1, 1, 0, 1)) == ((0, 2, 1), (2, 3, 0), (3, 4, 1))


def test_latency_broken_up_by_hand():
    latency = predict(tabulate(PROBLEM), snapshot(), {"s": (1, 2)})["s"]
    assert latency.compute_us == 10_000 + 3_000
    assert latency.transfer_us == 100_000 + 200_000 + 100 + 3 * 1000
    assert latency.propagation_us == 5000 + 2000 + 7000
    assert latency.queue_us == 0


def test_hops_between_equal_nodes_are_free():
    latency = predict(tabulate(PROBLEM), snapshot(), {"s": (0, 0)})["s"]
    assert (latency.transfer_us, latency.propagation_us, latency.compute_us) == (0, 0, 4_000_000)


def test_load_slows_and_backlog_waits():
    nodes = (NodeState(True, 0, 0), NodeState(True, 500_000, 4000), NodeState(True, 0, 0))
    latency = predict(tabulate(PROBLEM), snapshot(nodes=nodes), {"s": (1, 1)})["s"]
    assert (latency.compute_us, latency.queue_us) == (80_000, 4000)


def test_steady_wait_is_that_of_md1_and_keeps_rising_when_full():
    assert wait_us(np.array(0.5), np.array(0.5 * 1000)) == pytest.approx(500)  # rho S / 2(1 - rho)
    many, square = np.linspace(0, 0.9, 5_000), np.linspace(0, 9e4, 5_000)
    for rho in (many, many + 0.2):  # of many at once without a full node the same is reckoned in fewer passes
        assert wait_us(rho, square).tolist() == [float(wait_us(*one)) for one in zip(rho, square, strict=True)]
    steps = wait_us(np.linspace(0, 3, 301), np.linspace(0, 3, 301) * 1000)
    assert (np.diff(steps) > 0).all() and np.isfinite(steps).all()


def test_streams_on_one_node_wait_for_each_other():
    two = (Stream("s", "m", "ue", 100_000), Stream("t", "m", "ue", 100_000))
    table = tabulate(dataclasses.replace(PROBLEM, streams=two))
    alone, shared = predict(table, snapshot(), {"s": (1, 1)}), predict(table, snapshot(), {"s": (1, 1), "t": (1, 1)})
    apart = predict(table, snapshot(), {"s": (1, 1), "t": (0, 0)})
    assert shared["s"].queue_us > alone["s"].queue_us == apart["s"].queue_us


@pytest.mark.parametrize("what", ["down", "no path"])
def test_what_cannot_be_reached_is_endless(what):
    up, rate = NodeState(True, 0, 0), np.full((3, 3), 80_000_000)
    rate[0, 1] = 0 if what == "no path" else rate[0, 1]
    scene = snapshot(nodes=(up, NodeState(what != "down", 0, 0), up), rate_bps=rate)
    assert predict(tabulate(PROBLEM), scene, {"s": (1, 1)})["s"].total_us >= UNREACHABLE_US


def test_memory_counts_a_block_once_and_working_bytes_for_each_run():
    two = (Stream("s", "m", "ue", 100_000), Stream("t", "m", "ue", 100_000))
    table = tabulate(dataclasses.replace(PROBLEM, streams=two))
    assert memory_bytes(table, {"s": (1, 1), "t": (0, 1)}).tolist() == [107, 100 + 200 + 7 + 5, 0]
    assert memory_bytes(table, {"s": (1, 1)}, held={"s": (1, 2)}).tolist() == [0, 307 + 7, 200 + 5]


def test_traffic_of_each_hop():
    sizes = traffic_bytes(tabulate(PROBLEM), {"s": (1, 2)})
    assert sizes == {("ue", "edge"): 1_000_000, ("edge", "mec"): 2_000_000, ("mec", "ue"): 1000}
    assert traffic_bytes(tabulate(PROBLEM), {"s": (0, 0)}) == {}


def test_privacy_holds_for_what_enters_and_for_what_is_made():
    zones = {"raw": frozenset({"home"})}
    allowed = tabulate(dataclasses.replace(PROBLEM, zones=zones)).chains["m"].allowed
    assert allowed.tolist() == [[True, False, False], [True, True, True]]
