"""`testbed trace convert|resample|scale|cut|join`: a trace, or several, to another."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from testbed.cli.answer import answering
from testbed.cli.trace_files import (
    BadOption,
    Form,
    FormOption,
    MapOption,
    Out,
    Step,
    To,
    TraceFile,
    Way,
    WayOption,
    duration_us,
    read,
    write_trace,
)


class End(StrEnum):
    hold = "hold"
    loop = "loop"
    stop = "stop"


class How(StrEnum):
    saturating = "saturating"
    probing = "probing"
    goodput = "goodput"
    capacity = "capacity"
    generated = "generated"
    unknown = "unknown"


def convert(
    trace: TraceFile,
    out: Out,
    *,
    to: To = Form.csv,
    form: FormOption = None,
    mapping: MapOption = None,
    down: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="TRACE", help="Rates down; those of TRACE are then the rates up."),
    ] = None,
    way: WayOption = Way.down,
    step: Step = None,
    recorded: Annotated[
        Optional[How],  # noqa: UP045
        typer.Option(help="How it was recorded, if you know better than the format."),
    ] = None,
) -> None:
    """Write a trace in another format, on request in equal steps; what it carries stays the same."""
    from testbed.trace.edit import pair
    from testbed.trace.formats import TraceError
    from testbed.trace.series import resample as resampled

    series = read(trace, form, mapping)
    other = None if down is None else read(down, form, mapping)
    with answering(False, wrong=(BadOption, TraceError)):
        if other is not None:
            series = pair(series, other, trace.stem)
        if step is not None:
            series = resampled(series, duration_us("--step", step))
        if recorded is not None:
            series = replace(series, recorded=recorded.value)
        write_trace(out, series, to, way)


def resample(
    trace: TraceFile,
    out: Out,
    *,
    step: Annotated[str, typer.Option(metavar="DURATION", help="Step between two rows, like 500ms.")],
    to: To = Form.csv,
    form: FormOption = None,
    way: WayOption = Way.down,
) -> None:
    """Means over equal steps."""
    from testbed.trace.series import resample as resampled

    series = read(trace, form)
    with answering(False, wrong=(BadOption,)):
        step_us = duration_us("--step", step)
        if series.length_us // step_us > 10**6:
            raise BadOption(f"--step {step}: more than a million rows; a longer step is right")
        series = resampled(series, step_us)
        write_trace(out, replace(series, made=(*series.made, f"resampled to {step_us / 1e6:g}s")), to, way)


def scale(
    trace: TraceFile,
    out: Out,
    *,
    by: Annotated[float, typer.Option(help="Factor of all rates, like 0.1; it stays in the side-card.")],
    to: To = Form.csv,
    form: FormOption = None,
    way: WayOption = Way.down,
) -> None:
    """Multiply the rates."""
    from testbed.trace.edit import MOST_SCALE_PPM, PPM
    from testbed.trace.edit import scale as scaled
    from testbed.trace.formats import TraceError

    series = read(trace, form)
    with answering(False, wrong=(BadOption, TraceError)):
        if not 0 < by * PPM <= MOST_SCALE_PPM:
            raise BadOption(f"--by {by}: more than 0 and at most {MOST_SCALE_PPM // PPM} is right")
        write_trace(out, scaled(series, round(by * PPM)), to, way)


def cut(
    trace: TraceFile,
    out: Out,
    *,
    start: Annotated[Optional[str], typer.Option("--from", metavar="DURATION", help="From here.")] = None,  # noqa: UP045
    stop: Annotated[Optional[str], typer.Option("--to", metavar="DURATION", help="To here.")] = None,  # noqa: UP045
    end: Annotated[End, typer.Option(help="What comes after the end of the trace, if --to is later.")] = End.stop,
    to: Annotated[Form, typer.Option("--as", help="The format to write.")] = Form.csv,
    form: FormOption = None,
    way: WayOption = Way.down,
) -> None:
    """Keep what lies between two times; beyond its end a trace stops, holds or loops."""
    from testbed.trace.edit import cut as piece
    from testbed.trace.formats import TraceError

    series = read(trace, form)
    with answering(False, wrong=(BadOption, TraceError)):
        from_us = 0 if start is None else duration_us("--from", start, least=0)
        to_us = None if stop is None else duration_us("--to", stop)
        write_trace(out, piece(series, from_us, to_us, end.value), to, way)


def join(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="At least two traces, in order.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The file to write.")],
    to: To = Form.csv,
    form: FormOption = None,
    way: WayOption = Way.down,
) -> None:
    """One trace after the other."""
    from testbed.trace.edit import join as joined
    from testbed.trace.formats import TraceError

    found = [read(path, form) for path in traces]
    with answering(False, wrong=(BadOption, TraceError)):
        if len(found) < 2:
            raise BadOption("one trace; at least two can be joined")
        write_trace(out, joined(found), to, way)
