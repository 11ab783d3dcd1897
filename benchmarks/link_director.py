"""A director that measures a link of this testbed and one of plain Mininet, in the same kernel by the same code.

Writes `links.json`: {"ours" | "plain": {part: what it measured}}.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import stream
from benchmarks.pairs import Ours, Pair, Plain, command, pairs, plain
from benchmarks.recordings import Recording, five
from benchmarks.replay import replay

RATES_BPS = {5_000_000: 3, 20_000_000: 3, 100_000_000: 2, 500_000_000: 1, 1_000_000_000: 1}  # -> seconds
WARM_UP_NS, WINDOW_NS = 100_000_000, 100_000_000
DELAYS_US = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
PROBES, PROBE_BYTES, PROBE_BPS, PROBE_EACH_US = 20, 100, 100_000_000, 7000
CHANGES, CHANGE_EACH, STREAM_EACH_US = 50, 20, 5000  # ten changes a second under 2.4 Mbit/s
CHANGED_BPS, CHANGED_DELAYS_US = (6_000_000, 20_000_000, 100_000_000), (1000, 5000, 30_000, 80_000)
LONE_BPS, LONE_FRAMES = 20_000_000, (1, 10, 100)
QUEUES_US = 5_000_000
DEEP_FRAMES = 200
_HTB = "class {} dev h1-eth0 parent 5: classid 5:1 htb rate {}bit burst {}"
_TBF = "qdisc {} dev h1-eth0 root handle 5: tbf rate {}bit burst 15000 limit 1500000"
DISCIPLINES = {  # commands that add it, and the one that changes its rate
    "HTB changed in place": (
        ("qdisc add dev h1-eth0 root handle 5: htb default 1", _HTB.format("add", 10**7, "15k")),
        _HTB.format("change", "{}", "15k"),
    ),
    "TBF changed in place": ((_TBF.format("add", 10**7),), _TBF.format("change", "{}")),
}


def main(run_folder: Path) -> None:
    results: dict[str, Any] = {}
    for pair in pairs():
        mine = results[pair.name] = {}
        for part in (rates, delays, changes, lone, replays, queues):
            mine[part.__name__] = part(pair)
            print(pair.name, part.__name__, flush=True)
    results["buckets"] = dict(buckets())
    (run_folder / "links.json").write_text(json.dumps(results))


def rates(pair: Pair) -> dict[int, list[float]]:
    """Bits in each window of 100 ms of a link that is never idle."""
    return {rate_bps: saturated(pair, rate_bps, seconds) for rate_bps, seconds in RATES_BPS.items()}


def saturated(pair: Pair, rate_bps: int, seconds: int) -> list[float]:
    pair.change(rate_bps)
    first_ns = time.time_ns() + WARM_UP_NS
    edges_ns = range(first_ns, first_ns + seconds * 10**9 + 1, WINDOW_NS)
    return stream.bits(stream.saturate(pair, lambda now_ns: now_ns > edges_ns[-1]), edges_ns)


def delays(pair: Pair) -> dict[int, list[float]]:
    """Microseconds that lone small frames were on their way beside their serialisation."""
    found = {}
    for delay_us in DELAYS_US:
        pair.change(PROBE_BPS, delay_us)
        late_ns = stream.paced(pair, PROBES, PROBE_EACH_US, size=PROBE_BYTES).at_ns
        found[delay_us] = [ns / 1000 - PROBE_BYTES * 8e6 / PROBE_BPS for ns in late_ns]
    return found


def changes(pair: Pair) -> dict[str, dict[str, int]]:
    """Datagrams sent and lost while a link changes ten times a second, far from full."""
    found = {}
    for what, delays_us in (("rate", (5000,)), ("rate and delay", CHANGED_DELAYS_US)):
        draw = Random(1)

        def change(number: int, draw: Random = draw, delays_us: tuple[int, ...] = delays_us) -> None:
            if number % CHANGE_EACH == 0:
                pair.change(draw.choice(CHANGED_BPS), draw.choice(delays_us))

        done = stream.paced(pair, CHANGES * CHANGE_EACH, STREAM_EACH_US, before=change)
        overtaken = sum(after < before for before, after in zip(done.numbers, done.numbers[1:], strict=False))
        found[what] = {"sent": done.sent, "lost": done.sent - len(set(done.numbers)), "overtaken": overtaken}
    return found


def lone(pair: Pair) -> dict[int, float]:
    """Microseconds from sending a message of so many frames on an idle link to the arrival of its last."""
    pair.change(LONE_BPS)
    time.sleep(1)  # the link is idle then
    return {frames: max(stream.paced(pair, frames, 0).at_ns) / 1000 for frames in LONE_FRAMES}


def replays(pair: Ours | Plain) -> dict[str, Any]:
    return {recording.name: _replayed(pair, recording) for recording in five()}


def _replayed(pair: Ours | Plain, recording: Recording, frames: int | None = stream.WINDOW) -> dict[str, Any]:
    return {"steps": recording.steps} | replay(pair, recording.steps, recording.length_us, frames)


def queues(pair: Ours | Plain) -> dict[str, Any]:
    """The first recording under queues of different length: the sender, or TCP, fills what it is given."""
    first = next(five(length_us=QUEUES_US))
    frames = {"UDP, 4 frames": 4, f"UDP, {DEEP_FRAMES} frames": DEEP_FRAMES, "TCP": None}
    return {name: _replayed(pair, first, count) for name, count in frames.items()}


class Bucket(Plain):
    """A discipline on plain Mininet's interface that is changed in place, so that only its own way of shaping shows."""

    def __init__(self, pair: Plain, adding: Sequence[str], changing: str) -> None:
        self.__dict__.update(pair.__dict__)
        self.changing = changing
        self._tc("qdisc del dev h1-eth0 root")
        for words in adding:
            self._tc(words)

    def change(self, rate_bps: int, delay_us: int = 0) -> None:
        self.shape = replace(self.shape, rate_bps=rate_bps, delay_us=delay_us)
        self._tc(self.changing.format(rate_bps))

    def _tc(self, words: str) -> None:
        command(self, 0, "tc", *words.split())


def buckets() -> Iterator[tuple[str, Any]]:
    with plain() as pair:
        for name, (adding, changing) in DISCIPLINES.items():
            yield name, queues(Bucket(pair, adding, changing))
