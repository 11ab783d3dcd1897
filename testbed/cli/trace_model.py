"""`testbed trace fit|generate|compare|table`: models of recordings, and how well what they draw agrees with them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.answer import AsJson, answering, say_json
from testbed.cli.trace_files import BadOption, FormOption, MapOption, digest, duration_us, read, write

if TYPE_CHECKING:
    from testbed.trace.agreement import Agreement
    from testbed.trace.radio import Card
    from testbed.trace.regimes import RegimeCard
    from testbed.trace.series import Column, Series

Up = Annotated[
    list[Path] | None,
    typer.Option("--up", metavar="TRACE", help="A recording of the way up; may be given often. Others are then not."),
]
Step = Annotated[str, typer.Option(metavar="DURATION", help="Step between two rows, like 500ms.")]


def fit(
    recordings: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Recordings of one kind of link.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CARD.json", help="The card to write.")],
    up: Up = None,
    step: Step = "1s",
    levels: Annotated[int | None, typer.Option(min=1, max=20, help="Of the rate; without: what agrees best.")] = None,
    seed: Annotated[int, typer.Option(help="Of the traces that the card makes.")] = 1,
    form: FormOption = None,
    mapping: MapOption = None,
    as_json: AsJson = False,
) -> None:
    """Fit a model of regimes to recordings, and print how well what it draws agrees with them."""
    from testbed.trace.agreement import agreement, long_draw
    from testbed.trace.fit import fit as fitted
    from testbed.trace.formats import TraceError
    from testbed.trace.regimes import card_to_json

    found = _directed(recordings, up or [], form, mapping)
    with answering(as_json, wrong=(BadOption, TraceError)):
        card = fitted(found, _step_ms(step), levels, seed)
        drawn = long_draw(card)
        told = [agreement(found, drawn, column, card.step_ms) for column in drawn.columns]
        facts = {one.column: asdict(one) for one in told}
        sources = [one for path in (*recordings, *(up or [])) for one in _sources(path)]
        write(out, card_to_json(replace(card, fitted={**card.fitted, "recordings": sources, "agreement": facts})))
    _say(told, as_json, {"card": str(out), "agreement": facts})


def compare(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace, generated or not.")],
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="What it should be like.")],
    *,
    up: Up = None,
    step: Step = "1s",
    form: FormOption = None,
    as_json: AsJson = False,
) -> None:
    """Print how well a trace agrees with recordings, in each column that both have."""
    from testbed.trace.agreement import agreement
    from testbed.trace.series import resample

    found, mine = _directed(recordings, up or [], form), read(trace)
    with answering(as_json, wrong=(BadOption,)):
        step_ms = _step_ms(step)
        columns = [column for column in mine.columns if any(column in one.columns for one in found)]
        if not columns:
            raise BadOption(f"{trace} has {', '.join(mine.columns)}, of which no recording has any")
        stepped = resample(mine, step_ms * 1000)
        told = [agreement(found, stepped, column, step_ms) for column in columns]
    _say(told, as_json, {"agreement": {one.column: asdict(one) for one in told}})


def table(cards: Annotated[list[Path], typer.Argument(metavar="CARD.json...", help="Cards of `trace fit`.")]) -> None:
    """Print, as Markdown, what cards keep of how well their models agree with the recordings."""
    from testbed.trace.agreement import markdown
    from testbed.trace.formats import TraceError
    from testbed.trace.regimes import RegimeCard

    with answering(False, wrong=(BadOption, TraceError)):
        found = {path.stem: _card_of(path) for path in cards}
        print(markdown({name: card for name, card in found.items() if isinstance(card, RegimeCard)}), end="")


def generate(
    out: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT.csv]", help="The file to write, its side-card beside it. Without: printed."),
    ] = None,
    *,
    model: Annotated[
        str, typer.Option(metavar="NAME|CARD.json", help="A radio model (urban, driving) or a card.")
    ] = "urban",
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same trace; 1 or the card's.")] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Length, in whole seconds; 120s or the card's.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Between two rows, of a radio model; 500ms.")
    ] = None,
) -> None:
    """Draw a trace from a model (seeded, regimes that take turns), and the side-card that makes it again."""
    from testbed.trace.export import to_csv
    from testbed.trace.formats import TraceError

    with answering(False, wrong=(BadOption, TraceError)):
        if out is not None and out.suffix != ".csv":
            raise BadOption(f"{out}: a generated trace is CSV; a name like {out.stem}.csv is right")
        card = _model(model, step)
        if seed is not None:
            card = replace(card, seed=seed)
        if duration is not None:
            card = replace(card, duration_s=_whole_seconds(duration))
        text = to_csv(_drawn(card, out.stem if out else "generated"))
        if out is None:
            print(text, end="")
            return
        write(out, text)
        write(out.with_suffix(".json"), _written(card, digest(text)))


def _drawn(card: "Card | RegimeCard", name: str) -> "Series":
    from testbed.trace import radio, regimes

    return regimes.generate(card, name) if isinstance(card, regimes.RegimeCard) else radio.generate(card, name)


def _written(card: "Card | RegimeCard", sha256: str) -> str:
    from testbed.trace import radio, regimes

    if isinstance(card, regimes.RegimeCard):
        return regimes.card_to_json(card, sha256)
    return radio.card_to_json(card, sha256)


def _directed(
    paths: Sequence[Path], up: Sequence[Path], form: str | None, mapping: str | None = None
) -> list["Series"]:
    """A rate without a direction is that down; with `up`, only those have the rate up, and nothing else."""
    found = []
    for path in paths:
        series = read(path, form, mapping)
        columns: dict[Column, tuple[int, ...]] = {
            ("down_bps" if name == "rate_bps" else name): values for name, values in series.columns.items()
        }
        if up:
            columns.pop("up_bps", None)
        if columns:
            found.append(replace(series, columns=columns))
    for path in up:
        series = read(path, form, mapping)
        column = series.rate_column("up")
        with answering(False, wrong=(BadOption,)):
            if column is None:
                raise BadOption(f"--up {path}: it has no rate up; it has {', '.join(series.columns)}")
        found.append(replace(series, columns={"up_bps": series.columns[column]}))
    return found


def _sources(path: Path) -> list[dict[str, str]]:
    """By name and digest, and of which data set if that is known."""
    import hashlib

    from testbed.trace.datasets import by_digest

    files = [path] if path.exists() else [path.with_name(f"{path.name}.{way}") for way in ("up", "down")]
    told = []
    for file in files:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        known = by_digest(sha256)
        told.append({"name": known.name, "of": known.of} if known else {"name": file.name})
        told[-1]["sha256"] = sha256
    return told


def _step_ms(step: str) -> int:
    step_us = duration_us("--step", step)
    if step_us % 1000 or not 10_000 <= step_us <= 60 * 10**6:
        raise BadOption(f"--step {step}: whole milliseconds from 10ms to 60s are right")
    return step_us // 1000


def _whole_seconds(duration: str) -> int:
    length_us = duration_us("--duration", duration)
    if length_us % 10**6:
        raise BadOption(f"--duration {duration}: whole seconds are right")
    return length_us // 10**6


def _model(model: str, step: str | None) -> "Card | RegimeCard":
    from testbed.trace.radio import MODELS, Card

    if model in MODELS:
        step_us = 500_000 if step is None else duration_us("--step", step)
        if step_us % 1000:
            raise BadOption(f"--step {step}: whole milliseconds are right")
        return Card(1, 120, MODELS[model], step_ms=step_us // 1000)
    if not model.endswith(".json") and not Path(model).exists():
        raise BadOption(f"--model {model}: there is no such radio model; there are {', '.join(MODELS)}, and cards")
    if step is not None:
        raise BadOption(f"--step {step}: that of a card is fitted; leave the option out")
    return _card_of(Path(model))


def _card_of(path: Path) -> "Card | RegimeCard":
    """The model says whose it is; what is none of either is told as the older one."""
    from testbed.trace import radio, regimes
    from testbed.trace.formats import TraceError

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"{path}: cannot be read: {error}") from None
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    try:
        if isinstance(raw, dict) and raw.get("model") == regimes.MODEL:
            return regimes.card_from_json(text)
        return radio.card_from_json(text)
    except TraceError as fault:
        raise BadOption(f"{path}: {fault.why}") from None


def _say(told: Sequence["Agreement"], as_json: bool, facts: dict[str, Any]) -> None:
    if as_json:
        say_json(facts)
        return
    from rich.console import Console

    Console().print(_drawn_up(told))


def _drawn_up(told: Sequence["Agreement"]) -> Any:
    from rich.table import Table

    from testbed.trace.picture import SHOWN

    table = Table(title="What was recorded and what is drawn", title_justify="left")
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
        table.add_row(f"{label}: largest distance of the distributions (KS)", "", f"{one.distance:.3f}")
        table.add_row(f"{label}: the same, of the recordings' halves", f"{one.halves:.3f}", "", end_section=True)
    return table
