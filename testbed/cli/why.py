"""`testbed why`: the decisions of a finished run, what was behind each, and whether one was the best there was."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.answer import AsJson, answering, say_json

PROVE = (
    "Seek the optimum anew, of the decision or of all that are not known to be the best: takes seconds each, or "
    "minutes where many streams crowd on few nodes."
)


class NoRun(Exception):
    """The folder is none of a run."""


def why(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    *,
    decision: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default the last that moved.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help=PROVE)] = False,
    as_json: AsJson = False,
) -> None:
    """Say why the controller decided as it did: what it saw, what triggered, what it weighed, why the rest lost."""
    from testbed.journal import JournalError, merge, read
    from testbed.proof.recalled import NotProvable
    from testbed.report.why import NoDecision, decisions, detail, overview, pick

    with answering(as_json, wrong=(NoRun, NoDecision, NotProvable), failed=(JournalError, OSError)):
        if not (run / "parts").is_dir() and not (run / "journal.jsonl").is_file():
            raise NoRun(f"{run}: no run folder; `testbed run` names it at its end")
        found = decisions(read(merge(run)))
        chosen = pick(found, decision)
        if prove and decision is not None:
            chosen = _proven(run, chosen)
        elif prove:
            found = [_tried(run, record) if record.get("gap") or record is chosen else record for record in found]
            chosen = pick(found, None)
    if as_json:
        say_json({"decisions": found} if decision is None else chosen)
        return
    if decision is None:
        print(*overview(found), "", sep="\n")
    print(*detail(chosen), sep="\n")


def _tried(run: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    from testbed.proof.recalled import NotProvable

    try:
        return _proven(run, record)
    except NotProvable as error:
        return {**record, "unproven": str(error)}


def _proven(run: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the proof in it; raises NotProvable."""
    from testbed.progress import shown
    from testbed.proof.certificate import certify
    from testbed.proof.recalled import recalled, told

    asked, doing = recalled(run, record), f"seeking the optimum of decision {record['n']}"
    with shown(sys.stderr) as progress:
        progress.phase(doing)
        known_us = record["lower_bound_us"] - 1.0  # it was rounded
        found = certify(
            asked.problem,
            asked.snapshot,
            asked.looked,
            asked.rows,
            known_us=known_us,
            so_far=lambda gap: progress.phase(f"{doing}: at most {100 * gap:.2f} % above it"),
        )
    return {**record, "proof": told(asked, found)}
