"""`testbed doctor`: what this machine can do."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from testbed.cli.answer import FAILED, AsJson, say_json
from testbed.cli.options import Kernel

if TYPE_CHECKING:
    from testbed.doctor import Report

KernelOption = Annotated[
    Optional[Kernel],  # noqa: UP045  typer reads the annotation
    typer.Option(help="The kernel that must be usable; by default any will do."),
]


def doctor(kernel: KernelOption = None, as_json: AsJson = False) -> None:
    """Say what this machine can do, and what would mend what it cannot. Exit code 1 when it can run nothing."""
    from testbed.doctor import examine

    report = examine()
    if as_json:
        modes = [asdict(mode) | {"usable": mode.usable} for mode in report.modes]
        say_json({"checks": [asdict(check) for check in report.checks], "modes": modes})
    else:
        _print(report)
    if not any(mode.usable and kernel in (None, mode.kernel) for mode in report.modes):
        raise typer.Exit(FAILED)


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def verdict(ok: bool) -> Text:
        return Text("yes", "green") if ok else Text("no", "bold red")

    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in report.checks:
        table.add_row(verdict(check.ok), Text(check.name), Text(check.found))
        if check.remedy:
            table.add_row("", "", Text(f"-> {check.remedy}", "dim"))
    table.add_row()
    for mode in report.modes:
        text = "usable" if mode.usable else "\n".join(mode.why_not)
        table.add_row(verdict(mode.usable), Text(f"{mode.kernel} kernel, {mode.clock} clock"), Text(text))
    Console().print(table)
