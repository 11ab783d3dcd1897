"""A director that sets every impairment on a link between two hosts and sends numbered datagrams over it.

Writes `impairments.json`: name of the measurement -> {"order": [number of each datagram as it arrived, -1: damaged],
"late_us": [how long each was on its way], "at_us": [when each arrived, since the first was sent]}.
"""

import dataclasses
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.pairs import HOSTS, Ours, ours
from testbed.network import netem
from testbed.network.link import ShapedLink
from testbed.network.namespace import inside
from testbed.plan import Shape

SO_TIMESTAMPNS, SO_NO_CHECK, SO_RCVBUFFORCE = 35, 11, 33
MANY, LIVE, SOME, FEW = 20_000, 10_000, 5000, 2000  # datagrams
PORT, BUFFER = 9, 256 << 20
SETTLE_S = 2.0
CLEAN = Shape(rate_bps=10**10, delay_us=1000, queue_packets=1000)
TWO_STATES = {"model": "gilbert_elliott", "p": "1%", "r": "25%"}
SOFT = {"model": "gilbert_elliott", "p": "2%", "r": "10%", "bad": "60%", "good": "0.5%"}
FOUR_STATES = {"model": "markov", "p13": "2%", "p31": "20%", "p32": "30%", "p23": "30%", "p14": "1%"}
EVERYTHING = {
    **{"rate": "12345672bit", "overhead": "-14B", "cell": {"size": "48B", "overhead": "5B"}},
    **{
        "delay": "12.345ms",
        "jitter": "1.001ms",
        "distribution": "pareto",
        "reorder": {"share": "1%", "gap": "3packets"},
    },
    **{"loss": SOFT, "duplicate": "0.0001%", "corrupt": "99.9999%", "queue": "77packets"},
    "slot": {"min": "5ms", "max": "15ms", "packets": "4packets", "bytes": "6kB"},
}
REST = {"reorder": "allowed", "loss": FOUR_STATES, "rate": "1Mbit"}
Measured = dict[str, list[int]]


@contextmanager
def pair() -> Iterator["Pair"]:
    """Two hosts and one link, without a switch."""
    with ours() as both:
        both.link.apply("up", CLEAN)
        both.link.apply("down", CLEAN)
        found = Pair(both)
        time.sleep(SETTLE_S)  # the kernel has put some of the work of setting up aside for when nobody computes
        yield found


