"""CSV tables of other people: each kind is a map of our columns to theirs. Pure.

Ours: `t_s t_ms t_us` (numbers) or `t` (a point in time); `up_ down_ rate_` with `bps kbps mbps gbps`; `delay_ rtt_
jitter_` with `us ms s`; `loss_pct loss_ppm`; and what is kept as text: cell, position and so on (`series.EXTRAS`).
Rules: half of a round trip is the delay; where a value is missing (nothing, `-`, `N/A`) the one before holds, and
before the first known one that one.
"""

import csv
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from testbed.trace.instants import instant_us
from testbed.trace.rows import Clock, Rows, Texts, TraceError, number
from testbed.trace.series import EXTRAS, Column, Extra, Recorded, Series

_RATE_UNITS = {"bps": 1, "kbps": 10**3, "mbps": 10**6, "gbps": 10**9}
_TIME_UNITS = {"us": 1, "ms": 10**3, "s": 10**6}
_RATES: tuple[tuple[str, Column], ...] = (("up", "up_bps"), ("down", "down_bps"), ("rate", "rate_bps"))
_DELAYS: tuple[tuple[str, Column, int], ...] = (
    ("delay", "delay_us", 1),
    ("rtt", "delay_us", 2),
    ("jitter", "jitter_us", 1),
)
# our name -> (column, inside units in one of it, the most that is believed, inside)
VALUES: Mapping[str, tuple[Column, float, int]] = {
    **{f"{way}_{unit}": (column, per, 10**12) for way, column in _RATES for unit, per in _RATE_UNITS.items()},
    **{
        f"{what}_{unit}": (column, per / parts, 60 * 10**6)
        for what, column, parts in _DELAYS
        for unit, per in _TIME_UNITS.items()
    },
    "loss_pct": ("loss_ppm", 10_000, 10**6),
    "loss_ppm": ("loss_ppm", 1, 10**6),
}
TIMES: Mapping[str, int | None] = {"t": None, **{f"t_{unit}": per for unit, per in _TIME_UNITS.items()}}
_MISSING = {"", "-", "n/a"}


@dataclass(frozen=True, slots=True)
class Table:
    """`merge`: rows of the same time are averaged. `gap_us`: a longer gap joins two parts, and is closed."""

    name: str
    columns: Mapping[str, str]  # ours -> theirs
    recorded: Recorded = "unknown"
    merge: bool = False
    gap_us: int | None = None
    made: tuple[str, ...] = ()
    refuse: str = ""  # why such a table is no trace


TABLES = (
    Table(
        "ucc5g",
        {"t": "Timestamp", "down_kbps": "DL_bitrate", "up_kbps": "UL_bitrate", "rtt_ms": "PINGAVG"}
        | {"cell": "CellID", "technology": "NetworkMode", "lon": "Longitude", "lat": "Latitude", "rsrp_dbm": "RSRP"},
        "goodput",
        merge=True,
        made=("rows of the same second averaged",),
    ),
    Table(
        "sigcomm21",
        {"t_s": "_start", "rate_bps": "bits_per_second"},
        "saturating",
        merge=True,
    ),
    Table(
        "mssn",
        {"t_s": "time_delta", "down_mbps": "DL_Throughput", "up_mbps": "UL_Throughput", "lat": "lat", "lon": "lon"}
        | {"cell": "dst_nrcell_cid"},
        "goodput",
        made=("RTT column left out, for it holds only 0 or N/A",),
    ),
    Table("mtu5g", {"t": "Time", "up_mbps": "RATE(MBit/s)"}, "goodput"),
    Table(
        "starlink",
        {"t": "time", "rate_mbps": "throughput", "lat": "latitude", "lon": "longtitu"},
        "goodput",
        merge=True,
        gap_us=2_500_000,
    ),
    Table(
        "handover-log",
        {"t_s": "time", "": "handover type"},
        refuse="a log of handovers: it has neither a rate nor a delay to replay",
    ),
)


def sign_of(table: Table) -> Callable[[Rows, str], bool]:
    return lambda rows, _name: set(table.columns.values()) <= set(_fields(rows[0][1]))


def reader_of(table: Table) -> Callable[[Rows, str], Series]:
    return lambda rows, name: read_table(rows, name, table)


def read_table(rows: Rows, name: str, table: Table) -> Series:
    """Raises TraceError."""
    if table.refuse:
        raise TraceError(0, table.refuse)
    place = _places(rows[0], table)
    if len(rows) == 1:
        raise TraceError(rows[0][0], "only a header; at least one row of numbers is right")
    found = _Gathered(table, place)
    for index in range(1, len(rows)):
        found.add(*rows[index])
    found.flush()
    columns = {VALUES[ours][0]: held for ours, values in found.values.items() if (held := _held(values))}
    if not columns:
        raise TraceError(0, "no row has a rate or a delay; all are empty, '-' or 'N/A'")
    extras: dict[Extra, tuple[str, ...]] = {extra: tuple(texts) for extra, texts in found.extras.items()}
    made = table.made
    if any(ours.startswith("rtt") for ours in place) and "delay_us" in columns:
        made = ("delay is half the round trip", *made)
    if found.part > 1:
        extras["part"] = tuple(found.parts)
        made = (*made, f"{found.part} parts joined, the gaps between closed")
    times = tuple(found.clock.t_us)
    return Series(name, times, found.clock.length_us(), columns, extras, table.recorded, made)


