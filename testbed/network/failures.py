"""Applies failures: links and switches go down and come back, each read back, recorded and told to the coordinator."""

from collections.abc import Callable, Iterable
from typing import Any

from testbed.network.link import DIRECTIONS, ShapedLink, ShapingError
from testbed.network.network import Network
from testbed.network.ovsdb import SwitchError
from testbed.network.player import Clock, LinkInformation
from testbed.plan import Change

STATES = ("link_down", "link_up", "switch_down", "switch_up")


class Failures:
    """Takes the changes of `STATES`."""

    def __init__(
        self, network: Network, information: LinkInformation, *, clock: Clock, record: Callable[..., Any]
    ) -> None:
        self.network, self.information, self.clock, self.record = network, information, clock, record

    def __call__(self, change: Change) -> None:
        """What does not read back as asked is a fault of the run, which goes on."""
        readback_ok = True
        try:
            links, up = self._apply(change)
        except (ShapingError, SwitchError) as error:
            links, up, readback_ok = [], change.what.endswith("up"), False
            self.record("fault", self.clock.now_us(), what="failure", why=str(error))
        applied_us = self.clock.now_us()
        self._tell(links)
        self.record(
            "state",
            applied_us,
            what=change.what.partition("_")[0],
            target=change.target,
            up=up,
            asked_us=change.t_us,
            applied_us=applied_us,
            readback_ok=readback_ok,
        )

    def _apply(self, change: Change) -> tuple[list[ShapedLink], bool]:
        """The links that may have changed, and whether the target is up now."""
        target = change.target
        if change.what in ("switch_down", "switch_up"):
            switch = self.network.switches[target]
            act = switch.down if change.what == "switch_down" else switch.up
            act(change.cause)
            return switch.shaped_links(), switch.is_up
        link = self.network.links[target]
        (link.down if change.what == "link_down" else link.up)(change.cause)
        return [link], link.is_up

    def _tell(self, links: Iterable[ShapedLink]) -> None:
        for link in links:
            for direction in DIRECTIONS:
                self.information.tell(link.plan.name, direction, link.offered(direction))
