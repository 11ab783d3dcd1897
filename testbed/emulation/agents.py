"""The coordinator's port to the agents: one gRPC channel a node, over Unix sockets outside the emulated network."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from controller.model import Slice
from controller.ports import Prepared, PrepareFailed, ReleaseFailed
from nodes.phone.generation import heads_of
from nodes.pieces import Piece
from nodes.proto import agent_pb2, agent_pb2_grpc, data_pb2
from testbed.plan import Plan

DATA_PORT = 5000
STATUS_DEADLINE_S = 5.0
# Each reading of the clock costs a little virtual time: too many agents awake at one instant would hold up packets.
GROUP = 16
BETWEEN_GROUPS_S = 0.001
PREPARE_DEADLINE_S = 120.0


class Agents:
    """The agents by node name: status, prepare and release."""

    def __init__(self, plan: Plan, sockets: Path) -> None:
        self.plan = plan
        self.addresses = {host.name: f"{host.ip}:{DATA_PORT}" for host in plan.hosts}
        self.channels = {host.name: grpc.insecure_channel(f"unix:{sockets / host.name}.sock") for host in plan.hosts}
        self.routes: Mapping[str, tuple[Slice, ...]] = {}  # of now: who holds what sessions keep
        self.down: frozenset[str] = frozenset()  # as they last said
        self._generating = {stream.model for stream in plan.streams if stream.generate}
        self.stubs = {name: agent_pb2_grpc.AgentStub(channel) for name, channel in self.channels.items()}

    def statuses(self) -> dict[str, agent_pb2.NodeStatus | None]:
        """By the group; None for an agent that does not answer."""
        found: dict[str, agent_pb2.NodeStatus | None] = {}
        names = list(self.stubs)
        for first in range(0, len(names), GROUP):
            if first:
                time.sleep(BETWEEN_GROUPS_S)
            group = names[first : first + GROUP]
            calls = [self.stubs[name].Status.future(agent_pb2.Empty(), timeout=STATUS_DEADLINE_S) for name in group]
            found |= {name: _result(call) for name, call in zip(group, calls, strict=True)}
        self.down = frozenset(name for name, status in found.items() if status is None or not status.up)
        return found

    def prepare(self, piece: Slice, source: str | None) -> Prepared:
        request = agent_pb2.PrepareRequest(
            slice=_reference(piece),
            source_address=self.addresses[source] if source else "",
            deadline_s=PREPARE_DEADLINE_S,
            kv_sources=self._kv_sources(piece),
        )
        try:
            reply = self.stubs[piece.node].Prepare(request, timeout=PREPARE_DEADLINE_S + STATUS_DEADLINE_S)
        except grpc.RpcError as error:
            raise PrepareFailed(f"{piece.node}: {error.code().name}: {error.details()}") from error
        if not reply.ok:
            raise PrepareFailed(reply.why)
        return Prepared(bytes_moved=reply.bytes_moved, digest=reply.digest)

    def _kv_sources(self, piece: Slice) -> list[data_pb2.Held]:
        """Who holds what live sessions keep of these blocks, and is up."""
        if piece.model not in self._generating or self.plan.kv != "copy":
            return []
        held = {
            (self.addresses[node], stop.first, stop.last, heads_of(part))
            for way in self.routes.values()
            for stop in way
            for node, part in stop.parts or ((stop.node, ""),)
            if stop.model == piece.model and node != piece.node and node not in self.down
            if not part or heads_of(part)
        }
        sources = [data_pb2.Held(address=a, first=b, last=e, heads=heads) for a, b, e, heads in sorted(held)]
        return Piece(piece.model, piece.first, piece.last, piece.part).of(sources)

    def release(self, piece: Slice) -> None:
        try:
            self.stubs[piece.node].Release(_reference(piece), timeout=STATUS_DEADLINE_S)
        except grpc.RpcError as error:
            raise ReleaseFailed(f"{piece.node}: {error.code().name}: {error.details()}") from error

    def connect(self, pairs: set[tuple[str, str]]) -> None:
        """Open the ways between nodes before requests take them; a node that is gone is left alone."""
        calls = [
            self.stubs[a].Connect.future(agent_pb2.ConnectRequest(address=self.addresses[b]), timeout=STATUS_DEADLINE_S)
            for a, b in sorted(pairs)
            if a != b
        ]
        for call in calls:
            _result(call)

    def start(self, t0_us: int) -> None:
        """Tell every agent the experiment's time zero."""
        for stub in self.stubs.values():
            stub.Start(agent_pb2.StartRequest(t0_us=t0_us), timeout=STATUS_DEADLINE_S)

    def stop(self) -> None:
        """End every agent; each writes what it still holds first."""
        calls = [stub.Stop.future(agent_pb2.Empty(), timeout=STATUS_DEADLINE_S) for stub in self.stubs.values()]
        for call in calls:
            call.result()


def _reference(piece: Slice) -> agent_pb2.SliceRef:
    return agent_pb2.SliceRef(model=piece.model, first=piece.first, last=piece.last, part=piece.part)


def _result(call: Any) -> Any:
    try:
        return call.result()
    except grpc.RpcError:
        return None
