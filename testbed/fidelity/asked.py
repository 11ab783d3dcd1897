"""What each link direction was asked to be at every moment: first shapes, steps, and when it was not there. Pure."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from testbed.wire import charged_bytes

Record = dict[str, Any]
Kinds = Mapping[str, Sequence[Record]]
Key = tuple[str, str]  # link, direction
Span = tuple[int, int]  # us

TAIL = 4  # deviations of jitter, as far as the tables reach
NEVER_US = 2**62
BACK_US = 1_000_000  # a queue that was swept away needs that long to tell something again


@dataclass(frozen=True, slots=True)
class Asked:
    """A shape from `since_us` on."""

    since_us: int
    rate_bps: int
    delay_us: int
    reach_us: int  # delay and the most that jitter adds
    overhead_bytes: int
    cell_bytes: int
    cell_overhead_bytes: int
    paced: bool  # the rate alone says when a frame leaves

    def charged(self, size_bytes: int, packets: int) -> tuple[int, int]:
        """(least, most) bytes that count against the rate."""
        cells = self.overhead_bytes, self.cell_bytes, self.cell_overhead_bytes
        return charged_bytes(size_bytes, packets, *cells)

    def wire_us(self, size_bytes: int) -> float:
        """Of one frame."""
        return self.charged(size_bytes, 1)[1] * 8e6 / self.rate_bps


def asked(kinds: Kinds) -> dict[Key, list[Asked]]:
    """Direction -> its shapes in order of time; without directions that the `run` record knows no shape of."""
    found: dict[Key, list[Asked]] = {}
    for run in kinds["run"][:1]:
        for shape in run.get("shapes", ()):
            found[shape["link"], shape["direction"]] = [_asked(0, shape)]
    for step in sorted(kinds["step"], key=lambda step: int(step["asked_us"])):
        key = step["link"], step["direction"]
        if key in found:
            found[key].append(_asked(step["asked_us"], step))
    return found


def _asked(since_us: int, shape: Record) -> Asked:
    jitter_us = shape.get("jitter_us", 0) * (1 if shape.get("distribution", "uniform") == "uniform" else TAIL)
    return Asked(
        since_us=since_us,
        rate_bps=shape["rate_bps"],
        delay_us=shape.get("delay_us", 0),
        reach_us=shape.get("delay_us", 0) + jitter_us,
        overhead_bytes=shape.get("overhead_bytes", 0),
        cell_bytes=shape.get("cell_bytes", 0),
        cell_overhead_bytes=shape.get("cell_overhead_bytes", 0),
        paced=not (shape.get("slot") or shape.get("reorder_ppm") or shape.get("jitter_reorders")),
    )


def at(shapes: Sequence[Asked], t_us: int) -> Asked:
    return shapes[max(0, bisect_right(shapes, t_us, key=_since) - 1)]


def between(shapes: Sequence[Asked], start_us: int, end_us: int) -> list[tuple[Asked, int, int]]:
    """The shapes that hold at some time in between, each with the part of that time."""
    first = max(0, bisect_right(shapes, start_us, key=_since) - 1)
    last = max(first + 1, bisect_left(shapes, end_us, key=_since))
    found = []
    for place in range(first, last):
        since_us = start_us if place == first else shapes[place].since_us
        found.append((shapes[place], since_us, shapes[place + 1].since_us if place + 1 < last else end_us))
    return found


def _since(shape: Asked) -> int:
    return shape.since_us


def possible_bytes(shapes: Sequence[Asked], start_us: int, end_us: int, lag_us: int) -> tuple[float, float]:
    """(least, most) that a queue never empty gives out, when a frame is paced at the rate of up to `lag_us` ago.

    netem plans when a frame leaves as it comes in: what waits keeps the pace of before. Without a change the two
    are one: the integral of the rate.
    """
    acting = [
        (shape.rate_bps, since_us, until_us + lag_us)
        for shape, since_us, until_us in between(shapes, start_us - lag_us, end_us)
    ]
    borders = sorted({start_us, end_us, *(t for _, *ends in acting for t in ends if start_us < t < end_us)})
    least = most = 0.0
    for begin, end in pairwise(borders):
        rates = [rate for rate, since_us, until_us in acting if since_us <= begin and until_us >= end]
        least += min(rates) * (end - begin) / 8e6
        most += max(rates) * (end - begin) / 8e6
    return least, most


def away(kinds: Kinds) -> dict[str, list[Span]]:
    """Link -> when it, or a switch at its end, was down, and a little after: nothing is judged there."""
    touching: dict[str, set[str]] = defaultdict(set)
    for run in kinds["run"][:1]:
        for shape in run.get("shapes", ()):
            for name in (shape["link"], shape["from"], shape["to"]):
                touching[name].add(shape["link"])
    down_us: dict[str, int] = {}
    found: dict[str, list[Span]] = defaultdict(list)
    for state in sorted(kinds["state"], key=lambda state: int(state["t_us"])):
        target = state["target"]
        if not state["up"]:
            down_us.setdefault(target, state["asked_us"])
        elif target in down_us:
            span = down_us.pop(target), state["applied_us"] + BACK_US
            for link in touching.get(target, ()):
                found[link].append(span)
    for target, since_us in down_us.items():
        for link in touching.get(target, ()):
            found[link].append((since_us, NEVER_US))
    return found


def overlaps(spans: Iterable[Span], start_us: int, end_us: int) -> bool:
    return any(since_us < end_us and until_us > start_us for since_us, until_us in spans)
