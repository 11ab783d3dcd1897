"""The decisions of a journal, each with what was proven of it since, and how far it is above the optimum. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Above:
    """By what share of the optimum a decision is above it, at most; exactly where that is `certain`."""

    share: float
    certain: bool


def decisions(records: Iterable[Record]) -> list[Record]:
    """In their order; `proof` is the last one there is of each (testbed/proof/finished.py)."""
    found, proofs = list[Record](), dict[int, Record]()
    for record in records:
        if record["kind"] == "decision":
            found.append(record)
        elif record["kind"] == "proof":
            proofs[record["n"]] = {name: of for name, of in record.items() if name not in ("kind", "t_us", "n")}
    return [{**one, "proof": proofs[one["n"]]} if one["n"] in proofs else one for one in found]


def above(decision: Record) -> Above | None:
    """None: no bound is known."""
    proof, share = decision.get("proof"), decision.get("gap")
    if proof and proof["gap"] is not None:
        return Above(proof["gap"], not proof["open"])
    return None if share is None else Above(share, not share)
