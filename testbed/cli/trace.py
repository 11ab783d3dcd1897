"""`testbed trace show|convert|resample|scale|cut|join|fit|generate`: bandwidth and latency traces."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from testbed.cli import trace_edit
from testbed.cli.answer import AsJson, answering, say_json
from testbed.cli.trace_files import BadOption, FormOption, MapOption, Step, duration_us, read, write

if TYPE_CHECKING:
    from testbed.trace.fit import Agreement
    from testbed.trace.radio import Card
    from testbed.trace.regimes import RegimeCard
    from testbed.trace.series import Series

app = typer.Typer(help="Bandwidth and latency traces.", no_args_is_help=True)


@app.command("show")
def show(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Traces.")],
    form: FormOption = None,
    mapping: MapOption = None,
    png: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Draw them all into a PNG too.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Print what traces hold: length, how recorded, statistics of each column, and rate and delay over time."""
    found = [read(path, form, mapping, as_json) for path in traces]
    if png is not None:
        from testbed.trace.picture import save_png

        with answering(as_json, wrong=(BadOption,)):
            try:
                save_png(found, png)
            except OSError as error:
                raise BadOption(f"--png {png}: cannot be written: {error.strerror}") from None
    if as_json:
        say_json({"traces": [_described(path, series) for path, series in zip(traces, found, strict=True)]})
        return
    from rich.console import Console

    console = Console()
    for path, series in zip(traces, found, strict=True):
        console.print(_table(path, series))
        for line in _told(series, console.width):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


app.command("convert")(trace_edit.convert)
app.command("resample")(trace_edit.resample)
app.command("scale")(trace_edit.scale)
app.command("cut")(trace_edit.cut)
app.command("join")(trace_edit.join)


@app.command("fit")
def fit(
    recordings: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Recordings of one kind of link.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CARD.json", help="The card to write.")],
    step: Step = None,
    levels: Annotated[int, typer.Option(min=1, max=20, help="Levels of the rate, outages apart.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the traces that the card makes.")] = 1,
    form: FormOption = None,
    mapping: MapOption = None,
    as_json: AsJson = False,
) -> None:
    """Fit a model of regimes to recordings, and print how well what it draws agrees with them."""
    from testbed.trace.fit import agreement, long_draw
    from testbed.trace.fit import fit as fitted
    from testbed.trace.formats import TraceError
    from testbed.trace.regimes import card_to_json

    found = [read(path, form, mapping, as_json) for path in recordings]
    with answering(as_json, wrong=(BadOption, TraceError)):
        step_us = 10**6 if step is None else duration_us("--step", step)
        if step_us % 1000 or not 10_000 <= step_us <= 60 * 10**6:
            raise BadOption(f"--step {step}: whole milliseconds from 10ms to 60s are right")
        card = fitted(found, step_us // 1000, levels, seed)
        drawn = long_draw(card)
        told = [agreement(found, drawn, column, card.step_ms) for column in drawn.columns]
        facts = {one.column: asdict(one) for one in told}
        write(out, card_to_json(replace(card, fitted={**card.fitted, "agreement": facts})))
    if as_json:
        say_json({"card": str(out), "agreement": facts})
        return
    from rich.console import Console

    Console().print(_agreement_table(told))


@app.command("generate")
def generate(
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The file to write; its side-card goes beside it.")],
    *,
    model: Annotated[str, typer.Option(help="The radio model.")] = "urban",
    seed: Annotated[Optional[int], typer.Option(help="The same seed gives the same trace; 1 or the card's.")] = None,  # noqa: UP045
    duration: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="DURATION", help="Length, in whole seconds; 120s or the card's."),
    ] = None,
    step: Step = None,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A side-card, or a card of `testbed trace fit`, instead of --model and --step."),
    ] = None,
) -> None:
    """Generate a radio trace (seeded, regimes that take turns) and the side-card that tells how it was made."""
    from testbed.trace import radio, regimes
    from testbed.trace.export import to_csv
    from testbed.trace.formats import TraceError

    with answering(False, wrong=(BadOption, TraceError)):
        if out.suffix != ".csv":
            raise BadOption(f"{out}: a generated trace is CSV; a name like {out.stem}.csv is right")
        made_from = _card(model, step) if card is None else _card_of(card)
        if seed is not None:
            made_from = replace(made_from, seed=seed)
        if duration is not None:
            made_from = replace(made_from, duration_s=_whole_seconds(duration))
        if isinstance(made_from, regimes.RegimeCard):
            series, told = regimes.generate(made_from, out.stem), regimes.card_to_json(made_from)
        else:
            series, told = radio.generate(made_from, out.stem), radio.card_to_json(made_from)
        write(out, to_csv(series))
        write(out.with_suffix(".json"), told)


