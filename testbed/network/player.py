"""The player: one process that applies every timed change at its absolute time and says when it did.

Links are changed by netlink and read back; changes of nodes are handed to their agents.
"""

import json
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from testbed.network.link import Direction, ShapedLink, ShapingError
from testbed.plan import Change, Shape

LINK_INFO = "links.sock"


class Clock(Protocol):
    def now_us(self) -> int: ...
    def sleep_until(self, t_us: int) -> None: ...


class LinkInformation:
    """What the network says of its own links, as a radio information service does: capacity and nominal delay.

    Sent to the coordinator as datagrams on a Unix socket; a reader that is gone is not an error of the player.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / LINK_INFO)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def tell(self, link: str, direction: str, shape: Shape) -> None:
        message = {"link": link, "direction": direction, "rate_bps": shape.rate_bps, "delay_us": shape.delay_us}
        try:
            self.socket.sendto(json.dumps(message).encode(), self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return


def play(
    changes: Iterable[Change],
    links: dict[str, ShapedLink],
    tell_node: Callable[[Change], None],
    information: LinkInformation,
    clock: Clock,
    record: Callable[..., Any],
) -> None:
    """Apply the changes in their order until the last."""
    for change in changes:
        clock.sleep_until(change.t_us)
        if change.what == "link" and change.shape is not None:
            assert change.direction
            _apply_shape(change, links[change.target], change.direction, information, clock, record)
        else:
            tell_node(change)
        if change.text:
            applied_us = clock.now_us()
            record(
                "event",
                applied_us,
                text=change.text,
                what=change.what,
                target=change.target,
                asked_us=change.t_us,
                applied_us=applied_us,
            )


def _apply_shape(
    change: Change,
    link: ShapedLink,
    direction: Direction,
    information: LinkInformation,
    clock: Clock,
    record: Callable[..., Any],
) -> None:
    assert change.shape is not None
    readback_ok = True
    try:
        link.set(direction, change.shape)
    except ShapingError as error:
        readback_ok = False
        record("fault", clock.now_us(), what="shaping", why=str(error))
    applied_us = clock.now_us()
    information.tell(change.target, direction, change.shape)
    shape = change.shape
    record(
        "step",
        applied_us,
        link=change.target,
        direction=direction,
        asked_us=change.t_us,
        applied_us=applied_us,
        rate_bps=shape.rate_bps,
        delay_us=shape.delay_us,
        jitter_us=shape.jitter_us,
        loss_ppm=shape.loss_ppm,
        queue_packets=shape.queue_packets,
        readback_ok=readback_ok,
    )


def wait_for_zero(pipe: int) -> int:
    """The experiment's time zero, sent as one decimal line; 0 when the sender ended without it."""
    with os.fdopen(pipe, "r") as lines:
        return int(lines.readline() or 0)
