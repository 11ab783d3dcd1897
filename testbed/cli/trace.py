"""`testbed trace show|convert|resample|scale|cut|join|fit|generate|compare|table|download`: traces."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from testbed.cli import trace_download, trace_edit, trace_model
from testbed.cli.answer import AsJson, answering, say_json
from testbed.cli.trace_files import BadOption, FormOption, MapOption, read

if TYPE_CHECKING:
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


app.command("fit")(trace_model.fit)
app.command("generate")(trace_model.generate)
app.command("compare")(trace_model.compare)
app.command("table")(trace_model.table)
app.command("download")(trace_download.download)


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
