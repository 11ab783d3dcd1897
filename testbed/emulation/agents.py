"""The coordinator's port to the agents: one gRPC channel a node, over Unix sockets outside the emulated network."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from controller.model import Slice, Snapshot
from controller.ports import Prepared, PrepareFailed, ReleaseFailed
from nodes.compute.processor import Speed
from nodes.costing.costs import costs
from nodes.costing.kvcost import Reach, Transfer, copy_us, replica_pays
from nodes.costing.profile import step_costs
from nodes.permit import Permit, Zones
from nodes.phone.generation import heads_of
from nodes.pieces import Piece
from nodes.proto import agent_pb2, agent_pb2_grpc, data_pb2
from nodes.session.sessions import COPY_AHEAD_S
from testbed.emulation.problem import classes_of, zones_over
from testbed.emulation.sessions import sessions_of
from testbed.emulation.standby import Kept, candidates, followed, standbys
from testbed.plan import Plan
from testbed.quantity import PPM

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
        self.seen: Snapshot | None = None  # what is known of nodes and ways
        self._ahead: list[bool] = []  # of each slice since the last switch that lacks keys and values: copied ahead
        self.standing: Mapping[Kept, str] = {}  # who stands by
        self._following: dict[str, agent_pb2.FollowRequest] = {}
        self._generating = {stream.model for stream in plan.streams if stream.generate}
        self._families = {model.name: model.family for model in plan.models}
        self._begin, classes = zones_over(plan)(0), classes_of(plan)
        self._permits = {host.name: Permit(host.zone, classes, self._zones) for host in plan.hosts}
        self.stubs = {name: agent_pb2_grpc.AgentStub(channel) for name, channel in self.channels.items()}

    def _zones(self, _now_us: int) -> Zones:
        """As they were last seen."""
        return self._begin if self.seen is None or self.seen.zones is None else self.seen.zones  # type: ignore[return-value]

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
        before, self.down = self.down, frozenset(n for n, status in found.items() if status is None or not status.up)
        for name in (before - self.down) & self._following.keys():
            self._tell(name, self._following[name])  # it has forgotten whom it follows
        return found

    def standbys(self, routes: Mapping[str, tuple[Slice, ...]]) -> Mapping[Kept, str]:
        """Who is to stand by what is kept along routes; with `kv: auto` of those who are named, where it pays."""
        if self.plan.kv != "replica" and not (self.plan.kv == "auto" and self.plan.standby):
            return {}

        def grows(model: str, first: int, last: int) -> bool:
            steps = step_costs(self._families[model])[first:last] if model in self._generating else ()
            return any(cost and cost.kv_bytes_per_token for cost in steps)

        def may(node: str, kept: Kept) -> bool:
            permitted = not self._permits[node].objection(kept.model, kept.first, kept.last, 0)
            return node not in self.down and permitted and (self.plan.kv == "replica" or self._pays(node, kept))

        return standbys(routes, candidates(self.plan), grows, may)

    def replaced(self) -> Mapping[Kept, str]:
        """Who is to stand by from now on, where any who does is down and another can; {} where nothing changes.

        Where any who serves is down the routes are to change, and who stands by is chosen with them.
        """
        lost = [kept for kept, node in self.standing.items() if node in self.down]
        if not lost or any(kept.node in self.down for kept in self.standing):
            return {}
        able = self.standbys(self.routes)
        found = {**self.standing, **{kept: able[kept] for kept in lost if kept in able}}
        return found if found != self.standing else {}

    def _pays(self, node: str, kept: Kept) -> bool:
        """Whether a replica there costs little beside what it may save, of the longest session."""
        if self.seen is None:
            return False
        index = {host.name: n for n, host in enumerate(self.plan.hosts)}
        a, b = index[kept.node], index[node]
        host, spare_ppm = self.plan.hosts[b], PPM - min(self.seen.nodes[b].load_ppm, PPM - 1)
        speed = Speed(max(1, host.flops_per_s * spare_ppm // PPM), host.memory_bytes_per_s * spare_ppm // PPM)
        reach = Reach(int(self.seen.rate_bps[a, b]), int(self.seen.delay_us[a, b]))
        copied = Transfer(kept.node, node, kept.first, kept.last, len(kept.heads))
        tokens = sessions_of(self.plan, kept.model).tokens
        return replica_pays(costs(self._families[kept.model]), copied, tokens, speed, reach)

    def follow(self, standing: Mapping[Kept, str]) -> None:
        """Each of those who stand by is told what to keep up with from now on."""
        self.standing = standing
        wanted = {name: agent_pb2.FollowRequest() for name in {*self._following, *standing.values()}}
        for kept, name in followed(standing):
            held = data_pb2.Held(address=self.addresses[kept.node], first=kept.first, last=kept.last, heads=kept.heads)
            wanted[name].followed.add(model=kept.model, held=held)
        for name, request in wanted.items():
            if request != self._following.get(name):
                self._tell(name, request)
        self._following = {name: request for name, request in wanted.items() if request.followed}

    def _tell(self, name: str, request: agent_pb2.FollowRequest) -> None:
        """A node that is gone follows nobody; it is told when it is back."""
        _result(self.stubs[name].Follow.future(request, timeout=STATUS_DEADLINE_S))

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
        if piece.model not in self._generating or self.plan.kv == "prefill":
            return []
        held = {
            (node, stop.first, stop.last, heads_of(part))
            for way in self.routes.values()
            for stop in way
            for node, part in stop.parts or ((stop.node, ""),)
            if stop.model == piece.model and node != piece.node and node not in self.down
            if not part or heads_of(part)
        }
        sources = [
            data_pb2.Held(address=self.addresses[node], first=first, last=last, heads=heads)
            for node, first, last, heads in sorted(held, key=lambda one: (self.addresses[one[0]], *one[1:]))
        ]
        found = Piece(piece.model, piece.first, piece.last, piece.part).of(sources)
        if found and self.plan.kv == "auto":
            self._ahead.append(self._in_time(piece, found))
            return found if self._ahead[-1] else []
        return found

    def _in_time(self, piece: Slice, sources: Sequence[data_pb2.Held]) -> bool:
        """Whether what all sessions keep is likely copied before the agent stops waiting for it."""
        if self.seen is None:
            return False
        index = {host.name: n for n, host in enumerate(self.plan.hosts)}
        names = {address: name for name, address in self.addresses.items()}
        sessions = sessions_of(self.plan, piece.model)
        copies = [Transfer(names[s.address], piece.node, s.first, s.last, len(s.heads)) for s in sources]
        reaches = {
            (copy.source, piece.node): Reach(
                sessions.at_once and int(self.seen.rate_bps[index[copy.source], index[piece.node]]) // sessions.at_once,
                int(self.seen.delay_us[index[copy.source], index[piece.node]]),
            )
            for copy in copies
        }
        return copy_us(costs(self._families[piece.model]), 0, sessions.tokens, copies, reaches) < COPY_AHEAD_S * 1e6

    def copied_ahead(self) -> int:
        """When all that a move needs was copied ahead, as the controller saw it last; 0: not all of it was."""
        ahead, self._ahead = self._ahead, []
        return self.seen.now_us if self.seen is not None and ahead and all(ahead) else 0

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
