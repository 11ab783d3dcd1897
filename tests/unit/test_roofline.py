"""The controller's time of a block: by its arithmetic or by its bytes, whichever takes longer."""

from dataclasses import replace

import numpy as np
import pytest

from controller.cost import Forecast, predict
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream
from controller.policies.joint import Joint
from controller.table import tabulate

FAST, WIDE = Host("fast", "site", 4 * 10**12, 10**10, 10**11), Host("wide", "site", 10**12, 10**10, 10**12)
PROBLEM = Problem(
    hosts=(Host("ue", "home", 10**9, 10**9, 10**9), FAST, WIDE),
    models={"m": Model("m", (Block("heavy", 4 * 10**9, 0, 10), Block("big", 10**6, 0, 10, read_bytes=10**9)), 10)},
    streams=(Stream("s", "m", "ue", 10**7),),
    sla=Sla(95, 10**6, 10**6),
)


def seen(load_ppm: int = 0) -> Snapshot:
    nodes = (NodeState(True, 0, 0), NodeState(True, load_ppm, 0), NodeState(True, load_ppm, 0))
    delay = np.full((3, 3), 100)
    np.fill_diagonal(delay, 0)
    return Snapshot(0, nodes, delay, np.full((3, 3), 10**9))


@pytest.mark.parametrize("load_ppm", [0, 500_000])
def test_each_block_takes_the_longer_of_the_two(load_ppm: int) -> None:
    table, share = tabulate(PROBLEM), 1 - load_ppm / 1e6
    times = {row: predict(table, seen(load_ppm), {"s": row})["s"].compute_us for row in ((1, 1), (2, 2), (1, 2))}
    assert times[1, 1] == round((1000 + 10_000) / share)  # 4 GFLOP at 4 TFLOP/s, 1 GB at 100 GB/s
    assert times[2, 2] == round((4000 + 1000) / share)
    assert times[1, 2] == round((1000 + 1000) / share)


def test_joint_splits_what_is_heavy_from_what_is_big() -> None:
    placed = Joint(PROBLEM, {}).start(seen()).placement.nodes["s"]
    assert placed == ("fast", "wide")


def test_a_host_of_unknown_bandwidth_has_no_such_limit() -> None:
    hosts = tuple(replace(host, memory_bytes_per_s=0) for host in PROBLEM.hosts)
    forecast = Forecast(tabulate(replace(PROBLEM, hosts=hosts)), seen())
    assert forecast.use("s", (1, 1)) != Forecast(tabulate(PROBLEM), seen()).use("s", (1, 1))
    assert predict(tabulate(replace(PROBLEM, hosts=hosts)), seen(), {"s": (1, 1)})["s"].compute_us == 1000