def _whole_seconds(duration: str) -> int:
    length_us = duration_us("--duration", duration)
    if length_us % 10**6:
        raise BadOption("--duration takes whole seconds and --step whole milliseconds")
    return length_us // 10**6


def _card(model: str, step: str | None) -> "Card":
    from testbed.trace.radio import MODELS, Card

    if model not in MODELS:
        raise BadOption(f"--model {model}: there is no such radio model; there are {', '.join(MODELS)}")
    step_us = 500_000 if step is None else duration_us("--step", step)
    if step_us % 1000:
        raise BadOption("--duration takes whole seconds and --step whole milliseconds")
    return Card(1, 120, MODELS[model], step_ms=step_us // 1000)


def _card_of(path: Path) -> "Card | RegimeCard":
    """The model says whose it is; what is none of either is told as the older one."""
    import json

    from testbed.trace import radio, regimes

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--card {path}: cannot be read: {error}") from None
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if isinstance(raw, dict) and raw.get("model") == regimes.MODEL:
        return regimes.card_from_json(text)
    return radio.card_from_json(text)


def _described(path: Path, series: "Series") -> dict[str, Any]:
    from testbed.trace.series import statistics

    columns = {name: asdict(statistics(series, name)) for name in series.columns}
    return {
        "path": str(path),
        "rows": len(series.t_us),
        "length_us": series.length_us,
        "recorded": series.recorded,
        "scale_ppm": series.scale_ppm,
        "made": list(series.made),
        "extras": list(series.extras),
        "columns": columns,
    }


def _table(path: Path, series: "Series") -> Any:
    from rich.table import Table
    from rich.text import Text

    from testbed.trace.picture import SHOWN
    from testbed.trace.series import statistics

    title = Text(f"{path}: {series.length_us / 1e6:g} s, {len(series.t_us)} steps, recorded: {series.recorded}")
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


def _told(series: "Series", width: int) -> list[str]:
    """What was done to it, and the drawings."""
    from testbed.trace.picture import draw
    from testbed.trace.series import SATURATING

    lines = [f"  {told}" for told in series.made]
    if series.extras:
        lines.append(f"  kept beside: {', '.join(series.extras)}")
    if series.recorded == "saturating":
        lines.append(f"  it {SATURATING}")
    for column in series.columns:
        if column.endswith("_bps") or column == "delay_us":
            lines += draw(series, column, width)
    return lines


def _agreement_table(told: list["Agreement"]) -> Any:
    from rich.table import Table

    from testbed.trace.picture import SHOWN

    table = Table(title="What was recorded and what the model draws", title_justify="left")
    for name in ("", "recorded", "drawn"):
        table.add_column(name, justify="right" if name else "left")
    for one in told:
        label, unit, per = SHOWN[one.column]
        for percent, (recorded, drawn) in one.quantiles.items():
            table.add_row(f"{label}, {unit}: p{percent}", f"{recorded / per:.4g}", f"{drawn / per:.4g}")
        for lag, (was, now) in one.correlation.items():
            table.add_row(f"{label}: autocorrelation at {lag} s", f"{was:.2f}", f"{now:.2f}")
        if one.outage is not None:
            table.add_row(f"{label}: outage share", f"{one.outage[0]:.1%}", f"{one.outage[1]:.1%}")
        table.add_row(
            f"{label}: largest distance of the distributions (KS)", "", f"{one.distance:.3f}", end_section=True
        )
    return table
