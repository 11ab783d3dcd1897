"""The plain formats, which are also written.

csv       header with t_ms and any of up_kbps,down_kbps,delay_ms,jitter_ms,loss_pct; times in milliseconds; what was
          recorded beside them (cell, position, ...) is kept as text
seconds   "<seconds> <Mbit/s>" a line, blanks or tabs between
mahimahi  one integer millisecond a line, nondecreasing, each a chance to send 1500 bytes; the last is the period
"""

import difflib
from collections import Counter
from collections.abc import Mapping

from testbed.trace.rows import MAX_US, Clock, Rows, TraceError, is_number, number
from testbed.trace.series import EXTRAS, Column, Extra, Series

MTU_BITS = 1500 * 8
MAHIMAHI_BIN_US = 100_000  # a change of a link ten times a second is as fine as the player needs to be

# CSV column -> (our column, inside units in one of the file's, the most that is believed)
COLUMNS: Mapping[str, tuple[Column, int, int]] = {
    "up_kbps": ("up_bps", 1000, 10**12),
    "down_kbps": ("down_bps", 1000, 10**12),
    "delay_ms": ("delay_us", 1000, 60 * 10**6),
    "jitter_ms": ("jitter_us", 1000, 60 * 10**6),
    "loss_pct": ("loss_ppm", 10_000, 10**6),
}


def is_csv(rows: Rows, _name: str) -> bool:
    """Any other table with commas as well, for it says best what it lacks."""
    return "," in rows[0][1] or rows[0][1].lower().startswith("t_ms")


def is_mahimahi(rows: Rows, _name: str) -> bool:
    fields = rows[0][1].split()
    return len(fields) == 1 and fields[0].isdecimal()


def is_seconds(rows: Rows, _name: str) -> bool:
    fields = rows[0][1].split()
    return len(fields) == 2 and all(is_number(f) or f.lower() in ("nan", "inf", "-inf") for f in fields)


def read_seconds(rows: Rows, name: str) -> Series:
    clock, rates = Clock(), []
    for line, text in rows:
        fields = text.split()
        if len(fields) != 2:
            raise TraceError(line, f"{len(fields)} fields; a row is '<seconds> <Mbit/s>', such as '12.5 30.1'")
        clock.add(line, fields[0], 10**6)
        rates.append(round(number(fields[1], line, "the rate", 10**6) * 10**6))
    return Series(name, tuple(clock.t_us), clock.length_us(), {"rate_bps": tuple(rates)})


def read_csv(rows: Rows, name: str) -> Series:
    header = _header(*rows[0])
    clock = Clock()
    columns: dict[Column, list[int]] = {COLUMNS[h][0]: [] for h in header if h in COLUMNS}
    extras: dict[Extra, list[str]] = {extra: [] for extra in EXTRAS if extra in header}
    if len(rows) == 1:
        raise TraceError(rows[0][0], "only a header; at least one row of numbers is right")
    for line, text in rows[1:]:
        fields = text.split(",")
        if len(fields) != len(header):
            raise TraceError(line, f"{len(fields)} fields; the header has {len(header)} ({','.join(header)})")
        for title, field in zip(header, fields, strict=True):
            if title == "t_ms":
                clock.add(line, field.strip(), 1000)
            elif title in COLUMNS:
                column, unit, most = COLUMNS[title]
                columns[column].append(round(number(field, line, title, most / unit) * unit))
            else:
                extras[title].append(field.strip())  # type: ignore[index]
    return Series(
        name,
        tuple(clock.t_us),
        clock.length_us(),
        {k: tuple(v) for k, v in columns.items()},
        {k: tuple(v) for k, v in extras.items()},
    )


def _header(line: int, text: str) -> list[str]:
    header = [field.strip() for field in text.split(",")]
    known = ["t_ms", *COLUMNS]
    if header[0] != "t_ms" and all(is_number(field) for field in header):
        raise TraceError(line, f"the header is missing; the first line is 't_ms,' and some of {','.join(COLUMNS)}")
    for title in header:
        if title not in known and title not in EXTRAS:
            close = difflib.get_close_matches(title, [*known, *EXTRAS], 1)
            hint = f"did you mean '{close[0]}'?" if close else f"columns are {','.join(known)}; --map names others"
            raise TraceError(line, f"unknown column {title[:40]!r}; {hint}")
        if header.count(title) > 1:
            raise TraceError(line, f"column '{title}' is there twice; once is right")
    if "t_ms" not in header or not any(title in COLUMNS for title in header):
        raise TraceError(line, f"the header needs t_ms and at least one of {','.join(COLUMNS)}")
    return header


def read_mahimahi(rows: Rows, name: str) -> Series:
    """Chances to send, counted in bins: a rate in each bin that carries the same bytes."""
    chances: Counter[int] = Counter()
    before = 0
    bin_ms = MAHIMAHI_BIN_US // 1000
    for line, text in rows:
        if not (text.isascii() and text.isdecimal()):
            raise TraceError(line, f"{text[:40]!r}; a row of a mahimahi trace is one whole millisecond, such as '1250'")
        now = int(text) if len(text) < 13 else MAX_US
        if now < before:
            raise TraceError(line, f"time {now} comes after {before}; a mahimahi trace must not decrease")
        chances[now // bin_ms] += 1
        before = now
    if before == 0 or before * 1000 > MAX_US:
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
    return Series(name, starts, length_us, {"rate_bps": rates}, recorded="capacity")
