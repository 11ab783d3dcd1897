"""A Mininet link whose two directions are each one netem qdisc, changed in place and read back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from mininet.link import Link
from mininet.node import Node
from pyroute2 import IPRoute

from testbed.impairment import changed
from testbed.network import netem
from testbed.network.host import NetlinkHost, NetlinkIntf
from testbed.network.namespace import bring_up
from testbed.plan import LinkPlan, Shape
from testbed.quantity import PPM, QuantityError

Direction = Literal["up", "down"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


class ShapingError(Exception):
    """The kernel does not hold what was asked."""


class ShapedLink(Link):
    """`up` shapes what leaves the first node, `down` what leaves the second."""

    def __init__(self, node1: Node, node2: Node, *, plan: LinkPlan, root: IPRoute, seed: int, **params: Any) -> None:
        self.plan = plan
        self.root = root
        self.seed = seed
        self.asked: dict[Direction, Shape] = {"up": plan.up, "down": plan.down}
        self.cuts: set[Direction] = set()
        self.held_down: set[str] = set()  # by what
        super().__init__(node1, node2, fast=True, **params)

    def makeIntfPair(  # noqa: PLR0917  the signature is Mininet's
        self,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
        node1: Node = None,
        node2: Node = None,
        deleteIntfs: bool = True,  # noqa: ARG002  both ends go with their namespaces
    ) -> None:
        ends = [_end(intfname1, addr1, node1), _end(intfname2, addr2, node2)]
        self.root.link("add", kind="veth", peer=ends[1], **ends[0])

    def bring_up(self, addresses: Mapping[str, str]) -> None:
        """Both ends up, offloads off. `addresses` holds the IP of each host."""
        for interface in (self.intf1, self.intf2):
            if isinstance(interface.node, NetlinkHost):
                interface.node.take(interface, addresses[interface.node.name])
                continue
            interface.index, interface.netlink = self.root.link_lookup(ifname=interface.name)[0], self.root
            bring_up(self.root, interface.index, interface.name)

    def shape(self) -> None:
        """The first shape of both directions; after the switches have taken their ports. Raises ShapingError."""
        for position, direction in enumerate(DIRECTIONS):
            interface = self.interface(direction)
            netem.add(interface.netlink, interface.index, self.asked[direction], self.seed + position)
            self.verify(direction)

    def set(self, *, direction: Direction | None = None, **words: object) -> None:
        """Change it in place as the experiment's file would say it: `set(rate="20Mbit", loss="1%", direction="up")`.

        Without a direction both change. All words of a call take effect at once; what is not named stays. Raises
        QuantityError, with nothing changed, for words that are not known or values that are not right, ShapingError.
        """
        if direction not in (None, *DIRECTIONS):
            raise QuantityError(f"no direction {direction!r:.40}; 'up', 'down' or none for both is right")
        directions = DIRECTIONS if direction is None else (direction,)
        for one, shape in [(one, changed(self.asked[one], words)) for one in directions]:
            self.apply(one, shape)

    def apply(self, direction: Direction, shape: Shape) -> Shape:
        """Change one direction in place to a whole shape and read it back. Raises ShapingError."""
        before, self.asked[direction] = self.wanted(direction), shape
        return self._change(direction, before)

    def down(self, cause: str = "call") -> None:
        """No carrier at either end until `up` was called for every cause. Raises ShapingError.

        What waits or is on its way is lost, as on a cable that is cut; traces and changes go on underneath.
        """
        self.held_down.add(cause)
        self._carry()

    def up(self, cause: str = "call") -> None:
        """The cause is gone; without another one the link carries again. Raises ShapingError."""
        self.held_down.discard(cause)
        self._carry()

    @property
    def is_up(self) -> bool:
        return not self.held_down

    def cut(self, direction: Direction) -> None:
        """Every packet of one direction is lost from now on, unseen: the carrier stays. Raises ShapingError."""
        before = self.wanted(direction)
        self.cuts.add(direction)
        self._change(direction, before)

    def mend(self, direction: Direction) -> None:
        """The end of a cut. Raises ShapingError."""
        before = self.wanted(direction)
        self.cuts.discard(direction)
        self._change(direction, before)

    def wanted(self, direction: Direction) -> Shape:
        """What the kernel should hold: the shape that was asked for, or a cut over it."""
        shape = self.asked[direction]
        return replace(shape, loss_ppm=PPM, loss_model=None) if direction in self.cuts else shape

    def offered(self, direction: Direction) -> Shape:
        """What the network says of itself: the shape, of rate 0 while the link is down."""
        shape = self.asked[direction]
        return shape if self.is_up else replace(shape, rate_bps=0)

    def _change(self, direction: Direction, before: Shape) -> Shape:
        interface = self.interface(direction)
        netem.change(interface.netlink, interface.index, self.wanted(direction), before)
        return self.verify(direction)

    def _carry(self) -> None:
        """A host's end only loses its carrier: Linux keeps routes and neighbours then, as on a pulled cable."""
        state = "up" if self.is_up else "down"
        for interface in self._switch_ends():
            interface.netlink.link("set", index=interface.index, state=state)
        carrier = {interface.name: _carrier(interface) for interface in (self.intf1, self.intf2)}
        if set(carrier.values()) != {self.is_up}:
            raise ShapingError(f"link {self.plan.name}: asked {state}, carrier is {carrier}")

    def _switch_ends(self) -> list[NetlinkIntf]:
        ends = [end for end in (self.intf1, self.intf2) if not isinstance(end.node, NetlinkHost)]
        if not ends:
            raise ShapingError(f"link {self.plan.name}: no end is a switch's; only such links can be taken down")
        return ends

    def interface(self, direction: Direction) -> NetlinkIntf:
        return self.intf1 if direction == "up" else self.intf2

    def traffic(self, direction: Direction) -> dict[str, int]:
        """Bytes, packets and drops of a direction's qdisc since the start."""
        interface = self.interface(direction)
        qdisc = netem.find(interface.netlink, interface.index)
        if qdisc is None:
            raise ShapingError(f"link {self.plan.name} {direction}: its netem is gone")
        basic, queue = (qdisc.get_attr("TCA_STATS2").get_attr(f"TCA_STATS_{n}") for n in ("BASIC", "QUEUE"))
        return {"tx_bytes": basic["bytes"], "tx_packets": basic["packets"], "dropped": queue["drops"]}

    def verify(self, direction: Direction) -> Shape:
        """What the kernel holds. Raises ShapingError when it is not what was asked."""
        interface = self.interface(direction)
        held = netem.read(interface.netlink, interface.index)
        wanted = self.wanted(direction)
        if not netem.same(wanted, held):
            raise ShapingError(f"link {self.plan.name} {direction}: asked {wanted}, kernel holds {held}")
        assert held is not None
        return held


def _carrier(interface: NetlinkIntf) -> bool:
    """Asking for one interface makes Linux honour a change of its carrier at once, which it may else do 1 s later."""
    (held,) = interface.netlink.link("get", index=interface.index)
    return bool(held.get_attr("IFLA_CARRIER"))


def _end(name: str, mac: str | None, node: Node) -> dict[str, Any]:
    end: dict[str, Any] = {"ifname": name}
    if mac:
        end["address"] = mac
    if isinstance(node, NetlinkHost):
        end["net_ns_pid"] = node.pid
    return end
