"""The background load of a node as a trace: CSV rows `seconds,share`, the share from 0 to below 1. Pure.

    seconds,share
    0,0.10
    30,0.65

A share holds until the next row; the rules of times, numbers and lines are those of all traces (`rows`).
"""

from dataclasses import dataclass

from testbed.trace.rows import Clock, TraceError, number, rows_of
from testbed.trace.series import EndPolicy, Series, step_count, steps

HEADER = ["seconds", "share"]
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Loads:
    """`share_ppm` of each row of `series`, which has times only."""

    series: Series
    share_ppm: tuple[int, ...]

    def changes(self, end: EndPolicy, until_us: int, otherwise_ppm: int) -> list[tuple[int, int]]:
        """(time, load from then on), what changes nothing left out; `otherwise_ppm`: when a stopped trace has ended."""
        found: list[tuple[int, int]] = []
        for t_us, row in steps(self.series, end, until_us):
            share = otherwise_ppm if row is None else self.share_ppm[row]
            if not found or found[-1][1] != share:
                found.append((t_us, share))
        return found

    def count(self, end: EndPolicy, until_us: int) -> int:
        return step_count(self.series, end, until_us)


def parse_loads(data: bytes, name: str) -> Loads:
    """Raises TraceError."""
    rows = rows_of(data)
    if not rows or [word.strip() for word in rows[0][1].split(",")] != HEADER:
        raise TraceError(rows[0][0] if rows else 0, f"no trace of loads; its first row is '{','.join(HEADER)}'")
    clock, shares = Clock(), list[int]()
    for line, text in rows[1:]:
        cells = text.split(",")
        if len(cells) != len(HEADER):
            raise TraceError(line, f"{len(cells)} values; two are right, '{','.join(HEADER)}'")
        clock.add(line, cells[0], PPM)
        shares.append(round(number(cells[1], line, "the share", 1.0) * PPM))
        if shares[-1] >= PPM:
            raise TraceError(line, "a share of 1 leaves nothing; less is right")
    if not shares:
        raise TraceError(rows[0][0], "there is no row behind the first; at least one is right")
    return Loads(Series(name, tuple(clock.t_us), clock.length_us(), {}), tuple(shares))
