"""Which base station a moving phone is handed over to: path loss by distance, and event A3.

Levels are relative: all base stations send with the same power, so only differences of path loss matter. Log-distance
path loss (T. S. Rappaport, Wireless Communications, section 4.9): 10 n log10(d) dB behind the loss at 1 m. Shadowing,
where there is some, is normal in dB and correlated along the way by exp(-distance / correlation distance)
(M. Gudmundson, Electronics Letters 27, 1991). Event A3 (3GPP TS 38.331, 5.5.4.4) without offsets: a neighbour's level
is above the serving one's by more than the hysteresis in every sample for the time to trigger; the best such neighbour
is taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, log10, sqrt

from testbed.mobility.attachment import Attachment

SAMPLE_US = 40_000  # how often a phone looks at the levels
NEAREST_M = 1.0  # path loss begins here

Point = tuple[float, float]  # metres
Gauss = Callable[[], float]  # a draw of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Radio:
    exponent: float
    hysteresis_mdb: int
    time_to_trigger_us: int
    shadowing_mdb: int = 0  # standard deviation
    correlation_m: float = 50.0


@dataclass(frozen=True, slots=True)
class Waypoint:
    t_us: int
    at: Point


def position(path: Sequence[Waypoint], t_us: int) -> Point:
    """Straight and steady from waypoint to waypoint, standing before the first and behind the last."""
    behind = next((index for index, point in enumerate(path) if point.t_us > t_us), len(path))
    before, after = path[max(0, behind - 1)], path[min(behind, len(path) - 1)]
    share = (t_us - before.t_us) / (after.t_us - before.t_us) if after.t_us > before.t_us else 0.0
    share = max(0.0, share)
    return tuple(a + share * (b - a) for a, b in zip(before.at, after.at, strict=True))  # type: ignore[return-value]


def level_db(radio: Radio, station: Point, phone: Point) -> float:
    """Received level without shadowing, relative to that at 1 m."""
    return -10 * radio.exponent * log10(max(NEAREST_M, hypot(station[0] - phone[0], station[1] - phone[1])))


def attachments(
    radio: Radio,
    stations: Mapping[str, Point],
    path: Sequence[Waypoint],
    *,
    first: str,
    interruption_us: int,
    until_us: int,
    gauss: Gauss,
) -> Iterator[Attachment]:
    """Handovers of a phone that begins at the station `first`. While one lasts nothing is measured."""
    serving, deaf_until_us = first, 0
    since: dict[str, int] = {}  # neighbour -> when it began to be better
    for t_us, levels in _levels(radio, stations, path, until_us, gauss):
        if t_us < deaf_until_us:
            continue
        needed = levels[serving] + radio.hysteresis_mdb / 1000
        since = {name: since.get(name, t_us) for name, level in levels.items() if name != serving and level > needed}
        due = [name for name, began_us in since.items() if t_us - began_us >= radio.time_to_trigger_us]
        if due:
            serving = max(due, key=lambda name: (levels[name], name))
            yield Attachment(t_us, serving)
            since, deaf_until_us = {}, t_us + interruption_us


def _levels(
    radio: Radio, stations: Mapping[str, Point], path: Sequence[Waypoint], until_us: int, gauss: Gauss
) -> Iterator[tuple[int, dict[str, float]]]:
    """(time, station -> dB) at each sample."""
    spread_db = radio.shadowing_mdb / 1000
    shadow = {name: gauss() * spread_db for name in stations} if spread_db else dict.fromkeys(stations, 0.0)
    before = position(path, 0)
    for t_us in range(0, until_us, SAMPLE_US):
        phone = position(path, t_us)
        if spread_db:
            kept = exp(-hypot(phone[0] - before[0], phone[1] - before[1]) / radio.correlation_m)
            fresh = sqrt(1 - kept * kept) * spread_db
            shadow = {name: kept * held + fresh * gauss() for name, held in shadow.items()}
        before = phone
        yield t_us, {name: level_db(radio, at, phone) + shadow[name] for name, at in stations.items()}
