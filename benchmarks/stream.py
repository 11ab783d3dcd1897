"""Streams of numbered full-size datagrams over a pair of hosts, and when each of them arrived."""

import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.pairs import Pair, datagrams
from benchmarks.windows import carried

FRAME_BYTES = 1514  # Ethernet header, IP, UDP and data
PAYLOAD_BYTES = FRAME_BYTES - 42
SETTLE_S = 1
GLANCE_NS = 2_000_000
PADDING = bytes(PAYLOAD_BYTES - 4)
NUMBER = struct.Struct("!I")
STAMP = struct.Struct("@ll")
WINDOW = 4  # frames on their way: the queue is never empty and never long


@dataclass
class Arrivals:
    """`at_ns[i]` is when datagram `numbers[i]` arrived, of `sent`; `began_ns` when the stream began."""

    began_ns: int
    at_ns: "array[int]" = field(
        default_factory=lambda: array("q")
    )  # a list's objects would scatter over a guest's memory
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    sent: int = 0


def bits(done: "Arrivals", edges_ns: Sequence[int]) -> list[float]:
    """Of whole frames, in each window between two edges."""
    return [count * FRAME_BYTES * 8 for count in carried(done.at_ns, edges_ns)]


def saturate(pair: Pair, until: Callable[[int], bool], window: int = WINDOW) -> Arrivals:
    """Keep `window` frames on their way until a frame arrives at a time (ns) for which `until` is true.

    The receiver's own arrivals drive the sender, so nothing is assumed of the rate. A frame that was overtaken is
    lost; when nothing arrives for much longer than a window takes, all are.
    """
    with datagrams(pair) as (sender, receiver):
        done = Arrivals(time.time_ns())
        acknowledged, last_ns = 0, done.began_ns
        while True:
            while done.sent - acknowledged < window:
                sender.send(NUMBER.pack(done.sent) + PADDING)
                done.sent += 1
            if not select.select([receiver], [], [], GLANCE_NS / 1e9)[0]:
                now_ns = time.time_ns()
                if until(now_ns):
                    return done
                if now_ns - last_ns > patience_ns(pair, window):
                    acknowledged, last_ns = done.sent, now_ns
                continue
            number, at_ns = receive(receiver)
            done.at_ns.append(at_ns)
            done.numbers.append(number)
            acknowledged, last_ns = max(acknowledged, number + 1), at_ns
            if until(at_ns):
                return done


def patience_ns(pair: Pair, window: int) -> int:
    """Of a sender that waits for a whole window; short, so that a loss costs a stream little time."""
    return 2 * window * FRAME_BYTES * 8 * 10**9 // pair.shape.rate_bps + pair.shape.delay_us * 1000 + GLANCE_NS


def receive(receiver: socket.socket) -> tuple[int, int]:
    """Number and time of arrival (ns) of the next datagram."""
    data, controls, _, _ = receiver.recvmsg(NUMBER.size, 64)
    seconds, ns = STAMP.unpack(controls[0][2])
    return NUMBER.unpack(data)[0], seconds * 10**9 + ns


def paced(
    pair: Pair, count: int, each_us: int, before: Callable[[int], object] = id, size: int = FRAME_BYTES
) -> Arrivals:
    """`count` frames of `size` bytes, one every `each_us`; `before` is called with the number of each.

    `at_ns[i]` is here how long datagram `numbers[i]` was on its way.
    """
    with datagrams(pair) as (sender, receiver):
        receiver.setblocking(False)
        done, sent_ns = Arrivals(time.time_ns(), sent=count), []
        for number in range(count):
            before(number)
            left_ns = done.began_ns + number * each_us * 1000 - time.time_ns()
            if left_ns > 0:
                time.sleep(left_ns / 1e9)
            sent_ns.append(time.time_ns())
            sender.send(NUMBER.pack(number) + bytes(size - FRAME_BYTES + len(PADDING)))
        time.sleep(SETTLE_S + pair.shape.delay_us / 1e6)
        while True:
            try:
                number, at_ns = receive(receiver)
            except BlockingIOError:
                return done
            done.at_ns.append(at_ns - sent_ns[number])
            done.numbers.append(number)
