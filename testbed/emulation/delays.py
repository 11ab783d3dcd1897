"""One-way delays of link directions, measured by a light probe: a small frame over one link while nothing waits there.

Both ends of a link share one clock. A frame that finds the queue empty takes the configured delay and its own
serialisation, whatever comes behind it; where a queue stands, or chance plays a part, no probe is sent. Switches know
no way for such frames, and hosts no protocol: they end at the other end of their link.
"""

import ctypes
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nodes.clock import Clock
from testbed.fidelity.limits import limits_of
from testbed.network.gauge import Gauge, Key
from testbed.network.host import NetlinkHost
from testbed.network.link import DIRECTIONS
from testbed.network.namespace import inside
from testbed.network.network import Network
from testbed.plan import Shape
from testbed.probing import ETHERTYPE, FRAME_BYTES, NUMBER_AT, NUMBER_BYTES
from testbed.wire import charged_bytes

FIRST_US, EACH_US = 31_717, 100_310  # ten a second in all, never at a round time
AGAIN_US = 1_000_310  # the least between two probes of one direction
WIRE_MAX_US = 250  # of the frame itself: what it may hold up at most
SECOND_LOOK = 2  # probes
GRACE_US = 200_000  # a frame that is this late did not arrive
SO_ATTACH_FILTER, SO_TIMESTAMPNS, SOL_PACKET, IGNORE_OUTGOING, ETH_P_ALL = 26, 35, 263, 23, 3


