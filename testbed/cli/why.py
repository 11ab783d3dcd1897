"""`testbed why`: the decisions of a finished run, and what was behind each."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.answer import AsJson, answering, say_json


class NoRun(Exception):
    """The folder is none of a run."""


def why(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    *,
    decision: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default the last that moved.")] = None,
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
    if as_json:
        say_json({"decisions": [dict(r) for r in found]} if decision is None else dict(chosen))
        return
    if decision is None:
        print(*overview(found), "", sep="\n")
    print(*detail(chosen), sep="\n")
