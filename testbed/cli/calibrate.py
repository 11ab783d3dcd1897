"""`testbed calibrate`: how far the links of an experiment are from what they should be."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.answer import FAILED, AsJson, answering, say_json
from testbed.cli.options import (
    ClockOption,
    Kernel,
    KernelOption,
    Memory,
    Out,
    Sets,
    TimeLimit,
    TraceDirs,
    read_limits,
    run_options,
)

SMALLEST = Path(__file__).resolve().parents[2] / "topologies" / "minimal.yaml"
NONE = "—"


def calibrate(
    experiment: Annotated[Path, typer.Argument(metavar="[EXPERIMENT]", help="The experiment, a YAML file.")] = SMALLEST,
    *,
    clock: ClockOption = None,
    kernel: KernelOption = Kernel.guest,
    sets: Sets = None,
    trace_dir: TraceDirs = None,
    out: Out = None,
    memory: Memory = "6G",
    time_limit: TimeLimit = "30min",
    as_json: AsJson = False,
) -> None:
    """Saturate and probe every link direction, alone and all together; exit code 1 when they are off their limits."""
    from testbed.calibrate import calibrate as measure
    from testbed.experiment import ExperimentError
    from testbed.progress import shown
    from testbed.run import RunFailed

    with answering(as_json, wrong=(ExperimentError,), failed=(RunFailed,)):
        options = run_options(
            clock=clock,
            kernel=kernel,
            seed=None,
            sets=sets,
            trace_dirs=trace_dir,
            out=out,
            limits=read_limits(memory, time_limit, as_json),
        )
        with shown(sys.stderr) as progress:
            done = measure(experiment, options, progress)
    if as_json:
        say_json(done.summary | {"folder": str(done.folder)})
    else:
        _print(done.summary)
    if done.summary["verdict"] != "valid":
        raise typer.Exit(FAILED)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    limits = found["limits"]
    title = f"{found['name']} · {found['clock']} time, {found['kernel']} kernel · errors: p50 p95 max"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in ("link", "Mbit/s", "ms"):
        table.add_column(column, justify="left" if column == "link" else "right", no_wrap=True)
    for phase in found["phases"]:
        table.add_column(f"rate %\n{phase}", justify="right")
        table.add_column(f"delay us\n{phase}", justify="right")
    for rows in zip(*found["phases"].values(), strict=True):
        one = rows[0]
        cells = [Text(f"{one['link']} {one['direction']}"), Text(f"{one['rate_bps'] / 1e6:g}")]
        cells.append(Text(f"{one['delay_us'] / 1000:g}"))
        for row in rows:
            cells.append(_cell(row["rate_error"], 100, 100 * limits["rate_error"], "not saturated"))
            cells.append(_cell(row["delay_error_us"], 1, limits["delay_error_us"], row["unprobed"] or "lost"))
        table.add_row(*cells)
    console = Console()
    console.print(table)
    for reason in found["reasons"]:
        console.print(Text(f"INVALID: {reason}", "bold red"))
    console.print(Text(f"limits of the p95: {limits['rate_error']:.0%} and {limits['delay_error_us'] / 1000:g} ms"))


def _short(value: float) -> str:
    """Two figures, no exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value >= 0.01 or not value else "<.01"


def _cell(error: dict[str, float | None], factor: float, limit: float, otherwise: str) -> Any:
    from rich.text import Text

    levels = [error[name] for name in ("p50", "p95", "p100")]
    if any(level is None for level in levels):
        return Text(otherwise, "dim")
    shown = " ".join(_short(factor * level) for level in levels if level is not None)
    return Text(shown, "bold red" if factor * (levels[1] or 0) > limit else "")
