"""Traces of the command line: the options that all commands share, files read and written."""

import hashlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from testbed.trace.series import Series


class Form(StrEnum):
    """The formats that are written."""

    csv = "csv"
    seconds = "seconds"
    mahimahi = "mahimahi"


class Way(StrEnum):
    up = "up"
    down = "down"


class BadOption(Exception):
    """An option that cannot be, or a file that cannot be written; the message says which."""


TraceFile = Annotated[
    Path, typer.Argument(metavar="TRACE", help="A trace; X stands for a pair X.up and X.down when there is no X.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; its side-card goes beside it.")]
Step = Annotated[Optional[str], typer.Option(metavar="DURATION", help="Step between two rows, like 500ms.")]  # noqa: UP045
FormOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--format", metavar="FORMAT", help="The format, when it is not recognised, like iperf3 or ucc5g."),
]
MapOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--map", metavar="OURS=THEIRS,...", help="Columns of another CSV: t_s=Time,up_mbps=UL,rtt_ms=Ping."),
]
To = Annotated[Form, typer.Option(help="The format to write.")]
WayOption = Annotated[Way, typer.Option(help="Which rate, for formats that hold one only.")]


def read(path: Path, form: str | None = None, mapping: str | None = None, as_json: bool = False) -> "Series":
    """A fault ends the command, with file and line."""
    from testbed.cli.answer import WRONG_INPUT, stop
    from testbed.trace.formats import TraceError
    from testbed.trace.lookup import read_trace

    try:
        return read_trace(path, form, None if mapping is None else _columns(mapping))
    except TraceError as error:
        place = f"{path}:{error.line}" if error.line else str(path)
        raise stop(WRONG_INPUT, f"{place}: {error.why}", as_json) from None
    except BadOption as error:
        raise stop(WRONG_INPUT, str(error), as_json) from None


def _columns(mapping: str) -> dict[str, str]:
    found = {}
    for item in mapping.split(","):
        ours, sign, theirs = (part.strip() for part in item.partition("="))
        if not (ours and sign and theirs):
            raise BadOption(f"--map {mapping}: '{item}' is not a column; write ours=theirs, like t_s=Time,up_mbps=UL")
        if ours in found:
            raise BadOption(f"--map {mapping}: '{ours}' is there twice; once is right")
        found[ours] = theirs
    return found


def write_trace(out: Path, series: "Series", to: Form = Form.csv, way: Way = Way.down) -> None:
    """With its side-card. Raises BadOption."""
    from testbed.trace.sidecard import card_path, is_card, to_card

    text, card = exported(series, to, way), card_path(out)
    if card.is_file() and not is_card(card.read_text(errors="replace")):
        raise BadOption(f"{card} is in the way: it is not the side-card of a trace; another name than {out} is right")
    write(out, text)
    write(card, to_card(series, digest(text)))


def exported(series: "Series", to: Form, way: Way) -> str:
    from testbed.trace.export import to_csv, to_mahimahi, to_seconds

    if to is Form.csv:
        return to_csv(series)
    column = series.rate_column(way.value)
    if column is None:
        raise BadOption(f"{series.name} has no rate {way.value}; it has {', '.join(series.columns)}")
    return to_seconds(series, column) if to is Form.seconds else to_mahimahi(series, column)


def duration_us(option: str, text: str, least: int = 1) -> int:
    from testbed import quantity

    try:
        return quantity.positive_duration_us(text) if least else quantity.duration_us(text)
    except quantity.QuantityError as error:
        raise BadOption(f"{option} {text}: {error}") from None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise BadOption(f"{path}: cannot be written: {error.strerror}") from None
    print(f"wrote {path}", file=sys.stderr)
