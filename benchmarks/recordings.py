"""Five recordings of different kinds to be replayed, or the project's own traces where those are not at hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.schedule import RATE_FLOOR_BPS
from testbed.trace.lookup import PROJECT_TRACES, read_trace
from testbed.trace.series import Direction, steps

RECORDINGS = PROJECT_TRACES.parents[1] / "shared" / "traces"
LENGTH_US = 10_000_000
FIVE: tuple[tuple[str, str, Direction], ...] = (
    ("LTE, mahimahi", "mahimahi/traces_TMobile-LTE-short.down", "down"),
    ("LTE bus, mahimahi", "nyc_lte/trace-3114405-bus", "down"),
    ("5G driving, seconds", "lumos5g/Lumous5G_5G_5g_trace_2_driving", "down"),
    ("5G driving, G-NetTrack", "ucc5g/Download_Driving_B_2020.01.16_12.10.03.csv", "down"),
    ("satellite uplink, table", "starlink_vs_cell/3-Thrpt-Comp_UDP_Uplink_mob_all_area.csv", "up"),
)


@dataclass(frozen=True, slots=True)
class Recording:
    """`steps`: (microseconds, bit/s) from 0 on, a rate of zero being the schedule's floor."""

    name: str
    steps: tuple[tuple[int, int], ...]
    length_us: int


def five(folder: Path = RECORDINGS, length_us: int = LENGTH_US) -> Iterator[Recording]:
    """Real ones where `folder` has them, else five generated ones of the project."""
    if folder.is_dir():
        for name, path, direction in FIVE:
            yield _recording(name, folder / path, direction, length_us)
        return
    for own in sorted(PROJECT_TRACES.glob("*.csv"))[:5]:
        yield _recording(f"{own.stem} (generated)", own, "down", length_us)


def _recording(name: str, path: Path, direction: Direction, length_us: int) -> Recording:
    series = read_trace(path)
    column = series.rate_column(direction)
    if column is None:
        raise ValueError(f"{path} has no rates {direction}")
    rates = series.columns[column]
    held = [(t_us, row) for t_us, row in steps(series, "loop", length_us) if row is not None]
    return Recording(name, tuple((t_us, max(RATE_FLOOR_BPS, rates[row])) for t_us, row in held), length_us)
