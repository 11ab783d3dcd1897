"""A recording played on a pair while its link is kept busy: what was carried, and when each step was applied."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import stream, tcp
from benchmarks.pairs import FIRST, Ours, Pair, Plain
from nodes.clock import MonotonicClock
from testbed.network.namespace import inside
from testbed.network.player import LinkInformation, play
from testbed.plan import Change

WARM_UP_US = 500_000
WINDOW_US = 100_000
Steps = Sequence[tuple[int, int]]  # (microseconds, bit/s) from 0 on


def replay(pair: Ours | Plain, steps: Steps, length_us: int, frames: int | None = stream.WINDOW) -> dict[str, Any]:
    """Bits carried in windows of 100 ms, and how late (us) each step was. `frames` None: of one TCP stream."""
    pair.change(steps[0][1])
    zero_ns, clock = time.time_ns() + WARM_UP_US * 1000, MonotonicClock(time.monotonic_ns() // 1000 + WARM_UP_US)
    edges_ns = [zero_ns + t_us * 1000 for t_us in range(0, length_us + 1, WINDOW_US)]
    with ThreadPoolExecutor(1) as player:
        late_us = player.submit(_play, pair, steps[1:], clock)
        carried, lost = _carried(pair, edges_ns, frames)
        return {"bits": carried, "late_us": late_us.result(), "lost": lost}


def _carried(pair: Pair, edges_ns: Sequence[int], frames: int | None) -> tuple[list[float], int]:
    if frames is None:
        seen = tcp.stream(pair, (edges_ns[-1] - time.time_ns()) / 1e9)
        return tcp.bits(seen, edges_ns), 0
    done = stream.saturate(pair, lambda now_ns: now_ns > edges_ns[-1], frames)
    return stream.bits(done, edges_ns), done.numbers[-1] + 1 - len(done.numbers)


def _play(pair: Ours | Plain, steps: Steps, clock: MonotonicClock) -> list[int]:
    late_us: list[int] = []

    def record(kind: str, _: int, **said: Any) -> None:
        if kind != "step" or not said["readback_ok"]:
            raise RuntimeError(f"{kind}: {said}")
        late_us.append(said["applied_us"] - said["asked_us"])

    if isinstance(pair, Ours):
        changes = [
            Change(t_us, "link", "l", pair.direction, replace(FIRST, rate_bps=rate_bps)) for t_us, rate_bps in steps
        ]
        with inside(pair.netns(0)):  # netlink opens a socket for each thread that uses it
            play(changes, {"l": pair.link}, {}, LinkInformation(Path("/run")), clock=clock, record=record)
        return late_us
    for t_us, rate_bps in steps:
        clock.sleep_until(t_us)
        pair.change(rate_bps)
        late_us.append(clock.now_us() - t_us)
    return late_us
