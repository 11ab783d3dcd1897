"""What all readers of trace files share: lines of text with their numbers, times that rise, numbers that are finite.

Rules: every fault names its line; empty lines and lines that begin with # are skipped; CRLF and a byte order mark are
fine; nothing that is not finite, nothing negative. Times count from the first row.
"""

import re
from array import array
from collections.abc import Sequence
from typing import overload

MAX_BYTES = 16 * 2**20
MAX_ROWS = 500_000  # read in about a second
MAX_LINE = 2**20  # some data sets write a whole recording on a line
MAX_US = 7 * 86_400 * 10**6
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TraceError(ValueError):
    """A trace cannot be used; `line` is 0 when it is about the whole file."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


Rows = Sequence[tuple[int, str]]  # line number, stripped text


class _Lines(Sequence[tuple[int, str]]):
    """Rows that are cut out of the text when they are asked for: half a million tuples take five times as much."""

    def __init__(self, text: str, lines: "array[int]", starts: "array[int]", ends: "array[int]") -> None:
        self._text, self._lines, self._starts, self._ends = text, lines, starts, ends

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> tuple[int, str]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> tuple[int, str] | Rows:
        if isinstance(index, slice):
            return _Lines(self._text, self._lines[index], self._starts[index], self._ends[index])
        return self._lines[index], self._text[self._starts[index] : self._ends[index]]


def rows_of(data: bytes) -> Rows:
    """Raises TraceError."""
    if len(data) > MAX_BYTES:
        line = data.count(b"\n", 0, MAX_BYTES) + 1
        raise TraceError(
            line, f"the trace has more than {MAX_BYTES // 2**20} MiB, which is passed here; a part is right"
        )
    if data.count(b"\n") > MAX_ROWS:
        raise TraceError(MAX_ROWS + 1, f"the trace has more than {MAX_ROWS} rows; a part of it is right")
    if b"\0" in data:
        raise TraceError(data[: data.index(b"\0")].count(b"\n") + 1, "a NUL byte; a trace is plain text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise TraceError(data[: fault.start].count(b"\n") + 1, "not UTF-8; a trace is plain text") from None
    lines, starts, ends = array("L"), array("L"), array("L")
    start = 0
    for line, row in enumerate(text.split("\n"), start=1):
        if len(row) > MAX_LINE:
            raise TraceError(line, f"a line of {len(row)} characters; at most {MAX_LINE} are right")
        stripped = row.strip()
        if stripped and stripped[0] != "#":
            first = start + len(row) - len(row.lstrip())
            lines.append(line)
            starts.append(first)
            ends.append(first + len(stripped))
        start += len(row) + 1
    return _Lines(text, lines, starts, ends)


def is_number(text: str) -> bool:
    """Finite and decimal; what is longer than any number is none, and would only make matching slow."""
    return len(text) <= 64 and _NUMBER.fullmatch(text) is not None


def number(text: str, line: int, what: str, most: float) -> float:
    text = text.strip()
    if not is_number(text):
        raise TraceError(line, f"{what} is {text[:40]!r}; a finite decimal number is right")
    value = float(text)
    if value < 0:
        raise TraceError(line, f"{what} is {text[:40]}; it must not be negative")
    if value > most:
        raise TraceError(line, f"{what} is {text[:40]}; more than {most:.0f} is not believed")
    return value


class Texts:
    """One text in memory, however many rows have it; of the first `most` different ones."""

    def __init__(self, most: int = 2**14) -> None:
        self._most = most
        self._kept: dict[str, str] = {}

    def one(self, text: str) -> str:
        if len(self._kept) < self._most:
            return self._kept.setdefault(text, text)
        return self._kept.get(text, text)


class Clock:
    """Times of rows in microseconds since the first, which must rise."""

    def __init__(self) -> None:
        self.t_us: list[int] = []
        self._first = 0
        self._before = ""

    def add(self, line: int, text: str, unit_us: int) -> None:
        self.add_us(line, round(number(text, line, "the time", 10**13) * unit_us), text)

    def add_us(self, line: int, now: int, text: str) -> None:
        if not self.t_us:
            self._first = now
        elif now - self._first <= self.t_us[-1]:
            raise TraceError(line, f"time {text} does not come after {self._before}; times must rise from row to row")
        if now - self._first > MAX_US:
            raise TraceError(line, f"time {text} is more than 7 days after the first row; cut the trace")
        self.t_us.append(now - self._first)
        self._before = text

    def length_us(self) -> int:
        """The last step lasts as long as the one before; a single row lasts one second."""
        last = self.t_us[-1]
        return last + (last - self.t_us[-2] if len(self.t_us) > 1 else 10**6)