class Pair:
    def __init__(self, both: Ours) -> None:
        self.link = both.link
        self.sockets = {}
        for number, host in enumerate(HOSTS):
            with inside(both.netns(number)):
                end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.bind((host.ip, PORT))
            for option, value in ((SO_TIMESTAMPNS, 1), (SO_NO_CHECK, 1), (SO_RCVBUFFORCE, BUFFER)):
                end.setsockopt(socket.SOL_SOCKET, option, value)
            end.setblocking(False)
            self.sockets[host.name] = end

    def over(
        self, count: int, *, each_us: int, size: int = 40, way: str = "up", burst: int = 1, **words: Any
    ) -> Measured:
        """Send datagrams, `burst` at once, after the words were set on a clean link; what arrived."""
        self.link.apply("up", CLEAN)
        self.link.apply("down", CLEAN)
        self.link.set(**({"direction": way} | words))
        return self.send(count, each_us, size, way, burst)

    def send(
        self, count: int, each_us: int, size: int, way: str = "up", burst: int = 1, before: Callable[[int], None] = id
    ) -> Measured:
        source, target = HOSTS if way == "up" else HOSTS[::-1]
        sender, sent_ns = self.sockets[source.name], []
        for number in range(count):
            before(number)
            sent_ns.append(time.time_ns())
            sender.sendto(struct.pack("!I", number) * (size // 4), (target.ip, PORT))
            if number % burst == burst - 1:
                time.sleep(each_us / 1e6)
        time.sleep(SETTLE_S)
        return self._arrived(target.name, sent_ns)

    def _arrived(self, name: str, sent_ns: list[int]) -> Measured:
        measured: Measured = {"order": [], "late_us": [], "at_us": []}
        while True:
            try:
                data, controls, _, _ = self.sockets[name].recvmsg(2048, 64)
            except BlockingIOError:
                return measured
            seconds, ns = struct.unpack("@ll", controls[0][2])
            number = struct.unpack("!I", data[:4])[0] if data == data[:4] * (len(data) // 4) else -1
            measured["order"].append(number)
            arrived_ns = seconds * 10**9 + ns
            measured["late_us"].append((arrived_ns - sent_ns[number]) // 1000 if number >= 0 else -1)
            measured["at_us"].append((arrived_ns - sent_ns[0]) // 1000)


def main(run_folder: Path) -> None:
    with pair() as both:
        results: dict[str, Any] = {}
        results["everything"] = list(everything(both.link))
        for part in (losses, copies, delays, order, rates, slots, live):
            for name, measured in part(both):
                results[name] = measured
            print(part.__name__, flush=True)
    (run_folder / "impairments.json").write_text(json.dumps(results))


def everything(link: ShapedLink) -> Iterator[Any]:
    """What the kernel holds of all words at once; then of the rest of them, the rate below."""
    for words in (EVERYTHING, REST, {"rate": "40Gbit"}):
        link.set(**words)
        yield [dataclasses.asdict(netem.read(end.netlink, end.index)) for end in (link.intf1, link.intf2)]


def losses(both: Pair) -> Iterator[tuple[str, Measured]]:
    many = partial(both.over, MANY, each_us=1000, burst=100)
    yield "clean", both.over(FEW, each_us=1000, burst=100)
    yield "loss", many(loss="2%")
    yield "loss_down", both.over(SOME, each_us=1000, burst=100, loss="5%", way="down")
    yield "loss_other_way", both.over(FEW, each_us=1000, burst=100, loss="100%", way="up", direction="down")
    yield "gilbert_elliott", many(loss=TWO_STATES)
    yield "gilbert_elliott_down", many(loss=TWO_STATES, way="down")
    yield "gilbert_elliott_soft", many(loss=SOFT)
    yield "markov", many(loss=FOUR_STATES)


def copies(both: Pair) -> Iterator[tuple[str, Measured]]:
    yield "duplicate", both.over(SOME, each_us=1000, burst=50, duplicate="3%")
    yield "corrupt", both.over(SOME, each_us=1000, burst=20, size=1400, corrupt="3%")


def delays(both: Pair) -> Iterator[tuple[str, Measured]]:
    """Far enough apart for order not to matter."""
    for distribution in ("normal", "pareto", "paretonormal", "uniform"):
        words = {"delay": "50ms", "jitter": "5ms", "distribution": distribution}
        yield f"jitter_{distribution}", both.over(FEW, each_us=60_000, **words)
    for way, delay in (("up", "30ms"), ("down", "7ms")):
        both.link.set(delay=delay, jitter="0ms", direction=way)
    yield "delay_up", both.send(10, 1000, 40, "up")
    yield "delay_down", both.send(10, 1000, 40, "down")


def order(both: Pair) -> Iterator[tuple[str, Measured]]:
    jitter = {"delay": "20ms", "jitter": "5ms", "distribution": "normal", "rate": "100Mbit"}
    yield "in_order", both.over(FEW, each_us=500, **jitter)
    yield "out_of_order", both.over(FEW, each_us=500, **jitter, reorder="allowed")
    both.link.set(reorder="none", direction="up")
    yield "in_order_again", both.send(FEW, 500, 40)
    slow = {**jitter, "rate": "10Mbit"}
    yield "out_of_order_rate", both.over(200, each_us=0, burst=200, size=1000, **slow, reorder="allowed")
    both.link.set(rate="5Mbit", direction="up")
    yield "out_of_order_rate_changed", both.send(200, 0, 1000, burst=200)
    yield "reorder", both.over(FEW, each_us=1000, delay="10ms", reorder="5%")
    yield "reorder_gap", both.over(FEW, each_us=1000, delay="10ms", reorder={"share": "100%", "gap": "5packets"})


def rates(both: Pair) -> Iterator[tuple[str, Measured]]:
    train = partial(both.over, 100, each_us=0, burst=100, size=1000)
    yield "rate_1M", train(rate="1Mbit")
    yield "rate_10G", train(rate="10Gbit")
    yield "rate_40G", train(rate="40Gbit")
    yield "overhead", train(rate="1Mbit", overhead="24B")
    yield "overhead_less", train(rate="1Mbit", overhead="-14B")
    yield "cell", train(rate="1Mbit", cell={"size": "48B", "overhead": "5B"})
    yield "queue_packets", train(rate="1Mbit", delay="0ms", queue="50packets")
    yield "queue_bytes", train(rate="1Mbit", delay="0ms", queue="60kB")
    yield "queue_ms", train(rate="1Mbit", delay="0ms", queue="360ms")


def slots(both: Pair) -> Iterator[tuple[str, Measured]]:
    yield "slot", both.over(200, each_us=1000, slot={"min": "10ms", "packets": "4packets"})
    yield "slot_bytes", both.over(200, each_us=1000, size=1000, slot={"min": "10ms", "bytes": "2kB"})
    yield "slot_drawn", both.over(400, each_us=1000, slot={"min": "5ms", "max": "15ms", "packets": "4packets"})
    both.link.apply("up", CLEAN)
    both.link.set(slot={"min": "10ms", "packets": "4packets"}, direction="up")

    def change(number: int) -> None:
        if number % 25 == 0:
            both.link.set(rate=f"{1 + number}Mbit", direction="up")

    yield "slot_changed", both.send(200, 1000, 40, before=change)
    both.link.set(slot="none", rate="10Gbit", direction="up")
    yield "slot_none", both.send(100, 1000, 40)


def live(both: Pair) -> Iterator[tuple[str, Measured]]:
    """Ten changes a second of rate and delay under 8 Mbit/s, some of them to less than that."""
    random = Random(1)

    def change(number: int) -> None:
        if number % 100 == 0:
            rate, delay = random.choice((6, 20, 100)), random.choice((1, 5, 30, 80))
            both.link.set(rate=f"{rate}Mbit", delay=f"{delay}ms", direction="up")

    both.link.apply("up", CLEAN)
    yield "changes", both.send(LIVE, 1000, 1000, before=change)
