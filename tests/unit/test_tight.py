"""Which nodes' memory can't be too small, whatever is placed there: those are not looked at again."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from controller.memory import Loaded
from controller.model import Block, Host, Model, Problem, Sla, Stream
from controller.table import tabulate

HOSTS = 3


def asked(seed: int) -> Problem:
    """Two models of unlike blocks, which 1 to 40 streams ask for."""
    draw = Random(seed)

    def block(k: int) -> Block:
        return Block(f"{k}", 1, draw.randrange(50), 8, draw.randrange(30))

    models = {name: Model(name, tuple(block(k) for k in range(draw.randint(1, 6))), 8) for name in "ab"}
    count = draw.randint(1, 40)
    phones = tuple(Host(f"ue{n}", "device", 10**9, 10**6) for n in range(count))
    servers = tuple(Host(f"n{n}", "edge", 10**9, 10**6) for n in range(HOSTS))
    streams = tuple(Stream(f"s{n}", draw.choice("ab"), f"ue{n}", 10**6) for n in range(count))
    return Problem((*phones, *servers), models, streams, Sla(95, 10**6, 10**6))


def sized(problem: Problem, memory_bytes: int) -> Problem:
    return replace(problem, hosts=tuple(replace(host, memory_bytes=memory_bytes) for host in problem.hosts))


def least_untight(problem: Problem) -> int:
    """The smallest memory that is held to suffice always."""
    low, high = 0, 10**6
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if tabulate(sized(problem, middle)).tight else (low, middle)
    return low


@pytest.mark.parametrize("seed", range(60))
def test_a_node_that_is_not_tight_has_room_for_all_that_is_there_during_any_move(seed):
    problem, draw = asked(seed), Random(seed)
    table, suffices = tabulate(problem), least_untight(problem)
    servers = range(len(problem.hosts) - HOSTS, len(problem.hosts))
    most = 0.0
    for _ in range(40):
        old, new = (
            {s.name: tuple(draw.choices(servers, k=len(problem.models[s.model].blocks))) for s in problem.streams}
            for _ in range(2)
        )
        most = max(most, float(np.max(Loaded(table, old, new).used)))
    assert most <= suffices


def test_streams_of_one_model_share_their_runs_so_that_many_need_no_more_than_all_runs_there_are():
    model = Model("m", tuple(Block(f"{k}", 1, 100, 8, 10) for k in range(3)), 8)
    hosts = tuple(Host(f"ue{n}", "device", 10**9, 0) for n in range(1000))
    problem = Problem(
        hosts, {"m": model}, tuple(Stream(f"s{n}", "m", f"ue{n}", 10**6) for n in range(1000)), Sla(95, 10**6, 10**6)
    )
    assert least_untight(problem) == 3 * 100 + 6 * 10  # three blocks, and the runs 0, 1, 2, 01, 12 and 012
