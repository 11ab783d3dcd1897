"""`testbed trace download`: a recording from its own home, held against its digest."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.answer import AsJson, answering, say_json
from testbed.cli.trace_files import BadOption, write

if TYPE_CHECKING:
    from testbed.trace.datasets import Recording

_DIGEST = re.compile(r"[0-9a-f]{64}")


def download(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|URL", help="A recording, or an https address. Without: a list.")
    ] = None,
    *,
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The folder to put it in.")] = Path(),
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="Of what lies at a URL, from who wrote it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a public recording from its own home; only bytes of the pinned digest are kept."""
    from testbed.trace.download import DownloadError, fetch

    if name is None:
        _list(as_json)
        return
    with answering(as_json, wrong=(BadOption,), failed=(DownloadError,)):
        recording = _wanted(name, sha256)
        if not into.is_dir():
            raise BadOption(f"--into {into}: there is no such folder")
        path = _fetched(recording, into, fetch)
        card = _card(recording, path)
    if as_json:
        say_json({"path": str(path), "card": str(card) if card else None, "sha256": recording.sha256})
    else:
        print(path)


def _wanted(name: str, sha256: str | None) -> "Recording":
    import difflib

    from testbed.trace.datasets import RECORDINGS, Recording, by_name

    if "://" in name:
        if sha256 is None or not _DIGEST.fullmatch(sha256):
            raise BadOption(
                f"{name[:200]}: what lies at a URL is taken only with its digest: --sha256 and 64 of 0-9a-f are right"
            )
        return Recording(name.partition("?")[0].rpartition("/")[2], "", "", name, None, sha256)
    found = by_name(name)
    if found is None:
        close = difflib.get_close_matches(name, [one.name for one in RECORDINGS], 1)
        hint = f"did you mean '{close[0]}'?" if close else "`testbed trace download` lists those that there are"
        raise BadOption(f"there is no recording '{name[:80]}' to download; {hint}")
    if sha256 is not None and sha256 != found.sha256:
        raise BadOption(f"--sha256 {sha256[:80]}: {name} is pinned to {found.sha256}; leave the option out")
    return found


def _fetched(recording: "Recording", into: Path, fetch: Any) -> Path:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(recording.name, total=None)
        path: Path = fetch(recording, into, lambda done, total: shown.update(task, completed=done, total=total))
    return path


def _card(recording: "Recording", path: Path) -> Path | None:
    """A side-card where its data set says more than its format; one that is there stays."""
    import json

    from testbed.trace.sidecard import card_path

    card = card_path(path)
    if recording.recorded is None or card.exists():
        return None
    told = {"recorded": recording.recorded, "made": [f"downloaded from {recording.url}"], "sha256": recording.sha256}
    write(card, json.dumps(told, indent=2) + "\n")
    return card


def _list(as_json: bool) -> None:
    from dataclasses import asdict

    from testbed.trace.datasets import RECORDINGS

    if as_json:
        say_json({"recordings": [asdict(one) for one in RECORDINGS]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "KiB", "licence")
    for one in RECORDINGS:
        table.add_row(one.name, one.of, f"{(one.size_bytes or 0) / 1024:.0f}", one.licence)
    Console().print(table)
