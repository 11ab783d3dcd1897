"""What all readers of trace files share: lines of text with their numbers, times that rise, numbers that are finite.

Rules: every fault names its line; empty lines and lines that begin with # are skipped; CRLF and a byte order mark are
fine; nothing that is not finite, nothing negative. Times count from the first row.
"""

import re
from collections.abc import Iterator

MAX_BYTES = 16 * 2**20
MAX_ROWS = 500_000  # read in about a second
MAX_US = 7 * 86_400 * 10**6
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TraceError(ValueError):
    """A trace cannot be used; `line` is 0 when it is about the whole file."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


Rows = list[tuple[int, str]]  # line number, stripped text


def rows_of(data: bytes) -> Iterator[tuple[int, str]]:
    """Raises TraceError."""
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
