"""The table a run ends with, for the terminal: one column a run."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from testbed.report.rows import TITLE, Cell, sections

STYLES = {"": "", "good": "green", "bad": "bold red"}


def table(summaries: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """For `Console.print`: the figures of the runs side by side, then why a run is INVALID, in full."""
    grid = Table(title=_title(summaries), title_justify="left", title_style="bold", header_style="bold")
    grid.add_column("latency: p50 / p95 / p99", max_width=26)
    for name in summaries:
        grid.add_column(Text(name), justify="right", overflow="fold")
    for section in sections(summaries):
        grid.add_section()
        if section.title != TITLE:
            grid.add_row(Text(section.title, style="italic cyan"))
        for label, cells in section.rows:
            grid.add_row(Text(label), *map(_cell, cells))
    return Group(grid, *_reasons(summaries))


def _title(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(summaries.values()), None)
    if first is None or first["name"] is None:
        return "no run"
    sla = first["sla"]
    limit = f"p{sla['percentile']} ≤ {sla['latency_ms']:g} ms over {sla['window_s']:g} s"
    return f"{first['name']} · seed {first['seed']} · {first['clock']} time · SLA {limit}"


def _cell(cell: Cell) -> Text:
    return Text(cell.text, style=STYLES[cell.mood])


def _reasons(summaries: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    return [
        Text(f"{name} is INVALID: {reason}", style=STYLES["bad"])
        for name, summary in summaries.items()
        for reason in summary["fidelity"]["reasons"]
    ]
