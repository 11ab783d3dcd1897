"""Small changes of a whole placement: what one stream's best response cannot do. Pure.

  shift     a boundary between two runs goes one block to either side
  drop      a run joins the one before or behind it: its node is left
  exchange  two nodes change their roles in all streams, so that two streams can give each other way
  swap      two streams change places; only where asked for, of streams that load their places differently
The first that lowers the objective is taken, and the search goes on from there, `TRIALS` trials in all.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from controller.table import Row, Rows, runs

TRIALS = 48


def improved(rows: Rows, total: float, worth: Callable[[Rows], float], trials: int = TRIALS) -> tuple[Rows, float]:
    """`worth` gives the objective of a trial, infinite when it cannot be."""
    going = True
    while going and trials > 0:
        going = False
        for trial in neighbours(rows):
            trials -= 1
            value = worth(trial)
            if value < total:
                rows, total, going = trial, value, True
                break
            if trials <= 0:
                break
    return rows, total


def swapped(
    rows: Rows, total: float, worth: Callable[[Rows], float], pairs: Iterable[tuple[str, str]]
) -> tuple[Rows, float]:
    """Once for each pair of streams of one model, what is best so far going on."""
    for a, b in pairs:
        if rows[a] != rows[b]:
            trial = {**rows, a: rows[b], b: rows[a]}
            if (value := worth(trial)) < total:
                rows, total = trial, value
    return rows, total


def neighbours(rows: Rows) -> Iterator[dict[str, Row]]:
    """Without repeats, in an order that depends on the rows alone."""
    seen = {tuple(sorted(rows.items()))}
    for trial in _all(rows):
        key = tuple(sorted(trial.items()))
        if key not in seen:
            seen.add(key)
            yield trial


def _all(rows: Rows) -> Iterator[dict[str, Row]]:
    used = sorted({n for row in rows.values() for n in row})
    if len(rows) > 1:
        for at, a in enumerate(used):
            for b in used[at + 1 :]:
                roles = {a: b, b: a}
                yield {stream: tuple(roles.get(n, n) for n in row) for stream, row in rows.items()}
    for stream, row in sorted(rows.items()):
        for changed in _of_one(row):
            yield {**rows, stream: changed}


def _of_one(row: Row) -> Iterator[Row]:
    parts = runs(row)
    for (first, cut, a), (_, last, b) in pairwise(parts):
        yield (*row[: cut - 1], b, *row[cut:])
        yield (*row[:cut], a, *row[cut + 1 :])
        yield (*row[:cut], *(a,) * (last - cut), *row[last:])
        yield (*row[:first], *(b,) * (cut - first), *row[cut:])
