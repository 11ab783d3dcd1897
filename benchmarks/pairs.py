"""Two hosts and one link, twice: as this testbed shapes it, and as plain Mininet does (TCLink).

Both kinds have the same two sockets, so that what is measured on them is measured by the same code.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

from mininet.link import TCLink
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Host
from pyroute2 import IPRoute

from testbed.network.host import NetlinkHost, NetlinkIntf
from testbed.network.link import Direction, ShapedLink
from testbed.network.namespace import inside, set_parameters
from testbed.network.network import PlanTopo
from testbed.plan import HostPlan, LinkPlan, Plan, Shape, SlaPlan

SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
ETH_P_IP = 0x0800
BUFFER = 64 << 20
QUEUE_PACKETS = 1000  # what both have by default
FIRST = Shape(rate_bps=10**7, delay_us=0, queue_packets=QUEUE_PACKETS)
HOSTS = tuple(
    HostPlan(name, "phone", "device", f"10.0.0.{n}", f"02:00:00:00:00:0{n}", "phone", 1, 1, 1)
    for n, name in enumerate(("h1", "h2"), start=1)
)
PLAN = Plan(
    name="pair",
    seed=1,
    clock="virtual",
    duration_us=1,
    hosts=HOSTS,
    switches=(),
    links=(LinkPlan("l", "h1", "h2", FIRST, FIRST),),
    models=(),
    streams=(),
    changes=(),
    policy="static",
    sla=SlaPlan(95, 1, 1),
)


class Pair(Protocol):
    """A link from one host (0) to another (1) whose rate and delay can be changed."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Shape:
        """What the sender's side holds."""

    def change(self, rate_bps: int, delay_us: int = 0) -> None:
        """Both hold from now on, for what host 0 sends."""

    def netns(self, host: int) -> str:
        """Path of the namespace of a host."""

    def address(self, host: int) -> str: ...


class Ours:
    """Of the two hosts the first sends `up`, the second `down`."""

    name = "ours"

    def __init__(self, mininet: Mininet, direction: Direction) -> None:
        self.link: ShapedLink = mininet.links[0]
        self.direction = direction
        self.hosts: list[NetlinkHost] = mininet.hosts if direction == "up" else mininet.hosts[::-1]

    @property
    def shape(self) -> Shape:
        return self.link.asked[self.direction]

    def change(self, rate_bps: int, delay_us: int = 0) -> None:
        self.link.apply(self.direction, replace(FIRST, rate_bps=rate_bps, delay_us=delay_us))

    def netns(self, host: int) -> str:
        return self.hosts[host].netns

    def address(self, host: int) -> str:
        return next(plan.ip for plan in HOSTS if plan.name == self.hosts[host].name)


class Plain:
    """Mininet as its users have it: every change is one `config` of the interface."""

    name = "plain"

    def __init__(self, mininet: Mininet) -> None:
        self.hosts: list[Host] = [mininet.get(name) for name in ("h1", "h2")]
        self.interface = mininet.links[0].intf1
        self.shape = FIRST

    def change(self, rate_bps: int, delay_us: int = 0) -> None:
        self.shape = replace(FIRST, rate_bps=rate_bps, delay_us=delay_us)
        self.interface.config(bw=rate_bps / 1e6, **({"delay": f"{delay_us}us"} if delay_us else {}))

    def netns(self, host: int) -> str:
        return f"/proc/{self.hosts[host].pid}/ns/net"

    def address(self, host: int) -> str:
        return HOSTS[host].ip


@contextmanager
def ours(direction: Direction = "up") -> Iterator[Ours]:
    setLogLevel("error")
    set_parameters()
    with IPRoute() as root:
        link = partial(ShapedLink, root=root)
        mininet = Mininet(topo=PlanTopo(PLAN), host=NetlinkHost, link=link, intf=NetlinkIntf, controller=None)
        for shaped in mininet.links:
            shaped.bring_up({host.name: host.ip for host in HOSTS})
            shaped.shape()
        for host, other in zip(mininet.hosts, reversed(HOSTS), strict=True):
            host.know({other.ip: other.mac})
        yield Ours(mininet, direction)


@contextmanager
def plain() -> Iterator[Plain]:
    setLogLevel("critical")  # it complains of HTB's quantum at every change
    mininet = Mininet(link=TCLink, controller=None)
    for host in HOSTS:
        mininet.addHost(host.name, ip=f"{host.ip}/16", mac=host.mac)
    mininet.addLink("h1", "h2", bw=FIRST.rate_bps / 1e6)
    mininet.build()
    pair = Plain(mininet)
    try:
        for host, other in zip(pair.hosts, reversed(HOSTS), strict=True):
            host.setARP(other.ip, other.mac)
        yield pair
    finally:
        mininet.stop()


@contextmanager
def datagrams(pair: Pair) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket on host 0 that sends to the other, on host 1, which knows when each datagram arrived."""
    with inside(pair.netns(0)):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(pair.netns(1)):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, receiver:
        stamped(receiver)
        receiver.bind((pair.address(1), 0))  # a port of its own: what an earlier stream left on its way ends elsewhere
        sender.connect(receiver.getsockname())
        yield sender, receiver


def stamped(receiver: socket.socket) -> None:
    """It keeps what arrives until it is read, with the time of its arrival."""
    for option, value in ((SO_TIMESTAMPNS, 1), (SO_RCVBUFFORCE, BUFFER)):
        receiver.setsockopt(socket.SOL_SOCKET, option, value)


def command(pair: Pair, host: int, *words: str) -> None:
    """Run a program on a host. Raises CalledProcessError."""
    with inside(pair.netns(host)):
        subprocess.run(words, check=True, capture_output=True)


def pairs() -> Iterator[Ours | Plain]:
    """Ours, then plain Mininet, one at a time."""
    with ours() as mine:
        yield mine
    with plain() as theirs:
        yield theirs
