"""A phone's base stations over time, as handovers between them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Attachment:
    """From `t_us` on the phone belongs to `station`."""

    t_us: int
    station: str


@dataclass(frozen=True, slots=True)
class Handover:
    """The phone leaves `source` at `t_us` and belongs to `target` an interruption later."""

    t_us: int
    source: str
    target: str


def handovers(first: str, wanted: Iterable[Attachment], until_us: int) -> tuple[Handover, ...]:
    """Every change of base station that begins before `until_us`, from the one where the phone begins."""
    found: list[Handover] = []
    station = first
    for attachment in wanted:
        if attachment.station != station and attachment.t_us < until_us:
            found.append(Handover(attachment.t_us, station, attachment.station))
            station = attachment.station
    return tuple(found)


def hurried(found: Iterable[Handover], interruption_us: int) -> Iterator[tuple[Handover, Handover]]:
    """Pairs of handovers of which the second begins before the first is over."""
    for before, after in pairwise(found):
        if after.t_us <= before.t_us + interruption_us:
            yield before, after
