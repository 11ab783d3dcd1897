"""Trace files to series: three formats, recognised by their first row or named by the caller. Pure: bytes in.

  csv       header with t_ms and any of up_kbps,down_kbps,delay_ms,jitter_ms,loss_pct; times in milliseconds
  seconds   "<seconds> <Mbit/s>" a line, blanks or tabs between
  mahimahi  one integer millisecond a line, nondecreasing, each a chance to send 1500 bytes; the last is the period

Rules: every fault names its line; empty lines and lines that begin with # are skipped; CRLF is fine; nothing that
is not finite, nothing negative. Times count from the first row.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from testbed.trace.series import RATES, Column, Series

Format = Literal["csv", "seconds", "mahimahi"]
MAX_BYTES = 16 * 2**20
MAX_ROWS = 500_000  # read in about a second
MTU_BITS = 1500 * 8
MAHIMAHI_BIN_US = 100_000  # a change of a link ten times a second is as fine as the player needs to be

_MAX_US = 7 * 86_400 * 10**6
# CSV column -> (our column, inside units in one of the file's, the most that is believed)
_COLUMNS: Mapping[str, tuple[Column, int, int]] = {
    "up_kbps": ("up_bps", 1000, 10**12),
    "down_kbps": ("down_bps", 1000, 10**12),
    "delay_ms": ("delay_us", 1000, 60 * 10**6),
    "jitter_ms": ("jitter_us", 1000, 60 * 10**6),
    "loss_pct": ("loss_ppm", 10_000, 10**6),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TraceError(ValueError):
    """A trace cannot be used; `line` is 0 when it is about the whole file."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


Rows = list[tuple[int, str]]  # line number, stripped text


def parse(data: bytes, name: str, form: Format | None = None) -> Series:
    """Raises TraceError."""
    rows = list(_rows(data))
    if not rows:
        raise TraceError(0, "the trace is empty; at least one row is right")
    series = _PARSERS[form or recognise(rows)](rows, name)
    rates = [series.columns[column] for column in RATES if column in series.columns]
    if rates and not any(map(any, rates)):
        raise TraceError(0, "every rate of the trace is zero; at least one must be more")
    return series


def recognise(rows: Rows) -> Format:
    """By the first row, as no two of the formats can share one."""
    line, text = rows[0]
    fields = text.split()
    if "," in text or text.lower().startswith("t_ms"):
        return "csv"
    if len(fields) == 1 and fields[0].isdecimal():
        return "mahimahi"
    if len(fields) == 2 and all(_NUMBER.fullmatch(f) or f.lower() in ("nan", "inf", "-inf") for f in fields):
        return "seconds"
    raise TraceError(
        line,
        f"no trace format has a row like {text[:40]!r}; right are '12.5 30.1' (seconds and Mbit/s), '1250' "
        f"(mahimahi, milliseconds) or a CSV header such as 't_ms,{','.join(_COLUMNS)}'",
    )


