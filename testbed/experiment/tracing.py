"""The traces of an experiment: found, read, and checked against the links that replay them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from testbed.experiment.errors import Fault
from testbed.experiment.overrides import Source, dotted
from testbed.experiment.reader import Where
from testbed.experiment.schema import Experiment
from testbed.quantity import show_duration
from testbed.schedule import MAX_CHANGES
from testbed.trace.formats import TraceError
from testbed.trace.lookup import find, read_trace
from testbed.trace.series import SATURATING, Direction, Series, step_count

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


class _Shelf:
    """Each file is read once; a bad one is told once."""

    def __init__(self, source: Source, folders: Sequence[Path]) -> None:
        self.source = source
        self.folders = folders
        self.held: dict[tuple[str, bool], Series | None] = {}

    def get(self, name: str, where: Where) -> Series | None:
        free = self.source.option(where) is not None
        if (name, free) not in self.held:
            self.held[name, free] = self._read(name, where, free)
        return self.held[name, free]

    def _read(self, name: str, where: Where, free: bool) -> Series | None:
        try:
            if free and not Path(name).exists() and (Path(name).is_absolute() or ".." in Path(name).parts):
                raise TraceError(0, f"there is no file '{name}'; a path from the current folder is right")
            path = Path(name) if free and Path(name).exists() else find(name, self.folders)
        except (TraceError, OSError, ValueError) as fault:
            self.source.blame(where, str(fault))
            return None
        try:
            return read_trace(path)
        except TraceError as fault:
            if fault.line:
                self.source.faults.append(Fault(str(path), fault.line, dotted(where), fault.why))
            else:
                self.source.blame(where, f"{path}: {fault.why}")
            return None


def load_traces(experiment: Experiment, source: Source, folders: Sequence[Path]) -> dict[tuple[str, Direction], Series]:
    """(link, direction) -> series; what is wrong is blamed in the source."""
    shelf = _Shelf(source, folders)
    traces: dict[tuple[str, Direction], Series] = {}
    total = 0
    for name, link in experiment.links.items():
        for direction in DIRECTIONS:
            way = link.way(direction)
            place = ("links", name, *link.trace_place(direction))
            series = shelf.get(way.trace, place) if way.trace is not None else None
            if way.trace is not None and series is None:
                continue
            if series is not None:
                traces[name, direction] = series
                total += step_count(series, experiment.end_of(name, direction), experiment.duration_us)
                if total > MAX_CHANGES:
                    source.blame(place, f"more than {MAX_CHANGES} steps of all traces; resample it to longer steps")
            for key, why in _lacking(experiment, name, direction, series):
                source.blame(place if key == "trace" else ("links", name, direction, key), why)
    return traces


def load_recordings(experiment: Experiment, source: Source, folders: Sequence[Path]) -> dict[str, Series]:
    """Phone -> the drive that it repeats; what cannot be read is blamed in the source."""
    shelf = _Shelf(source, folders)
    wanted = {phone: said.trace for phone, said in experiment.mobility.items() if said.trace is not None}
    found = {phone: shelf.get(name, ("mobility", phone, "trace")) for phone, name in wanted.items()}
    return {phone: series for phone, series in found.items() if series is not None}


def _lacking(
    experiment: Experiment, name: str, direction: Direction, series: Series | None
) -> Iterator[tuple[str, str]]:
    """What neither the link nor its trace says."""
    way = experiment.links[name].way(direction)
    if series is None:
        if way.rate_bps is None:
            yield "rate", "is missing; write one like '100Mbit', or name a trace"
        if way.delay_us is None:
            yield "delay", "is missing; write one like '10ms'"
        for key, value in (("trace_end", way.trace_end), ("trace_scale", way.trace_scale_ppm)):
            if value is not None:
                yield key, "there is no trace it could be about; name a trace or leave it out"
        return
    ends = series.length_us < experiment.duration_us and experiment.end_of(name, direction) == "stop"
    if way.rate_bps is None and series.rate_column(direction) is None:
        yield "trace", f"'{series.name}' has no rate for {direction}; give the direction a rate of its own"
    elif way.rate_bps is None and ends:
        yield (
            "trace",
            f"'{series.name}' stops at {show_duration(series.length_us)}; give the direction a rate for what follows",
        )
    if way.delay_us is None and ("delay_us" not in series.columns or ends):
        yield "delay", f"is missing; trace '{series.name}' does not say it for the whole run: write one like '10ms'"


def notes(experiment: Experiment, traces: dict[tuple[str, Direction], Series]) -> Iterator[str]:
    """What is right but worth knowing."""
    for phone in (phone for phone, said in experiment.mobility.items() if said.trace is not None):
        drive = experiment.recording(phone)
        if drive.length_us < experiment.duration_us:
            place = f"mobility.{phone}: recording '{drive.name}'"
            yield f"{place} lasts {show_duration(drive.length_us)}, then its last cell holds"
    for (name, direction), series in traces.items():
        place = f"links.{name}.{direction}: trace '{series.name}'"
        if series.length_us < experiment.duration_us:
            what = {"hold": "then holds", "loop": "then begins anew", "stop": "then hands back to the link"}
            yield f"{place} lasts {show_duration(series.length_us)}, {what[experiment.end_of(name, direction)]}"
        column = series.rate_column(direction)
        zero = series.columns[column].count(0) if column else 0
        if zero:
            yield f"{place} has {zero} steps of rate 0: what comes in waits until the rate is more"
        if series.recorded == "saturating" and column:
            yield f"{place} {SATURATING}"