class Prober:
    """Sends probes and records what they took; `gauge` is for this alone, `frames` holds a frame for each host name.

    With `stamped` arrivals are timed by the kernel: in real time a thread wakes late, in virtual time it can't.
    """

    def __init__(
        self,
        network: Network,
        gauge: Gauge,
        frames: dict[str, bytes],
        record: Callable[..., Any],
        *,
        stamped: bool,
        wire_max_us: float = WIRE_MAX_US,
    ) -> None:
        self.network, self.gauge, self.frames, self.record, self.stamped = network, gauge, frames, record, stamped
        self.wire_max_us = wire_max_us
        self.now_ns = time.time_ns if stamped else time.monotonic_ns
        self.sockets = {name: _opened(host.netns, stamped) for name, host in network.hosts.items()}
        self.sockets[""] = _opened(None, stamped)
        self.limit_us = limits_of("real" if stamped else "virtual").delay_error_us
        self.under_way: dict[int, _Sent] = {}  # by number
        self.again: deque[Key] = deque()  # what is to be looked at a second time
        self.skipped: dict[Key, dict[str, int]] = {}
        threading.Thread(target=self._receive, name="probes", daemon=True).start()

    def watch(self, clock: Clock, end_us: int) -> None:
        """One direction after another, second looks half-way between two of them, until shortly before the end."""
        keys: list[Key] = [(link, direction) for link in self.network.links for direction in DIRECTIONS]
        each_us = max(EACH_US, AGAIN_US // max(1, len(keys)))
        for number, t_us in enumerate(range(FIRST_US, end_us - GRACE_US, each_us)):
            clock.sleep_until(t_us)
            if t_us + SECOND_LOOK * each_us < end_us - GRACE_US:  # the last can be looked at again, too
                self.probe(keys[number % len(keys)], 2 * number, clock.now_us())
            self._miss(clock.now_us())
            if self.again:
                clock.sleep_until(t_us + each_us // 2)
                self.probe(self.again.popleft(), 2 * number + 1, clock.now_us(), first=False)
        clock.sleep_until(end_us)
        self.close(clock.now_us())

    def probe(self, key: Key, number: int, now_us: int, *, first: bool = True) -> None:
        """`first`: when it is off, the direction is looked at again."""
        link, (name, direction) = self.network.links[key[0]], key
        shape = link.asked[direction]
        why = "down" if not link.is_up or direction in link.cuts else _unfit(shape, self.wire_max_us)
        before = None if why else self.gauge.one(*key)
        if why or before is None or before.backlog_bytes:
            self._skip(key, why or "busy")
            return
        interface = link.interface(direction)
        host = interface.node.name if isinstance(interface.node, NetlinkHost) else ""
        frame = bytearray(self.frames[host])
        frame[NUMBER_AT : NUMBER_AT + NUMBER_BYTES] = number.to_bytes(NUMBER_BYTES, "big")
        self.under_way[number] = _Sent(key, now_us, self.now_ns(), shape.delay_us + _wire_us(shape), first)
        self.sockets[host].sendto(frame, (interface.name, 0))
        after = self.gauge.one(name, direction)
        if after is None or after.backlog_bytes > FRAME_BYTES:  # somebody else was quicker
            self.under_way.pop(number, None)
            self._skip(key, "busy")

    def close(self, now_us: int) -> None:
        """Say what did not arrive and what was not probed."""
        self._miss(now_us)
        for (link, direction), reasons in self.skipped.items():
            self.record("unprobed", now_us, link=link, direction=direction, **reasons)

    def _miss(self, now_us: int) -> None:
        """Say what did not arrive."""
        for number, sent in list(self.under_way.items()):
            late = now_us - sent.t_us > sent.expected_us + GRACE_US
            if late and self.under_way.pop(number, None) is sent:
                self._say(sent, None)

    def _skip(self, key: Key, why: str) -> None:
        reasons = self.skipped.setdefault(key, {})
        reasons[why] = reasons.get(why, 0) + 1

    def _say(self, sent: "_Sent", took_ns: int | None) -> None:
        link, direction = sent.key
        self.record("probe", sent.t_us, link=link, direction=direction, bytes=FRAME_BYTES, took_ns=took_ns)
        if sent.first and (took_ns is None or abs(took_ns / 1000 - sent.expected_us) > self.limit_us):
            self.again.extend([sent.key] * SECOND_LOOK)

    def _receive(self) -> None:
        ready = selectors.DefaultSelector()
        for end in self.sockets.values():
            ready.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                for data, arrived_ns in _arrived(key.fileobj, self.now_ns):  # type: ignore[arg-type]
                    number = int.from_bytes(data[NUMBER_AT : NUMBER_AT + NUMBER_BYTES], "big")
                    sent = self.under_way.pop(number, None)
                    if sent is not None:
                        self._say(sent, arrived_ns - sent.t_ns)


@dataclass(frozen=True, slots=True)
class _Sent:
    key: Key
    t_us: int
    t_ns: int
    expected_us: float
    first: bool


def _unfit(shape: Shape, wire_max_us: float) -> str:
    """Why a direction cannot be probed, "" if it can: chance, or a frame that would hold up others."""
    chances = shape.jitter_us, shape.loss_ppm, shape.duplicate_ppm, shape.corrupt_ppm, shape.reorder_ppm
    if any(chances) or shape.loss_model or shape.slot:
        return "chance"
    return "slow" if _wire_us(shape) > wire_max_us else ""


def _wire_us(shape: Shape) -> float:
    """Of a probe."""
    _, most = charged_bytes(FRAME_BYTES, 1, shape.overhead_bytes, shape.cell_bytes, shape.cell_overhead_bytes)
    return most * 8e6 / shape.rate_bps if shape.rate_bps else float("inf")


def _arrived(end: socket.socket, now_ns: Callable[[], int]) -> Iterator[tuple[bytes, int]]:
    while True:
        try:
            data, controls, _, _ = end.recvmsg(2048, 64)
        except BlockingIOError:
            return
        at_ns = now_ns()
        for _, kind, content in controls:
            if kind == SO_TIMESTAMPNS:
                seconds, ns = struct.unpack("@ll", content[:16])
                at_ns = seconds * 10**9 + ns
        yield data, at_ns


def _opened(netns: str | None, stamped: bool) -> socket.socket:
    """Takes every probe that arrives in a namespace, also at the port of a switch, which leaves nothing to others."""
    if netns is not None:
        with inside(netns):
            return _opened(None, stamped)
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    program = ctypes.create_string_buffer(
        struct.pack("=HBBI", 0x28, 0, 0, 12)  # load the Ethernet type
        + struct.pack("=HBBI", 0x15, 0, 1, ETHERTYPE)  # another one: skip
        + struct.pack("=HBBI", 0x06, 0, 0, 0xFFFF)  # take it whole
        + struct.pack("=HBBI", 0x06, 0, 0, 0)
    )
    end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(program)))
    end.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    if stamped:
        end.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    end.setblocking(False)
    while True:  # what came before the filter
        try:
            end.recv(2048)
        except BlockingIOError:
            return end
