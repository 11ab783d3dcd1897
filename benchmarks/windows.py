"""What a link carried in windows of time, beside what it should have carried. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise


def carried(at: Sequence[int], edges: Sequence[int]) -> list[float]:
    """Packets between each edge and the next; the one that is under way at an edge counts in parts.

    `at` is when each packet had arrived whole, in order, in the unit of `edges`.
    """
    return [after - before for before, after in pairwise([_passed(at, edge) for edge in edges])]


def _passed(at: Sequence[int], edge: int) -> float:
    whole = bisect_right(at, edge)
    if not 0 < whole < len(at):
        return whole
    return whole + (edge - at[whole - 1]) / (at[whole] - at[whole - 1])


def scheduled(steps: Sequence[tuple[int, int]], edges: Sequence[int]) -> list[float]:
    """Value x time between edges of a step function [(from when, value)] that begins before the first edge."""
    ends = [when for when, _ in steps[1:]] + [edges[-1]]
    return [
        sum(value * max(0, min(end, last) - max(start, first)) for (start, value), end in zip(steps, ends, strict=True))
        for first, last in pairwise(edges)
    ]


def errors(measured: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Relative, without sign."""
    return [abs(one / other - 1) for one, other in zip(measured, wanted, strict=True)]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
