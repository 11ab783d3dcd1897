"""The player: one process that applies every timed change at its absolute time and says when it did.

Links are changed by netlink and read back; changes of nodes are handed to their agents.
"""

import dataclasses
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from testbed.network.link import Direction, ShapedLink, ShapingError
from testbed.plan import Change, Shape

LINK_INFO = "links.sock"
AGENT_DEADLINE_S = 5.0
AGENT_START_S = 60.0
NODES = ("load", "node_down", "node_up")


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
        self._send({"link": link, "direction": direction, "rate_bps": shape.rate_bps, "delay_us": shape.delay_us})

    def tell_station(self, link: str, station: str) -> None:
        """A phone's link leads to another base station from now on."""
        self._send({"link": link, "station": station})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.socket.sendto(json.dumps(message).encode(), self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return


def play(
    changes: Iterable[Change],
    links: dict[str, ShapedLink],
    others: Mapping[str, Callable[[Change], None]],
    information: LinkInformation,
    *,
    clock: Clock,
    record: Callable[..., Any],
) -> None:
    """Apply the changes in their order until the last. `others`: who applies what is no change of shape, by `what`."""
    for change in changes:
        clock.sleep_until(change.t_us)
        if change.what == "link" and change.shape is not None:
            assert change.direction
            _apply_shape(change, links[change.target], change.direction, information, clock=clock, record=record)
        else:
            others[change.what](change)
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
    *,
    clock: Clock,
    record: Callable[..., Any],
) -> None:
    assert change.shape is not None
    readback_ok = True
    try:
        link.apply(direction, change.shape)
    except ShapingError as error:
        readback_ok = False
        record("fault", clock.now_us(), what="shaping", why=str(error))
    applied_us = clock.now_us()
    information.tell(change.target, direction, link.offered(direction))
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
        **_further(shape),
    )


def _further(shape: Shape) -> dict[str, Any]:
    """The rarer impairments, where there are any."""
    plain = Shape(shape.rate_bps, shape.delay_us, shape.jitter_us, shape.loss_ppm, shape.queue_packets)
    without = dataclasses.asdict(plain)
    return {name: value for name, value in dataclasses.asdict(shape).items() if value != without[name]}


def read_zero(pipe: Path) -> int:
    """The experiment's time zero in microseconds of CLOCK_MONOTONIC; waits until it is written."""
    with pipe.open() as lines:
        return int(lines.readline())


class NodeChanges:
    """Hands changes of nodes to their agents; gRPC is imported only by an experiment that has such changes."""

    def __init__(self, sockets: Path, changes: Iterable[Change]) -> None:
        """Waits for the agents that will hear from it: the first call of a new channel would be late."""
        self.stubs: dict[str, Any] = {}
        for name in sorted({change.target for change in changes if change.what in NODES}):
            import grpc

            from nodes.proto import agent_pb2, agent_pb2_grpc

            stub = agent_pb2_grpc.AgentStub(grpc.insecure_channel(f"unix:{sockets / name}.sock"))
            stub.Status(agent_pb2.Empty(), timeout=AGENT_START_S, wait_for_ready=True)
            self.stubs[name] = stub

    def __call__(self, change: Change) -> None:
        from nodes.proto import agent_pb2

        stub = self.stubs[change.target]
        if change.what == "load":
            stub.SetLoad(agent_pb2.LoadRequest(load_ppm=change.value), timeout=AGENT_DEADLINE_S)
        else:
            stub.SetUp(agent_pb2.UpRequest(up=change.what == "node_up"), timeout=AGENT_DEADLINE_S)
