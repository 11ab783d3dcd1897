"""The cells of a recorded drive as base stations; a phone that went to and fro between two does so here too."""

from collections.abc import Mapping, Sequence

from testbed.mobility.attachment import Attachment
from testbed.trace.series import Series


def cells(series: Series) -> tuple[str, ...]:
    """The ids of a recording's cells, in order of appearance; none when it has no cells."""
    return tuple(dict.fromkeys(cell for cell in series.extras.get("cell", ()) if _known(cell)))


def spread(found: Sequence[str], stations: Sequence[str]) -> dict[str, str]:
    """Cell -> base station: in order of appearance, round and round."""
    return {cell: stations[number % len(stations)] for number, cell in enumerate(found)}


def attachments(series: Series, stations: Mapping[str, str]) -> tuple[Attachment, ...]:
    """`stations`: cell -> base station, for every cell there is. A row without a cell keeps the one before."""
    rows = zip(series.t_us, series.extras["cell"], strict=True)
    return tuple(Attachment(t_us, stations[cell]) for t_us, cell in rows if _known(cell))


def _known(cell: str) -> bool:
    return cell.lower() not in ("", "-", "n/a")
