"""`testbed why`: the decisions of a finished run, what was behind each, and whether one was the best there was."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.answer import AsJson, answering, say_json

PROVE = "Seek the optimum of the decision anew: takes seconds, or minutes where many streams crowd on few nodes."


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
    from testbed.report.why import NoDecision, decisions, detail, overview, pick

    with answering(as_json, wrong=(NoRun, NoDecision), failed=(JournalError, OSError)):
        if not (run / "parts").is_dir() and not (run / "journal.jsonl").is_file():
            raise NoRun(f"{run}: no run folder; `testbed run` names it at its end")
        found = decisions(read(merge(run)))
        chosen = pick(found, decision)
        if prove:
            chosen = {**chosen, "proof": _proof(run, chosen, as_json)}
    if as_json:
        whole = [chosen if record["n"] == chosen["n"] else record for record in found]
        say_json({"decisions": whole} if decision is None else chosen)
        return
    if decision is None:
        print(*overview(found), "", sep="\n")
    print(*detail(chosen), sep="\n")


def _proof(run: Path, record: Mapping[str, Any], as_json: bool) -> dict[str, Any]:
    from testbed.progress import shown
    from testbed.proof.certificate import certify
    from testbed.proof.recalled import NotProvable, recalled, told

    with answering(as_json, wrong=(NotProvable,)):
        question = recalled(run, record)
    with shown(sys.stderr) as progress:
        progress.phase(f"seeking the optimum of decision {record['n']}")
        known_us = record["lower_bound_us"] - 1.0  # it was rounded
        found = certify(question.problem, question.snapshot, question.looked, question.rows, known_us)
    return told(question, found)
