"""Traces cut, scaled, joined and paired. Pure. Steps hold before and after; what was done is told in `made`."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from testbed.trace.rows import TraceError
from testbed.trace.series import RATES, Column, EndPolicy, Extra, Recorded, Series, steps

PPM = 10**6
MOST_SCALE_PPM = 1000 * PPM
MOST_ROWS = 10**6


def scale(series: Series, by_ppm: int) -> Series:
    """All rates; nothing else. Raises TraceError."""
    rates = [column for column in RATES if column in series.columns]
    if not rates:
        raise TraceError(0, f"'{series.name}' has no rate to scale; it has {', '.join(series.columns)}")
    if not 0 < by_ppm <= MOST_SCALE_PPM:
        raise TraceError(0, f"a factor of {by_ppm / PPM:g}; more than 0 and at most 1000 is right")
    scaled: dict[Column, tuple[int, ...]] = {
        column: tuple(round(value * by_ppm / PPM) for value in series.columns[column]) for column in rates
    }
    return replace(
        series,
        columns={**series.columns, **scaled},
        made=(*series.made, f"rates scaled by {by_ppm / PPM:g}"),
        scale_ppm=round(series.scale_ppm * by_ppm / PPM),
    )


def cut(series: Series, from_us: int, to_us: int | None = None, end: EndPolicy = "stop") -> Series:
    """From one time to another (None: to the end). Beyond the end of the trace its end policy goes on.

    `stop` ends there too. Raises TraceError.
    """
    to_us = series.length_us if to_us is None else to_us
    if end == "stop":
        to_us = min(to_us, series.length_us)
    if from_us >= to_us:
        raise TraceError(
            0, f"from {from_us / PPM:g}s to {to_us / PPM:g}s nothing is left of {series.length_us / PPM:g}s"
        )
    found: list[tuple[int, int]] = []
    for t_us, row in steps(series, end, to_us):
        if row is None:
            break
        if found and found[-1][0] <= from_us and t_us <= from_us:
            found[-1] = t_us, row
        else:
            found.append((t_us, row))
        if len(found) > MOST_ROWS:
            raise TraceError(0, f"more than {MOST_ROWS} rows; resample it first")
    times = tuple(max(0, t_us - from_us) for t_us, _ in found)
    told = f"cut {from_us / PPM:g}s to {to_us / PPM:g}s" + (f", end {end}" if to_us > series.length_us else "")
    rows = [row for _, row in found]
    return replace(_picked(series, rows), t_us=times, length_us=to_us - from_us, made=(*series.made, told))


def _picked(series: Series, rows: Sequence[int]) -> Series:
    return replace(
        series,
        columns={name: tuple(values[row] for row in rows) for name, values in series.columns.items()},
        extras={name: tuple(texts[row] for row in rows) for name, texts in series.extras.items()},
    )


def join(parts: Sequence[Series]) -> Series:
    """One after the other; all have the same columns. Texts that only some have are empty for the others."""
    first = parts[0]
    for part in parts[1:]:
        if set(part.columns) != set(first.columns):
            raise TraceError(
                0,
                f"'{first.name}' has {', '.join(sorted(first.columns))} but '{part.name}' has "
                f"{', '.join(sorted(part.columns))}; traces with the same columns can be joined",
            )
    starts = list(accumulate((part.length_us for part in parts), initial=0))
    extras: dict[Extra, tuple[str, ...]] = {}
    for extra in dict.fromkeys(extra for part in parts for extra in part.extras):
        extras[extra] = tuple(text for part in parts for text in part.extras.get(extra, ("",) * len(part.t_us)))
    scales = {part.scale_ppm for part in parts}
    if len(scales) > 1:
        raise TraceError(0, "the traces are scaled by different factors; scale them alike first")
    return Series(
        first.name,
        tuple(start + t_us for start, part in zip(starts, parts, strict=False) for t_us in part.t_us),
        starts[-1],
        {column: tuple(value for part in parts for value in part.columns[column]) for column in first.columns},
        extras,
        shared(parts),
        (*_all_made(parts), f"joined: {', '.join(part.name for part in parts)}"),
        scales.pop(),
    )


def pair(up: Series, down: Series, name: str) -> Series:
    """One trace of the rates of two, which are one way each; as long as the shorter. Raises TraceError."""
    ways: list[tuple[Column, Series, tuple[int, ...]]] = []
    for series, direction, column in ((up, "up", "up_bps"), (down, "down", "down_bps")):
        rate = series.rate_column(direction)  # type: ignore[arg-type]
        if rate is None:
            raise TraceError(0, f"'{series.name}' has no rate {direction}; it has {', '.join(series.columns)}")
        ways.append((column, series, series.columns[rate]))  # type: ignore[arg-type]
    length_us = min(up.length_us, down.length_us)
    times = tuple(t for t in sorted({*up.t_us, *down.t_us}) if t < length_us)
    columns: dict[Column, tuple[int, ...]] = {column: _held(series, values, times) for column, series, values in ways}
    if up.scale_ppm != down.scale_ppm:
        raise TraceError(0, "the two directions are scaled by different factors; scale them alike first")
    made = (*_all_made((up, down)), f"up of {up.name}, down of {down.name}")
    return Series(name, times, length_us, columns, {}, shared((up, down)), made, up.scale_ppm)


def _held(series: Series, values: tuple[int, ...], times: Sequence[int]) -> tuple[int, ...]:
    held: list[int] = []
    row = 0
    for t_us in times:
        while row + 1 < len(series.t_us) and series.t_us[row + 1] <= t_us:
            row += 1
        held.append(values[row])
    return tuple(held)


def shared(parts: Sequence[Series]) -> Recorded:
    """How all were recorded, if all alike."""
    kinds = {part.recorded for part in parts}
    return kinds.pop() if len(kinds) == 1 else "unknown"


def _all_made(parts: Sequence[Series]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(told for part in parts for told in part.made))
