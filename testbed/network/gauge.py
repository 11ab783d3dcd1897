"""Reads what the directions of a network's links have carried, wherever their ends are."""

from testbed.network.counters import Counted, Counters
from testbed.network.host import NetlinkHost
from testbed.network.link import DIRECTIONS, Direction
from testbed.network.network import Network

Key = tuple[str, Direction]  # link, direction


class Gauge:
    """One netlink socket a namespace; for one thread."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._root = Counters()
        self._hosts = {name: Counters(host.netns) for name, host in network.hosts.items()}

    def one(self, link: str, direction: Direction) -> Counted | None:
        """None when the queue is not there."""
        where, index = self._place(link, direction)
        return where.one(index)

    def all(self) -> dict[Key, Counted]:
        """One question a namespace; directions without a queue are left out."""
        seen = {id(where): where.all() for where in (self._root, *self._hosts.values())}
        found: dict[Key, Counted] = {}
        for link in self.network.links:
            for direction in DIRECTIONS:
                where, index = self._place(link, direction)
                if index in seen[id(where)]:
                    found[link, direction] = seen[id(where)][index]
        return found

    def _place(self, link: str, direction: Direction) -> tuple[Counters, int]:
        interface = self.network.links[link].interface(direction)
        on_host = isinstance(interface.node, NetlinkHost)
        return (self._hosts[interface.node.name] if on_host else self._root), interface.index
