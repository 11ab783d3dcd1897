"""What of a run repeats: one short word for all of it, and where two runs first differ. Pure.

In virtual time the same plan on the same installation gives the same records, to the bit. Left out is what real time
has a part in: how long the processor took, what else is on the machine, and proofs, which are sought afterwards.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

Record = Mapping[str, Any]

REAL_KINDS = frozenset({"proof"})
REAL_FIELDS: Mapping[str, frozenset[str]] = {
    "decision": frozenset({"duration_us"}),
    "end": frozenset({"wall_s"}),
    "run": frozenset({"versions"}),
}
DIGITS = 16


class _Nothing:
    """In place of a field that a record has not."""

    def __str__(self) -> str:
        return "nothing"


NOTHING = _Nothing()


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a run parts from one before it: `what` was and is, in the first records that differ."""

    t_us: int
    what: str
    records: int  # of either run that the other one has not
    of: int

    def __str__(self) -> str:
        count = f"{self.records:,} of {self.of:,} records are others"
        return f"from {self.t_us / 1e6:.6f} s on, where {self.what}; {count}"


def repeating(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The records that repeat, without what does not."""
    for record in records:
        kind = record["kind"]
        if kind not in REAL_KINDS:
            left_out = REAL_FIELDS.get(kind, frozenset())
            yield {name: value for name, value in record.items() if name not in left_out}


def fingerprint(records: Iterable[Record]) -> str | None:
    """16 hexadecimal digits of the SHA-256 of a merged journal; None: on the real clock, or without an end."""
    told, began, ended = hashlib.sha256(), False, False
    for record in repeating(records):
        began |= record["kind"] == "run" and record["clock"] == "virtual"
        ended |= record["kind"] == "end"
        told.update(_line(record).encode())
    return told.hexdigest()[:DIGITS] if began and ended else None


def first_difference(before: Iterable[Record], now: Iterable[Record]) -> Difference | None:
    """Between two merged journals; None when they have the same fingerprint."""
    mine, others = list(repeating(before)), list(repeating(now))
    for first, second in zip_longest(mine, others):
        if first is None or second is None:
            return _difference(first or second, f"{_named(first)} was, and {_named(second)} is", mine, others)
        if _line(first) != _line(second):
            return _difference(min(first, second, key=_time), _parting(first, second), mine, others)
    return None


def _difference(record: Record, what: str, one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Difference:
    mine, others = Counter(map(_line, one)), Counter(map(_line, other))
    apart = max((mine - others).total(), (others - mine).total())
    return Difference(record["t_us"], what, apart, max(len(one), len(other)))


def _parting(first: Record, second: Record) -> str:
    """The first field that is not the same, or the two records where they are of unlike kinds."""
    if first["kind"] != second["kind"]:
        return f"{_named(first)} was, and {_named(second)} is"
    where, mine, others = next(_unlike("", first, second))
    return f"{first['kind']}{where} was {mine} and is {others}"


def _unlike(where: str, first: object, second: object) -> Iterator[tuple[str, str, str]]:
    """(path, value, other value) of what differs, in the order of the record."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in {**first, **second}:
            yield from _unlike(f"{where}.{name}", first.get(name, NOTHING), second.get(name, NOTHING))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (mine, others) in enumerate(zip(first, second, strict=True)):
            yield from _unlike(f"{where}[{number}]", mine, others)
    elif _text(first) != _text(second):  # 1 and 1.0 are equal, and not the same record
        yield where, _short(first), _short(second)


def _short(value: object) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else _text(value)


def _named(record: Record | None) -> str:
    return "nothing" if record is None else f"a record `{record['kind']}` at {record['t_us'] / 1e6:.6f} s"


def _time(record: Record) -> int:
    return int(record["t_us"])


def _line(record: Record) -> str:
    return _text(record) + "\n"


def _text(value: object) -> str:
    return str(value) if value is NOTHING else json.dumps(value, sort_keys=True, separators=(",", ":"))
