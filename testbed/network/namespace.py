"""Network namespaces: step into one, open a netlink socket there, set its kernel parameters.

A netlink socket belongs to the namespace that it was opened in, so one short visit per host is enough.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute

from nodes.belonging import enter_netns

SIOCETHTOOL = 0x8946
# checksum, scatter-gather segmentation, generic segmentation, generic receive: each "set" command of ethtool
OFFLOADS = {"tx-checksum": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

# TCP behaves the same on every machine; a persistent connection keeps its window while it idles.
PARAMETERS: Mapping[str, str] = {
    "net/ipv4/tcp_slow_start_after_idle": "0",
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_congestion_control": "cubic",
    "net/ipv4/tcp_rmem": "4096 1048576 33554432",
    "net/ipv4/tcp_wmem": "4096 1048576 33554432",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """The calling thread is in the namespace at the path `netns` (/proc/PID/ns/net) until the block ends."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(netns, os.O_RDONLY)
    try:
        enter_netns(there)
        try:
            yield
        finally:
            enter_netns(here)
    finally:
        os.close(there)
        os.close(here)


def open_netlink(netns: str) -> IPRoute:
    with inside(netns):
        return IPRoute()


def loopback_up() -> None:
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


def set_parameters(parameters: Mapping[str, str] = PARAMETERS) -> None:
    """Write the kernel parameters of the namespace that the thread is in; one that the kernel lacks is left alone."""
    for name, value in parameters.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value)


def bring_up(netlink: IPRoute, index: int, interface: str) -> None:
    """Up, and packets leave as they will be on the wire; the thread is in the namespace of the interface.

    TCP makes lumps of segments whatever a device offers (Linux 4.17 and later), and netem delays a lump as one packet:
    that a lump is one segment has to be said, too.
    """
    no_offloads(interface)
    netlink.link("set", index=index, state="up", gso_max_segs=1)


def no_offloads(interface: str) -> None:
    """Whole checksums, no 64 kB lumps that count as one packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, SIOCETHTOOL, request)
