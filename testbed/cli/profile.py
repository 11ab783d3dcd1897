"""`testbed profile`: what the units of a model cost, by arithmetic and, when asked, measured on this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from testbed.cli.answer import AsJson, answering, say_json

if TYPE_CHECKING:
    from nodes.costing.measure import Measured

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model family, such as vit_b16 or gpt2, or a module: FILE.py:NAME.")
]
Tokens = Annotated[
    Optional[int],  # noqa: UP045  typer reads the annotation
    typer.Option(min=1, help="Tokens of the text, where the input is one; and those before the step."),
]
Save = Annotated[Optional[Path], typer.Option(metavar="FILE", help="Write it as JSON, too.")]  # noqa: UP045
Measure = Annotated[bool, typer.Option(help="Also run each unit on this machine, one thread, and tell the median.")]


class CannotSave(Exception):
    """The file could not be written."""


def profile(
    model: ModelName, tokens: Tokens = None, measure: Measure = False, save: Save = None, as_json: AsJson = False
) -> None:
    """Say what each unit of a model costs: FLOPs, weights, what crosses each cut, what a generation keeps.

    Of a model that generates also the next token, after as many others as the text has.
    """
    from nodes.models.config import UnknownFamily
    from testbed.preparation import Failed

    with answering(as_json, wrong=(UnknownFamily, TextTooLong, Failed), failed=(CannotSave,)):
        family = _family(model)
        told = tell(family, tokens) | {"model": model}
        if measure:
            add_measured(told, _measured(family, tokens))
        if save:
            _save(told, save)
    if as_json:
        say_json(told)
    else:
        _print(told)


def _family(model: str) -> str:
    """Of a module the family that was made of it. Raises Failed."""
    if ".py:" not in model:
        return model
    from nodes.models.config import declare
    from testbed.ownmodels import make

    return declare(make(model)["description"]).family


class TextTooLong(ValueError):
    """The family has no position for so many tokens."""


def tell(model: str, tokens: int | None = None) -> dict[str, Any]:
    """The profile as plain values. Raises UnknownFamily, TextTooLong."""
    from nodes.costing.profile import NotGenerating, step_profile
    from nodes.costing.profile import profile as of
    from nodes.models.config import config_of

    config = config_of(model)
    positions = getattr(config, "positions", None)
    if tokens is not None and positions is not None and tokens >= positions:
        raise TextTooLong(f"--tokens {tokens}: {model} has positions for {positions}, and a step needs one of them")
    costs = of(model, tokens)
    told: dict[str, Any] = {
        "model": model,
        "tokens": config.tokens if tokens is None or config.input_dtype != "int64" else tokens,
        "input_bytes": costs.input_bytes,
        "input_class": costs.input_class,
        "units": [{**asdict(unit), "read_bytes": unit.work.read_bytes} for unit in costs.units],
    }
    told["total"] = {name: sum(unit[name] for unit in told["units"]) for name in ("flops", "weight_bytes")}
    try:
        length = config.tokens if tokens is None else tokens
        steps = step_profile(model, length)
    except NotGenerating:
        return told
    told["step"] = {
        "length": length,
        "input_bytes": steps.input_bytes,
        "units": [
            {
                "name": unit.name,
                "flops": unit.flops,
                "read_bytes": unit.read_bytes,
                "output_bytes": unit.output_bytes,
                "kv_bytes_per_token": unit.kv_bytes_per_token,
                "kept_bytes": unit.kept_bytes,
            }
            for unit in steps.units
        ],
    }
    units = told["step"]["units"]
    told["step"]["total"] = {n: sum(u[n] for u in units) for n in ("flops", "read_bytes", "kv_bytes_per_token")}
    return told


def add_measured(told: dict[str, Any], measured: "Measured") -> None:
    """Puts `median_ms` and `gflops_per_s` beside what was computed."""
    for unit, taken_ns in zip(told["units"], measured.pass_ns, strict=True):
        unit.update(_rate(unit["flops"], taken_ns))
    for unit, step_ns in zip(told.get("step", {}).get("units", []), measured.step_ns, strict=False):
        if step_ns is not None:
            unit.update(_rate(unit["flops"], step_ns))


def _rate(flops: int, taken_ns: int) -> dict[str, float]:
    return {"median_ms": taken_ns / 1e6, "gflops_per_s": flops / max(1, taken_ns)}


def _measured(model: str, tokens: int | None) -> "Measured":
    from nodes.costing.measure import measure

    return measure(model, tokens)


def _save(told: dict[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(told, indent=1) + "\n")
    except OSError as error:
        raise CannotSave(f"cannot write {path}: {error.strerror}") from error


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    said = f"{told['model']}, {told['tokens']} tokens: input {_size(told['input_bytes'])}, class {told['input_class']}"
    console.print(_table(f"One pass ({said})", told["units"], ("weight_bytes", "output_bytes", "working_bytes")))
    total = told["total"]
    console.print(f"in all {_count(total['flops'])}FLOP, weights {_size(total['weight_bytes'])}", highlight=False)
    if step := told.get("step"):
        columns = ("read_bytes", "output_bytes", "kv_bytes_per_token", "kept_bytes")
        console.print(_table(f"The next token, after {step['length']} others", step["units"], columns))
        total = step["total"]
        text = f"in all {_count(total['flops'])}FLOP, {_size(total['read_bytes'])} read, "
        console.print(f"{text}{_size(total['kv_bytes_per_token'])} kept of each token", highlight=False)


TITLES = {
    "weight_bytes": "weights",
    "output_bytes": "crosses the cut",
    "working_bytes": "working set",
    "read_bytes": "read",
    "kv_bytes_per_token": "kept a token",
    "kept_bytes": "kept once",
}


def _table(title: str, units: list[dict[str, Any]], columns: tuple[str, ...]) -> Any:
    from rich.table import Table

    measured = any("median_ms" in unit for unit in units)
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    table.add_column("unit")
    for name in ("FLOP", *(TITLES[column] for column in columns), *(("ms", "GFLOP/s") if measured else ())):
        table.add_column(name, justify="right")
    for unit in units:
        cells = [unit["name"], _count(unit["flops"]), *(_size(unit[column]) for column in columns)]
        if "median_ms" in unit:
            cells += [f"{unit['median_ms']:.3f}", f"{unit['gflops_per_s']:.1f}"]
        table.add_row(*cells)
    return table


def _count(number: int) -> str:
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}"
    return f"{number} "


def _size(size_bytes: int) -> str:
    return f"{_count(size_bytes)}B" if size_bytes else "-"