def _fields(text: str) -> list[str]:
    try:
        split = next(csv.reader([text])) if '"' in text else text.split(",")
    except csv.Error:  # a stray carriage return, or a field of more than 128 KiB
        split = text.split(",")
    return [one.strip() for one in split]


def _places(first: tuple[int, str], table: Table) -> dict[str, int]:
    """Our name -> the index of their column."""
    line, text = first
    header = _fields(text)
    for ours, theirs in table.columns.items():
        if ours not in TIMES and ours not in VALUES and ours not in EXTRAS:
            raise TraceError(0, f"'{ours}' is not a column to map to; {_nearest(ours, [*TIMES, *VALUES, *EXTRAS])}")
        if theirs not in header:
            raise TraceError(line, f"there is no column {theirs[:40]!r}; {_nearest(theirs, header)}")
    if sum(ours in TIMES for ours in table.columns) != 1:
        raise TraceError(0, f"one column must be the time ({', '.join(TIMES)}), as in --map t_s=Time,up_mbps=UL")
    kinds = [VALUES[ours][0] for ours in table.columns if ours in VALUES]
    if not kinds or len(set(kinds)) < len(kinds):
        raise TraceError(0, "at least one rate or delay must be mapped, and each once, as in --map t_s=Time,up_mbps=UL")
    return {ours: header.index(theirs) for ours, theirs in table.columns.items()}


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)[:200]}"


class _Gathered:
    """Rows to columns, one row after the other: what rows of half a million hold has little room beside them.

    Across a gap time goes on by as much as a step before it had.
    """

    def __init__(self, table: Table, place: Mapping[str, int]) -> None:
        self.clock = Clock()
        self.part = 1
        self.parts: list[str] = []
        self.values: dict[str, list[int | None]] = {ours: [] for ours in place if ours in VALUES}
        self.extras: dict[Extra, list[str]] = {extra: [] for extra in EXTRAS if extra in place}
        self._table = table
        self._place = place
        self._stamps = next(ours for ours in place if ours in TIMES)
        self._shared = Texts()
        self._row: tuple[int, int, str] | None = None  # line, time and its text, of the row that is gathered
        self._known: dict[str, list[float]] = {}
        self._texts: dict[str, str] = {}
        self._closed_us = 0
        self._step_us = 10**6

    def add(self, line: int, text: str) -> None:
        """A row; of the same time as the one before it may be merged with it."""
        fields, place = _fields(text), self._place
        if len(fields) <= max(place.values()):
            raise TraceError(
                line, f"{len(fields)} fields; at least {max(place.values()) + 1} are right, as in the header"
            )
        stamp, unit = fields[place[self._stamps]], TIMES[self._stamps]
        t_us = instant_us(stamp, line) if unit is None else round(number(stamp, line, "the time", 10**13) * unit)
        if not (self._table.merge and self._row and self._row[1] == t_us):
            self.flush(t_us)
            self._row, self._known, self._texts = (line, t_us, stamp[:40]), {}, {}
        for ours in self.values:
            value = fields[place[ours]]
            if value.lower() not in _MISSING:
                _, per, most = VALUES[ours]
                self._known.setdefault(ours, []).append(number(value, line, ours, most / per) * per)
        for extra in self.extras:
            self._texts[extra] = fields[place[extra]].replace(",", ";")

    def flush(self, next_us: int | None = None) -> None:
        """What was gathered becomes a row; `next_us` is when the next begins."""
        if self._row is None:
            return
        line, t_us, stamp = self._row
        self.clock.add_us(line, t_us - self._closed_us, stamp)
        self.parts.append(self._shared.one(str(self.part)))
        for ours, values in self.values.items():
            known = self._known.get(ours)
            values.append(round(sum(known) / len(known)) if known else None)
        for extra, texts in self.extras.items():
            texts.append(self._shared.one(self._texts[extra]))
        if self._table.gap_us is not None and next_us is not None:
            passed = next_us - t_us
            if passed > self._table.gap_us or passed < 0:
                self._closed_us += passed - self._step_us
                self.part += 1
            else:
                self._step_us = passed


def _held(values: list[int | None]) -> tuple[int, ...]:
    """Where there is none the one before, and before the first that one; nothing if there is none at all."""
    held = next((value for value in values if value is not None), None)
    filled: list[int] = []
    for value in values if held is not None else ():
        held = held if value is None else value
        filled.append(held)  # type: ignore[arg-type]
    return tuple(filled)
