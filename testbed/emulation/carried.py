"""What each link direction has carried, once a second; more often where a queue stands, for there a rate can be judged.

All at instants a little off the round ones, at which so much else happens.
"""

from collections.abc import Callable, Iterator
from typing import Any

from nodes.clock import Clock
from testbed.network.counters import Counted
from testbed.network.gauge import Gauge, Key
from testbed.plan import Shape

SECOND_US = 1_000_000
LEAST_PART_US, MOST_PART_US = 5_000, 100_000
QUEUE_SHARE = 0.4  # of the time that a full queue takes to empty: so often that it cannot empty unseen
FRAME_BITS = 1514 * 8
FIRST_US = 13_713
IDLE_SHARE = 0.01  # of what a second could carry: less is not worth a record
BUSY_SHARE = 0.5  # from here on a queue may stand the whole second
BUSY_BACKLOG_BYTES = 15_000  # ten frames


def part_us(shape: Shape, least_us: int = LEAST_PART_US) -> int:
    """How often a queue that stands is looked at."""
    empties_us = shape.queue_packets * FRAME_BITS * 1e6 / shape.rate_bps
    return round(min(MOST_PART_US, max(least_us, QUEUE_SHARE * empties_us)))


class Carried:
    """`gauge` is for this alone; `watch` runs until `end_us` of the run's time."""

    def __init__(self, gauge: Gauge, clock: Clock, record: Callable[..., Any]) -> None:
        self.gauge, self.clock, self.record = gauge, clock, record
        self.recorded: dict[Key, Counted] = {}
        self.busy: set[Key] = set()
        self.gone: set[Key] = set()

    def watch(self, end_us: int) -> None:
        for second_us in range(FIRST_US, end_us, SECOND_US):
            self.clock.sleep_until(second_us)
            self._second()
            parts = ((second_us + t_us, key) for key in self.busy for t_us in self._parts(key))
            for t_us, key in sorted(part for part in parts if part[0] < end_us):
                self.clock.sleep_until(t_us)
                self.say(key)

    def _second(self) -> None:
        now_us, seen = self.clock.now_us(), self.gauge.all()
        was_busy, self.busy = self.busy, set()
        for key, counted in seen.items():
            before = self.recorded.get(key)
            could = self._could_carry(key)
            carried = counted.bytes - before.bytes if before else 0
            if carried >= BUSY_SHARE * could or counted.backlog_bytes >= BUSY_BACKLOG_BYTES:
                self.busy.add(key)
            if before is None or key in self.busy | was_busy or carried >= IDLE_SHARE * could:
                self._say(now_us, key, counted)
        self._missing(now_us, (key for key in self._keys() if key not in seen))

    def say(self, key: Key) -> None:
        now_us, counted = self.clock.now_us(), self.gauge.one(*key)
        if counted is not None:
            self._say(now_us, key, counted)

    def _parts(self, key: Key) -> range:
        each_us = part_us(self.gauge.network.links[key[0]].asked[key[1]])
        return range(each_us, SECOND_US - LEAST_PART_US, each_us)

    def _could_carry(self, key: Key) -> float:
        """Bytes a second."""
        link, direction = key
        return self.gauge.network.links[link].asked[direction].rate_bps / 8

    def _say(self, now_us: int, key: Key, counted: Counted) -> None:
        self.recorded[key] = counted
        self.record("carried", now_us, link=key[0], direction=key[1], **counted._asdict())

    def _keys(self) -> Iterator[Key]:
        for link in self.gauge.network.links:
            yield link, "up"
            yield link, "down"

    def _missing(self, now_us: int, missing: Iterator[Key]) -> None:
        """Unshaped in silence is the worst that can be; said once."""
        for key in missing:
            if key not in self.gone and self.gauge.network.links[key[0]].is_up:
                self.gone.add(key)
                self.record("fault", now_us, what="shaping", why=f"link {key[0]} {key[1]}: its netem is gone")
