"""`testbed repeat`: a finished run once more, and whether it comes out the same."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.answer import FAILED, AsJson, answering, say_json
from testbed.cli.options import Memory, Out, TimeLimit, read_limits

if TYPE_CHECKING:
    from testbed.repeat import Repeated


def repeat(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run in virtual time.")],
    *,
    out: Out = None,
    memory: Memory = "6G",
    time_limit: TimeLimit = "30min",
    as_json: AsJson = False,
) -> None:
    """Run what a run folder holds once more; exit code 1 when it does not come out the same, to the bit."""
    from testbed.journal import JournalError, NoRun
    from testbed.progress import shown
    from testbed.repeat import NotRepeatable
    from testbed.repeat import repeat as repeat_run
    from testbed.run import RunFailed, RunOptions

    with answering(as_json, wrong=(NoRun, NotRepeatable), failed=(RunFailed, JournalError, OSError)):
        megabytes, wall_limit_s = read_limits(memory, time_limit, as_json)
        options = RunOptions(out=out, memory=megabytes, wall_limit_s=wall_limit_s)
        with shown(sys.stderr) as progress:
            found = repeat_run(run, options, progress)
    if as_json:
        say_json(
            {
                "same": found.difference is None,
                "fingerprint": found.run.summary["fingerprint"],
                "difference": found.difference and asdict(found.difference),
                "versions": found.versions,
                "folder": str(found.run.folder),
            }
        )
    else:
        print(*_told(found), sep="\n")
    if found.difference:
        raise typer.Exit(FAILED)


def _told(found: "Repeated") -> Iterator[str]:
    if found.difference is None:
        yield f"the same to the bit: fingerprint {found.run.summary['fingerprint']}"
    else:
        yield f"not the same: {found.difference}"
        for name, (before, now) in found.versions.items():
            yield f"  {name} was {before} and is {now}"
    yield f"the run: {found.run.folder}"
