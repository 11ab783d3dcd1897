"""What the netem queues of a namespace have carried and hold: counters straight from the kernel.

pyroute2 decodes every option of every queue, 0.8 ms each in a guest; here the few bytes that count are read in place.
Layouts: linux/rtnetlink.h, linux/gen_stats.h.
"""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_ECHO, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_GETQDISC, RTM_NEWQDISC, TC_H_ROOT

from testbed.network.namespace import inside
from testbed.network.netem import HANDLE

TCA_STATS2, STATS_BASIC, STATS_QUEUE = 7, 1, 3
MESSAGE, QUEUE = struct.Struct("=IHHII"), struct.Struct("=BxxxiIII")
ATTRIBUTE, BASIC, HELD = struct.Struct("=HH"), struct.Struct("=QI"), struct.Struct("=IIIII")
TYPE_BITS = 0x3FFF
BUFFER_BYTES = 1 << 20


class Counted(NamedTuple):
    """Since the queue was made; `backlog_bytes` is what it holds now. Ethernet frames without their checksum."""

    bytes: int
    packets: int
    dropped: int
    backlog_bytes: int


class Counters:
    """A netlink socket in the namespace at the path `netns`, None for the one that the caller is in."""

    def __init__(self, netns: str | None = None) -> None:
        if netns is None:
            self._socket = _opened()
        else:
            with inside(netns):
                self._socket = _opened()

    def all(self) -> dict[int, Counted]:
        """Interface index -> counters of the netem at its root; interfaces without one are left out."""
        return self._answer(0, NLM_F_DUMP)

    def one(self, index: int) -> Counted | None:
        """None when the interface is gone or has no netem of ours at its root."""
        return self._answer(index, NLM_F_ECHO | NLM_F_ACK).get(index)

    def _answer(self, index: int, flags: int) -> dict[int, Counted]:
        body = QUEUE.pack(0, index, 0, TC_H_ROOT, 0)
        self._socket.send(MESSAGE.pack(MESSAGE.size + len(body), RTM_GETQDISC, NLM_F_REQUEST | flags, 0, 0) + body)
        found: dict[int, Counted] = {}
        while True:
            for kind, answer in _messages(self._socket.recv(BUFFER_BYTES)):
                if kind in (NLMSG_DONE, NLMSG_ERROR):  # an acknowledgement is an error of number 0
                    return found
                if kind == RTM_NEWQDISC:
                    found.update(_counted(answer))


def _opened() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.bind((0, 0))
    return netlink


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = MESSAGE.unpack_from(data)
        yield kind, data[MESSAGE.size : length]
        data = data[_aligned(length) :]


def _counted(body: bytes) -> Iterator[tuple[int, Counted]]:
    _, index, handle, parent, _ = QUEUE.unpack_from(body)
    if handle != HANDLE or parent != TC_H_ROOT:
        return
    stats = dict(_attributes(dict(_attributes(body[QUEUE.size :]))[TCA_STATS2]))
    carried_bytes, packets = BASIC.unpack_from(stats[STATS_BASIC])
    _, backlog_bytes, dropped, _, _ = HELD.unpack_from(stats[STATS_QUEUE])
    yield index, Counted(carried_bytes, packets, dropped, backlog_bytes)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = ATTRIBUTE.unpack_from(data)
        yield kind & TYPE_BITS, data[ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
