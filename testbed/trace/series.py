"""A trace as numbers: step-hold columns over time. Pure.

A value holds from its time until the next; the last holds until `length_us`. What comes then is the end policy's
business: `hold` keeps the last value, `loop` begins anew, `stop` hands back to what the link itself says.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, get_args

Direction = Literal["up", "down"]
EndPolicy = Literal["hold", "loop", "stop"]
Column = Literal["rate_bps", "up_bps", "down_bps", "delay_us", "jitter_us", "loss_ppm"]
RATES: tuple[Column, ...] = ("rate_bps", "up_bps", "down_bps")
# How the numbers came about: a flow that never pauses, lone small packets, the goodput of whatever ran, chances to
# send, a model.
Recorded = Literal["saturating", "probing", "goodput", "capacity", "generated", "unknown"]
# What was recorded beside them, kept as text
Extra = Literal[
    "part", "cell", "technology", "lat", "lon", "x_m", "y_m", "heading_rad", "speed_mps", "rsrp_dbm", "sinr_db"
]
EXTRAS: tuple[Extra, ...] = get_args(Extra)
SATURATING = (
    "was recorded with a flow that never pauses: its rates are that flow's goodput, and in a replay short flows meet "
    "13 to 17 % less round-trip time than they did on the real path (CellReplay, NSDI 2025)"
)


@dataclass(frozen=True, slots=True)
class Series:
    """Columns of equal length; `t_us` begins at 0 and rises strictly; `length_us` lies behind the last step."""

    name: str
    t_us: tuple[int, ...]
    length_us: int
    columns: Mapping[Column, tuple[int, ...]]
    extras: Mapping[Extra, tuple[str, ...]] = field(default_factory=dict)  # a text a row
    recorded: Recorded = "unknown"
    made: tuple[str, ...] = ()  # what was done to it, in order
    scale_ppm: int = 1_000_000  # of the recorded rates

    def rate_column(self, direction: Direction) -> Column | None:
        """Its own column, or the only one of a format without directions."""
        own: Column = "up_bps" if direction == "up" else "down_bps"
        return next((name for name in (own, "rate_bps") if name in self.columns), None)

    def at(self, column: Column, t_us: int) -> int:
        """The value that holds at a time inside the trace."""
        return self.columns[column][max(0, bisect_right(self.t_us, t_us) - 1)]

    def widths_us(self) -> list[int]:
        return [after - before for before, after in pairwise((*self.t_us, self.length_us))]


def steps(series: Series, end: EndPolicy, until_us: int) -> Iterator[tuple[int, int | None]]:
    """(time, index of the row that holds from then on) before `until_us`; index None: a stopped trace has ended."""
    start = 0
    while True:
        for index, t_us in enumerate(series.t_us):
            if start + t_us >= until_us:
                return
            yield start + t_us, index
        start += series.length_us
        if end != "loop":
            break
    if end == "stop" and start < until_us:
        yield start, None


def step_count(series: Series, end: EndPolicy, until_us: int) -> int:
    """How many steps `steps` gives, without going through them."""
    if end != "loop":
        return bisect_right(series.t_us, until_us - 1)
    rounds, rest = divmod(until_us, series.length_us)
    return rounds * len(series.t_us) + bisect_right(series.t_us, rest - 1)


def resample(series: Series, step_us: int) -> Series:
    """Time-weighted means over equal steps (the last may be shorter): what a rate carries stays the same.

    Texts are those that hold where a step begins.
    """
    if step_us < 1:
        raise ValueError(f"a step of {step_us} us; at least 1 is right")
    starts = range(0, series.length_us, step_us)
    columns = {
        name: tuple(_means(series, name, [(t, min(t + step_us, series.length_us)) for t in starts]))
        for name in series.columns
    }
    rows = [bisect_right(series.t_us, start) - 1 for start in starts]
    extras = {name: tuple(texts[row] for row in rows) for name, texts in series.extras.items()}
    return replace(series, t_us=tuple(starts), columns=columns, extras=extras)


def _means(series: Series, name: Column, bins: list[tuple[int, int]]) -> Iterator[int]:
    """Walks the rows once, as the bins are in order."""
    values, edges = series.columns[name], (*series.t_us, series.length_us)
    row = 0
    for first, last in bins:
        area = 0
        while True:
            area += values[row] * (min(edges[row + 1], last) - max(edges[row], first))
            if edges[row + 1] > last or row + 1 == len(values):
                break
            row += 1
            if edges[row] >= last:
                break
        yield round(area / (last - first))


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one column, weighted by time, in the unit of the column."""

    mean: float
    p5: int
    p50: int
    p95: int
    least: int
    most: int
    variation: float  # standard deviation over mean
    zero_share: float  # of the time


def statistics(series: Series, column: Column) -> Statistics:
    values, widths, total = series.columns[column], series.widths_us(), series.length_us
    mean = sum(v * w for v, w in zip(values, widths, strict=True)) / total
    variance = sum((v - mean) ** 2 * w for v, w in zip(values, widths, strict=True)) / total
    ordered = sorted(zip(values, widths, strict=True))
    zero = sum(w for v, w in ordered if v == 0) / total

    def quantile(share: float) -> int:
        passed = 0
        for value, width in ordered:
            passed += width
            if passed >= share * total:
                return value
        return ordered[-1][0]

    return Statistics(
        mean,
        quantile(0.05),
        quantile(0.5),
        quantile(0.95),
        ordered[0][0],
        ordered[-1][0],
        variance**0.5 / mean if mean else 0.0,
        zero,
    )
