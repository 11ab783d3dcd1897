"""Proofs of the decisions of a finished run, kept in its journal: a part of their own, so what was there stays.

After each run the optimum is sought of the decisions that are farthest from certain, with little effort; `testbed why
--prove` seeks it of all, with more.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.decisions import Record, decisions
from testbed.journal import PARTS, Journal, merge, read
from testbed.progress import Watcher
from testbed.proof.certificate import ATTEMPTS, QUICK, Attempts, certify
from testbed.proof.recalled import NotProvable, recalled, told

PART = "proof"
MOST = 30  # decisions that are proven after a run
ROUNDED_US = 1.0  # bounds in a journal


def prove_worst(run: Path, watcher: Watcher) -> None:
    """Of the decisions whose bound is known and not met, those farthest from it; what cannot be proven is left."""
    doubtful = [one for one in decisions(read(merge(run))) if one.get("gap")]
    worst = sorted(doubtful, key=lambda one: -one["gap"])[:MOST]
    if worst:
        watcher.phase(f"seeking the optimum of {len(worst)} decision{'s' if len(worst) > 1 else ''}")
    for one in sorted(worst, key=lambda one: one["n"]):
        with suppress(NotProvable):
            proven(run, one, watcher, QUICK)


def proven(run: Path, decision: Record, watcher: Watcher, attempts: Attempts = ATTEMPTS) -> Record:
    """The decision with its proof, sought unless it is settled. Raises NotProvable."""
    if settled(decision, attempts):
        return decision
    asked, number = recalled(run, decision), decision["n"]
    bounds = decision["lower_bound_us"], (decision.get("proof") or {}).get("bound_us", 0)
    known_us = max(bounds) - ROUNDED_US
    found = certify(
        asked.problem,
        asked.snapshot,
        asked.looked,
        asked.rows,
        weights=asked.weights,
        sought=asked.sought,
        known_us=known_us,
        attempts=attempts,
        so_far=lambda gap: watcher.phase(
            f"seeking the optimum of decision {number}: at most {100 * gap:.2f} % above it"
        ),
    )
    proof = {**told(asked, found, known_us), "attempts": len(attempts)}
    _keep(run, decision, proof)
    return {**decision, "proof": proof}


def settled(decision: Record, attempts: Attempts = ATTEMPTS) -> bool:
    """Whether its optimum is known, or as much was tried already."""
    known = decision.get("proof")
    return known is not None and (not known["open"] or known["attempts"] >= len(attempts))


def _keep(run: Path, decision: Record, proof: Mapping[str, Any]) -> None:
    if not any((run / PARTS).glob("*.jsonl")):
        return  # there is only what parts were merged to, and this part alone would be merged to less
    with Journal(run, PART) as journal:
        journal.record("proof", decision["t_us"], n=decision["n"], **proof)
