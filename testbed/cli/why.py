"""`testbed why`: the decisions of a finished run, what was behind each, and whether one was the best there was."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.answer import AsJson, answering, say_json
from testbed.decisions import Record, above, decisions

PROVE = (
    "Seek the optimum of the decision, or of all of which it is not certain yet, and keep the proof in the run folder: "
    "takes seconds each, or minutes where many streams crowd on few nodes."
)


def why(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    *,
    decision: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default the last that moved.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help=PROVE)] = False,
    as_json: AsJson = False,
) -> None:
    """Say why the controller decided as it did: what it saw, what triggered, what it weighed, why the rest lost."""
    from testbed.journal import JournalError, NoRun, recorded
    from testbed.proof.recalled import NotProvable
    from testbed.report.why import NoDecision, detail, overview, pick

    with answering(as_json, wrong=(NoRun, NoDecision, NotProvable), failed=(JournalError, OSError)):
        found = decisions(recorded(run))
        chosen = pick(found, decision)
        if prove:
            found = _proven(run, found, chosen, alone=decision is not None)
            chosen = pick(found, decision)
    if as_json:
        say_json({"decisions": found} if decision is None else chosen)
        return
    if decision is None:
        print(*overview(found), "", sep="\n")
    print(*detail(chosen), sep="\n")


def _proven(run: Path, found: Sequence[Record], chosen: Record, *, alone: bool) -> list[Record]:
    """With proofs of `chosen` (raises NotProvable) alone, or of it and all that are not known to be the best."""
    from testbed.progress import shown
    from testbed.proof.finished import proven, settled
    from testbed.proof.recalled import NotProvable
    from testbed.report import SUMMARY, write_results

    proofs = list[Record]()
    with shown(sys.stderr) as progress:
        for record in found:
            known = above(record)
            if record is not chosen and (alone or not known or known.certain):
                proofs.append(record)
                continue
            if not settled(record):
                progress.phase(f"seeking the optimum of decision {record['n']}")
            try:
                proofs.append(proven(run, record, progress))
            except NotProvable as error:
                if alone:
                    raise
                proofs.append({**record, "unproven": str(error)})
    if proofs != found and (run / SUMMARY).exists():
        write_results(run)
    return proofs
