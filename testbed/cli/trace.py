"""`testbed trace show|convert|generate`: bandwidth and latency traces."""

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from testbed.cli.answer import AsJson, answering, say_json

if TYPE_CHECKING:
    from testbed.trace.radio import Card
    from testbed.trace.series import Column, Series

app = typer.Typer(help="Bandwidth and latency traces.", no_args_is_help=True)


class Form(StrEnum):
    csv = "csv"
    seconds = "seconds"
    mahimahi = "mahimahi"


class Way(StrEnum):
    up = "up"
    down = "down"


class BadOption(Exception):
    """An option that cannot be, or a file that cannot be written; the message says which."""


TraceFile = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace: our CSV, `seconds Mbit/s`, or mahimahi.")]
Step = Annotated[Optional[str], typer.Option(metavar="DURATION", help="Step between two rows, like 500ms.")]  # noqa: UP045
FormOption = Annotated[Optional[Form], typer.Option("--format", help="The format, when it is not recognised.")]  # noqa: UP045
# column -> title, unit, units inside per unit shown
SHOWN: dict["Column", tuple[str, str, int]] = {
    "rate_bps": ("rate", "Mbit/s", 10**6),
    "up_bps": ("up", "Mbit/s", 10**6),
    "down_bps": ("down", "Mbit/s", 10**6),
    "delay_us": ("delay", "ms", 1000),
    "jitter_us": ("jitter", "ms", 1000),
    "loss_ppm": ("loss", "%", 10**4),
}


@app.command("show")
def show(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Traces.")],
    form: FormOption = None,
    as_json: AsJson = False,
) -> None:
    """Print what traces hold: length, and mean, quantiles and variation of each column."""
    found = [_read(path, form, as_json) for path in traces]
    if as_json:
        say_json({"traces": [_described(path, series) for path, series in zip(traces, found, strict=True)]})
        return
    from rich.console import Console

    for path, series in zip(traces, found, strict=True):
        Console().print(_table(path, series))


@app.command("convert")
def convert(
    trace: TraceFile,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    *,
    to: Annotated[Form, typer.Option(help="The format to write.")] = Form.csv,
    form: FormOption = None,
    way: Annotated[Way, typer.Option(help="Which rate, for formats that hold one only.")] = Way.down,
    step: Step = None,
) -> None:
    """Write a trace in another format, on request in equal steps; what it carries stays the same."""
    from testbed.trace.series import resample

    series = _read(trace, form, as_json=False)
    with answering(False, wrong=(BadOption,)):
        if step is not None:
            series = resample(series, _duration_us("--step", step))
        _write(out, _exported(series, to, way))


@app.command("generate")
def generate(
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The file to write; its side-card goes beside it.")],
    *,
    model: Annotated[str, typer.Option(help="The radio model.")] = "urban",
    seed: Annotated[int, typer.Option(help="The same seed gives the same trace.")] = 1,
    duration: Annotated[str, typer.Option(metavar="DURATION", help="Length, in whole seconds.")] = "120s",
    step: Step = None,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A side-card with all of it, instead of the other options."),
    ] = None,
) -> None:
    """Generate a radio trace (seeded, regimes that take turns) and the side-card that tells how it was made."""
    from testbed.trace.export import to_csv
    from testbed.trace.formats import TraceError
    from testbed.trace.radio import card_to_json
    from testbed.trace.radio import generate as generate_series

    with answering(False, wrong=(BadOption, TraceError)):
        if out.suffix != ".csv":
            raise BadOption(f"{out}: a generated trace is CSV; a name like {out.stem}.csv is right")
        made_from = _card(model, seed, duration, step) if card is None else _card_of(card)
        _write(out, to_csv(generate_series(made_from, out.stem)))
        _write(out.with_suffix(".json"), card_to_json(made_from))


def _read(path: Path, form: Form | None, as_json: bool) -> "Series":
    from testbed.trace.formats import TraceError
    from testbed.trace.lookup import read_trace

    try:
        return read_trace(path, None if form is None else form.value)
    except TraceError as error:
        from testbed.cli.answer import WRONG_INPUT, stop

        place = f"{path}:{error.line}" if error.line else str(path)
        raise stop(WRONG_INPUT, f"{place}: {error.why}", as_json) from None


def _exported(series: "Series", to: Form, way: Way) -> str:
    from testbed.trace.export import to_csv, to_mahimahi, to_seconds

    if to is Form.csv:
        return to_csv(series)
    column = series.rate_column(way.value)
    if column is None:
        raise BadOption(f"{series.name} has no rate {way.value}; it has {', '.join(series.columns)}")
    return to_seconds(series, column) if to is Form.seconds else to_mahimahi(series, column)


def _card(model: str, seed: int, duration: str, step: str | None) -> "Card":
    from testbed.trace.radio import MODELS, Card

    if model not in MODELS:
        raise BadOption(f"--model {model}: there is no such radio model; there are {', '.join(MODELS)}")
    length_us = _duration_us("--duration", duration)
    step_us = 500_000 if step is None else _duration_us("--step", step)
    if length_us % 10**6 or step_us % 1000:
        raise BadOption("--duration takes whole seconds and --step whole milliseconds")
    return Card(seed, length_us // 10**6, MODELS[model], step_ms=step_us // 1000)


def _card_of(path: Path) -> "Card":
    from testbed.trace.radio import card_from_json

    try:
        return card_from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--card {path}: cannot be read: {error}") from None


def _duration_us(option: str, text: str) -> int:
    from testbed.quantity import QuantityError, positive_duration_us

    try:
        return positive_duration_us(text)
    except QuantityError as error:
        raise BadOption(f"{option} {text}: {error}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise BadOption(f"{path}: cannot be written: {error.strerror}") from None
    print(f"wrote {path}", file=sys.stderr)


def _described(path: Path, series: "Series") -> dict[str, Any]:
    from testbed.trace.series import statistics

    columns = {name: asdict(statistics(series, name)) for name in series.columns}
    return {"path": str(path), "rows": len(series.t_us), "length_us": series.length_us, "columns": columns}


def _table(path: Path, series: "Series") -> Any:
    from rich.table import Table
    from rich.text import Text

    from testbed.trace.series import statistics

    title = Text(f"{path}: {series.length_us / 1e6:g} s, {len(series.t_us)} steps")
    table = Table(title=title, title_justify="left")
    for name in ("", "unit", "mean", "p5", "p50", "p95", "least", "most", "variation", "zero"):
        table.add_column(name, justify="left" if name in {"", "unit"} else "right")
    for column in series.columns:
        label, unit, per = SHOWN[column]
        told = statistics(series, column)
        values = (told.mean, told.p5, told.p50, told.p95, told.least, told.most)
        figures = [f"{value / per:.3g}" for value in values]
        table.add_row(label, unit, *figures, f"{told.variation:.2f}", f"{told.zero_share:.0%}")
    return table
