"""A Mininet host and interface that are set up by netlink: no shell command carries data."""

import socket
from typing import Any

from mininet.link import Intf
from mininet.node import Host
from pyroute2 import IPRoute

from testbed.addresses import PREFIX_LENGTH
from testbed.network.namespace import bring_up, inside, open_netlink, set_parameters
from testbed.network.neighbours import set_neighbours
from testbed.network.quiet import QuietNode


class NetlinkHost(QuietNode, Host):
    """A network namespace with one address. `netlink` is a socket inside it."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **params)
        self.netlink: IPRoute = open_netlink(self.netns)
        with inside(self.netns):
            set_parameters()
        self.netlink.link("set", index=1, state="up")

    @property
    def netns(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def config(self, **_: Any) -> dict[str, Any]:
        """Mininet would run ifconfig and route here."""
        return {}

    def take(self, interface: "NetlinkIntf", ip: str) -> None:
        """Bring the host's interface up under its address."""
        index = self.netlink.link_lookup(ifname=interface.name)[0]
        self.netlink.addr("add", index=index, address=ip, prefixlen=PREFIX_LENGTH)
        with inside(self.netns):
            bring_up(self.netlink, index, interface.name)
        interface.index, interface.netlink = index, self.netlink

    def know(self, neighbours: dict[str, str]) -> None:
        """Permanent neighbour entries {ip: mac}: no request is flooded, no first packet waits."""
        with inside(self.netns), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            for interface in self.intfList():
                set_neighbours(netlink, interface.index, neighbours)


class NetlinkIntf(Intf):
    """An interface known by its index and by the netlink socket of the namespace that it is in."""

    index: int = 0
    netlink: IPRoute  # from the moment it is brought up

    def config(self, **_: Any) -> dict[str, Any]:
        return {}

    def setMAC(self, macstr: str) -> str:  # Mininet's name
        self.mac = macstr
        return ""

    def setIP(self, ipstr: str, prefixLen: int | None = None) -> str:  # Mininet's names
        self.ip, self.prefixLen = ipstr, prefixLen
        return ""

    def delete(self) -> None:
        """A veth goes with its namespace; the sandbox takes the rest."""
