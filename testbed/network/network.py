"""Plan -> a running Mininet network: hosts, switches, shaped links. Lives and dies with its sandbox."""

import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.topo import Topo
from pyroute2 import IPRoute

from testbed.network.host import NetlinkHost, NetlinkIntf
from testbed.network.link import ShapedLink
from testbed.network.namespace import inside, set_parameters
from testbed.network.ovsdb import Database
from testbed.network.precedence import precedence
from testbed.network.switch import OpenFlowSwitch, start_daemons, start_switches
from testbed.plan import HostPlan, Plan, border

ETH_P_ARP = 0x0806


class PlanTopo(Topo):
    """The pure description: the same `Topo` can be given to any Mininet."""

    def build(self, plan: Plan) -> None:
        for host in plan.hosts:
            self.addHost(host.name, ip=None, mac=host.mac)
        for switch in plan.switches:
            self.addSwitch(switch.name, dpid=f"{switch.dpid:016x}")
        macs = {host.name: host.mac for host in plan.hosts}
        for number, link in enumerate(plan.links):
            self.addLink(
                link.a,
                link.b,
                plan=link,
                addr1=macs.get(link.a, f"02:01:00:00:{number >> 8:02x}:{number & 255:02x}"),
                addr2=macs.get(link.b, f"02:02:00:00:{number >> 8:02x}:{number & 255:02x}"),
                seed=plan.seed * 10_007 + 2 * number,
            )


class Network:
    """`hosts`, `switches` and `links` by name; `mininet` is the network itself."""

    def __init__(self, plan: Plan, mininet: Mininet, database: Database) -> None:
        self.plan = plan
        self.database = database
        self.mininet = mininet
        self.hosts: dict[str, NetlinkHost] = {host.name: host for host in mininet.hosts}
        self.switches: dict[str, OpenFlowSwitch] = {switch.name: switch for switch in mininet.switches}
        self.links: dict[str, ShapedLink] = {link.plan.name: link for link in mininet.links}

    def partition(self, group: Collection[str]) -> None:
        """Takes down all links between the nodes of the group and the rest, until `heal`. Raises ValueError."""
        for link in self._border(group):
            link.down(_cause(group))

    def heal(self, group: Collection[str]) -> None:
        """The end of the partition of the same group. Raises ValueError."""
        for link in self._border(group):
            link.up(_cause(group))

    def _border(self, group: Collection[str]) -> list[ShapedLink]:
        unknown = sorted(set(group) - self.hosts.keys() - self.switches.keys())
        names = border(group, {name: (link.plan.a, link.plan.b) for name, link in self.links.items()})
        if unknown or not names:
            raise ValueError(f"no node '{unknown[0]}'" if unknown else "the partition cuts nothing")
        return [self.links[name] for name in names]

    def announce(self, only: str | None = None) -> None:
        """Each host, or one, says where it is by a gratuitous ARP, as a host does that joins a network."""
        for plan in (host for host in self.plan.hosts if only in (None, host.name)):
            with inside(self.hosts[plan.name].netns):
                for interface in self.hosts[plan.name].intfList():
                    _gratuitous_arp(interface.name, plan)


def _cause(group: Collection[str]) -> str:
    return f"partition {' '.join(sorted(group))}"


@contextmanager
def running_network(plan: Plan, run: Path, controller: str, datapath: str) -> Iterator[Network]:
    """Build and start it. `run` holds Open vSwitch's files; `datapath` is "user" or "kernel"."""
    setLogLevel("error")
    set_parameters()
    with precedence(plan.clock), IPRoute() as root:
        database = start_daemons(run)
        mininet = Mininet(
            topo=PlanTopo(plan),
            host=NetlinkHost,
            switch=partial(OpenFlowSwitch, datapath=datapath, inNamespace=False),
            link=partial(ShapedLink, root=root),
            intf=NetlinkIntf,
            controller=None,
        )
        addresses = {host.name: host.ip for host in plan.hosts}
        for link in mininet.links:
            link.bring_up(addresses)
        start_switches(database, mininet.switches, controller)
        for link in mininet.links:
            link.shape()
        network = Network(plan, mininet, database)
        neighbours = {host.ip: host.mac for host in plan.hosts}
        for host in plan.hosts:
            network.hosts[host.name].know({ip: mac for ip, mac in neighbours.items() if ip != host.ip})
        yield network


def _gratuitous_arp(interface: str, host: HostPlan) -> None:
    mac, ip = bytes.fromhex(host.mac.replace(":", "")), socket.inet_aton(host.ip)
    ethernet = b"\xff" * 6 + mac + struct.pack("!H", ETH_P_ARP)
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + b"\0" * 6 + ip
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((interface, ETH_P_ARP))
        wire.send((ethernet + request).ljust(60, b"\0"))
