"""A handover: the switch end of a phone's radio link leaves one bridge and joins another, each at its own time.

The link stays as it is: its veth pair, its names, its two netems and what is on its way in them. While it belongs to
no bridge, what comes out at its switch end is lost, and so is what the old base station would have sent; only what that
has sent already still reaches the phone. Nothing is forwarded from the old base station to the new one.
"""

from collections.abc import Callable
from typing import Any

from testbed.network.host import NetlinkHost, NetlinkIntf
from testbed.network.link import DIRECTIONS, ShapedLink, ShapingError
from testbed.network.network import Network
from testbed.network.ovsdb import SwitchError
from testbed.network.player import Clock, LinkInformation
from testbed.network.switch import OpenFlowSwitch, join, leave
from testbed.plan import Change

HANDOVERS = ("detach", "attach")


class Handovers:
    """Applies changes `detach` and `attach`; a call is over when Open vSwitch is."""

    def __init__(
        self, network: Network, information: LinkInformation, *, clock: Clock, record: Callable[..., Any]
    ) -> None:
        self.network, self.information, self.clock, self.record = network, information, clock, record
        self.done_us: dict[Change, int] = {}  # when each was applied

    def __call__(self, change: Change) -> None:
        """What goes wrong is a fault of the run."""
        link = self.network.links[change.target]
        phone, port = sorted((link.intf1, link.intf2), key=lambda end: not isinstance(end.node, NetlinkHost))
        try:
            if change.what == "detach":
                leave(self.network.database, change.place, port.name)
                self.done_us[change] = self.clock.now_us()
                return
            join(self.network.database, change.place, port.name)
            self.done_us[change] = self.clock.now_us()
            self.network.announce(phone.node.name)  # as a phone says that has come into a cell
            self.information.tell_station(change.target, change.place)
            self._belongs(link, port, self.network.switches[change.place])
            for direction in DIRECTIONS:
                link.verify(direction)
        except (SwitchError, ShapingError) as error:
            self.record("fault", self.clock.now_us(), what="shaping", why=f"{change.what} {change.target}: {error}")

    def _belongs(self, link: ShapedLink, port: NetlinkIntf, station: OpenFlowSwitch) -> None:
        """In Mininet's books too; a base station without power takes the carrier, one that was left gives it back."""
        before = port.node
        before.delIntf(port)
        station.addIntf(port)
        port.node = station
        if before.name in link.held_down:
            link.up(before.name)
        if not station.is_up:
            link.down(station.name)
        for direction in DIRECTIONS:
            self.information.tell(link.plan.name, direction, link.offered(direction))
