"""How long the policy `joint` takes to decide, on networks that change completely from one decision to the next.

    make bench

Each row is a problem of so many nodes, blocks a model and streams. Every decision is a whole one: change detection
has triggered, and all rates, delays and loads are new. It is the wall time of this process on this machine, and the
rest of the machine is not kept quiet: look at p50 first.
"""

import random
import time
from collections.abc import Iterator

import numpy as np

from controller.model import Block, Decision, Host, Model, NodeState, Problem, Sla, Snapshot, Stream, Trigger
from controller.policies.joint import Joint

ROWS = ((7, 14, 3, 200), (26, 200, 3, 10))  # nodes, blocks, streams, decisions
PERIOD_US = 10_000_000  # longer than any cool-down
TRIGGER = (Trigger("link_rate", "radio", 0.5, 1.0),)


def problem(nodes: int, blocks: int, streams: int) -> Problem:
    draw = random.Random(1)
    phones = [Host(f"ue{i}", "device", draw.randint(20, 100) * 10**9, 2 << 30) for i in range(streams)]
    servers = [Host(f"n{i}", "edge", draw.randint(200, 4000) * 10**9, 6 << 30) for i in range(nodes - streams)]
    layers = tuple(
        Block(f"b{i}", draw.randint(1, 60) * 10**8, draw.randint(1, 30) << 20, draw.randint(1, 600) << 10, 4 << 20)
        for i in range(blocks)
    )
    return Problem(
        hosts=(*phones, *servers),
        models={"m": Model("m", layers, 150_528)},
        streams=tuple(Stream(f"s{i}", "m", f"ue{i}", 500_000) for i in range(streams)),
        sla=Sla(95, 250_000, 5_000_000),
    )


def snapshots(asked: Problem) -> Iterator[Snapshot]:
    draw, size = np.random.default_rng(1), len(asked.hosts)
    for n in range(10**9):
        loads = draw.integers(0, 600_000, size)
        yield Snapshot(
            now_us=n * PERIOD_US,
            nodes=tuple(NodeState(True, int(load), 0) for load in loads),
            delay_us=draw.integers(100, 20_000, (size, size)),
            rate_bps=draw.integers(5, 500, (size, size)) * 10**6,
        )


def measure(nodes: int, blocks: int, streams: int, count: int) -> tuple[list[float], int]:
    """Milliseconds of each decision in order of size, and how many of them were moves."""
    asked = problem(nodes, blocks, streams)
    policy, seen = Joint(asked, {}), snapshots(asked)
    placement = policy.start(next(seen)).placement
    took_ms, moves = [], 0
    for _, snapshot in zip(range(count), seen, strict=False):
        began = time.perf_counter()
        decision: Decision = policy.decide(snapshot, placement, TRIGGER)
        took_ms.append((time.perf_counter() - began) * 1e3)
        moves += decision.placement != placement
        placement = decision.placement
    return sorted(took_ms), moves


def main() -> None:
    print(f"{'nodes x blocks x streams':26}{'decisions':>10}{'moves':>7}{'p50':>10}{'p99':>10}{'max':>10}  ms")
    for nodes, blocks, streams, count in ROWS:
        took_ms, moves = measure(nodes, blocks, streams, count)
        shown = (took_ms[count // 2], took_ms[count * 99 // 100], took_ms[-1])
        name = f"{nodes} x {blocks} x {streams}"
        print(f"{name:26}{count:10}{moves:7}" + "".join(f"{value:10.2f}" for value in shown), flush=True)


if __name__ == "__main__":
    main()
