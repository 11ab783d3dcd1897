"""Permanent neighbour entries by the thousand: messages of the kernel's own format, many in one send.

All hosts know all hosts: the entries grow with the square of their number, and a netlink library takes milliseconds
for each in a guest.
"""

import socket
import struct
from collections.abc import Iterator, Mapping
from itertools import islice

RTM_NEWNEIGH, NLMSG_ERROR = 28, 2
REQUEST, ACK, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
PERMANENT = 0x80
NDA_DST, NDA_LLADDR = 1, 2
MESSAGES_MAX = 1000  # in one send: a socket takes some 200 kB
_ENTRY = struct.Struct("=IHHII BxxxiHBB HH4s HH6sxx")  # header; family, interface, state; address; MAC
_ANSWER = struct.Struct("=IHHIIi")


def messages(interface: int, neighbours: Mapping[str, str]) -> bytes:
    """One message for each {ip: mac}, numbered from 1; the kernel answers to the last, and to any that it refuses."""
    made = []
    for number, (ip, mac) in enumerate(neighbours.items(), start=1):
        flags = REQUEST | REPLACE | CREATE | (ACK if number == len(neighbours) else 0)
        made.append(
            _ENTRY.pack(
                *(_ENTRY.size, RTM_NEWNEIGH, flags, number, 0),
                *(socket.AF_INET, interface, PERMANENT, 0, 0),
                *(8, NDA_DST, socket.inet_aton(ip)),
                *(10, NDA_LLADDR, bytes.fromhex(mac.replace(":", ""))),
            )
        )
    return b"".join(made)


def set_neighbours(netlink: socket.socket, interface: int, neighbours: Mapping[str, str]) -> None:
    """`netlink`: a raw socket in the interface's namespace. Raises OSError for an entry that the kernel refuses."""
    rest = iter(neighbours.items())
    while some := dict(islice(rest, MESSAGES_MAX)):
        netlink.send(messages(interface, some))
        for number, error in _answers(netlink):
            if error:
                raise OSError(-error, f"neighbour {list(some)[number - 1]} of interface {interface}")
            if number == len(some):
                break


def _answers(netlink: socket.socket) -> Iterator[tuple[int, int]]:
    """(number, error) of each message that is answered; for ever."""
    while True:
        data, at = netlink.recv(1 << 16), 0
        while at < len(data):
            length, kind, _, number, _, error = _ANSWER.unpack_from(data, at)
            if kind == NLMSG_ERROR:
                yield number, error
            at += length + -length % 4