def _rows(data: bytes) -> Iterator[tuple[int, str]]:
    if len(data) > MAX_BYTES:
        raise TraceError(0, f"the trace has more than {MAX_BYTES // 2**20} MiB; cut or resample it")
    if data.count(b"\n") > MAX_ROWS:
        raise TraceError(0, f"the trace has more than {MAX_ROWS} rows; cut or resample it")
    if b"\0" in data:
        raise TraceError(data[: data.index(b"\0")].count(b"\n") + 1, "a NUL byte; a trace is plain text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise TraceError(data[: fault.start].count(b"\n") + 1, "not UTF-8; a trace is plain text") from None
    for line, row in enumerate(text.split("\n"), start=1):
        stripped = row.strip()
        if stripped and stripped[0] != "#":
            yield line, stripped


def _number(text: str, line: int, what: str, most: float) -> float:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise TraceError(line, f"{what} is {text[:40]!r}; a finite decimal number is right")
    value = float(text)
    if value < 0:
        raise TraceError(line, f"{what} is {text}; it must not be negative")
    if value > most:
        raise TraceError(line, f"{what} is {text}; more than {most:.0f} is not believed")
    return value


class _Clock:
    """Times of rows in microseconds since the first, which must rise."""

    def __init__(self) -> None:
        self.t_us: list[int] = []
        self._first = 0
        self._before = ""

    def add(self, line: int, text: str, unit_us: int) -> None:
        now = round(_number(text, line, "the time", 10**13) * unit_us)
        if not self.t_us:
            self._first = now
        elif now - self._first <= self.t_us[-1]:
            raise TraceError(line, f"time {text} does not come after {self._before}; times must rise from row to row")
        if now - self._first > _MAX_US:
            raise TraceError(line, f"time {text} is more than 7 days after the first row; cut the trace")
        self.t_us.append(now - self._first)
        self._before = text

    def length_us(self) -> int:
        """The last step lasts as long as the one before; a single row lasts one second."""
        last = self.t_us[-1]
        return last + (last - self.t_us[-2] if len(self.t_us) > 1 else 10**6)


def _seconds(rows: Rows, name: str) -> Series:
    clock, rates = _Clock(), []
    for line, text in rows:
        fields = text.split()
        if len(fields) != 2:
            raise TraceError(line, f"{len(fields)} fields; a row is '<seconds> <Mbit/s>', such as '12.5 30.1'")
        clock.add(line, fields[0], 10**6)
        rates.append(round(_number(fields[1], line, "the rate", 10**6) * 10**6))
    return Series(name, tuple(clock.t_us), clock.length_us(), {"rate_bps": tuple(rates)})


def _csv(rows: Rows, name: str) -> Series:
    header = _header(*rows[0])
    clock = _Clock()
    columns: dict[Column, list[int]] = {_COLUMNS[h][0]: [] for h in header if h != "t_ms"}
    if len(rows) == 1:
        raise TraceError(rows[0][0], "only a header; at least one row of numbers is right")
    for line, text in rows[1:]:
        fields = text.split(",")
        if len(fields) != len(header):
            raise TraceError(line, f"{len(fields)} fields; the header has {len(header)} ({','.join(header)})")
        for title, field in zip(header, fields, strict=True):
            if title == "t_ms":
                clock.add(line, field.strip(), 1000)
            else:
                column, unit, most = _COLUMNS[title]
                columns[column].append(round(_number(field, line, title, most / unit) * unit))
    return Series(name, tuple(clock.t_us), clock.length_us(), {k: tuple(v) for k, v in columns.items()})


def _header(line: int, text: str) -> list[str]:
    header = [field.strip() for field in text.split(",")]
    known = ["t_ms", *_COLUMNS]
    if header[0] != "t_ms" and all(_NUMBER.fullmatch(field) for field in header):
        raise TraceError(line, f"the header is missing; the first line is 't_ms,' and some of {','.join(_COLUMNS)}")
    for title in header:
        if title not in known:
            close = difflib.get_close_matches(title, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"columns are {','.join(known)}"
            raise TraceError(line, f"unknown column {title[:40]!r}; {hint}")
        if header.count(title) > 1:
            raise TraceError(line, f"column '{title}' is there twice; once is right")
    if "t_ms" not in header or len(header) == 1:
        raise TraceError(line, f"the header needs t_ms and at least one of {','.join(_COLUMNS)}")
    return header


def _mahimahi(rows: Rows, name: str) -> Series:
    """Chances to send, counted in bins: a rate in each bin that carries the same bytes."""
    chances: Counter[int] = Counter()
    before = 0
    bin_ms = MAHIMAHI_BIN_US // 1000
    for line, text in rows:
        if not (text.isascii() and text.isdecimal()):
            raise TraceError(line, f"{text[:40]!r}; a row of a mahimahi trace is one whole millisecond, such as '1250'")
        now = int(text) if len(text) < 13 else _MAX_US
        if now < before:
            raise TraceError(line, f"time {now} comes after {before}; a mahimahi trace must not decrease")
        chances[now // bin_ms] += 1
        before = now
    if before == 0 or before * 1000 > _MAX_US:
        raise TraceError(
            rows[-1][0], f"the last time, {before} ms, is the period of the trace; 1 ms to 7 days is right"
        )
    length_us, bins = before * 1000, -(-before // bin_ms)
    chances[bins - 1] += chances.pop(bins, 0)  # what falls on the end of the period belongs to its last bin
    starts = tuple(index * MAHIMAHI_BIN_US for index in range(bins))
    rates = tuple(
        round(chances[index] * MTU_BITS * 10**6 / min(MAHIMAHI_BIN_US, length_us - start))
        for index, start in enumerate(starts)
    )
    return Series(name, starts, length_us, {"rate_bps": rates})


_PARSERS: Mapping[Format, Callable[[Rows, str], Series]] = {"csv": _csv, "seconds": _seconds, "mahimahi": _mahimahi}
