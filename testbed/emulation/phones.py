"""The coordinator's port to the phones: routes to them, outcomes from them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller import parts
from controller.model import Slice
from nodes.phone.generation import heads_of
from nodes.proto import agent_pb2, agent_pb2_grpc, data_pb2
from testbed.emulation.agents import STATUS_DEADLINE_S, Agents
from testbed.emulation.latency import Ended
from testbed.emulation.standby import Kept
from testbed.plan import Plan
from testbed.quantity import PPM


class Phones:
    """The phones by node name: routes to them, outcomes from them. Outcomes are handed out once, by `outcomes`."""

    def __init__(self, plan: Plan, agents: Agents) -> None:
        self.plan = plan
        self.agents = agents
        self.addresses = agents.addresses
        sources = sorted({stream.phone for stream in plan.streams})
        self.stubs = {name: agent_pb2_grpc.PhoneStub(agents.channels[name]) for name in sources}
        self.waiting: list[Ended] = []
        self.sent: dict[str, int] = dict.fromkeys(sources, 0)
        self.finished = False
        self._owner = {stream.name: stream.phone for stream in plan.streams}
        self._epoch, self._known_now = 0, dict[str, Any]()  # of the last switch

    def switch(self, epoch: int, routes: Mapping[str, tuple[Slice, ...]]) -> None:
        self._epoch, self._known_now = epoch, self._known(routes) if self.plan.kv == "auto" else {}
        self.agents.routes = routes
        self._open_ways(self._owner, routes)
        self._tell(routes, self.agents.standbys(routes))

    def stand_in(self) -> None:
        """Others take the place of those who stood by and are down: the routes are the same, but for who stands by."""
        standing = self.agents.replaced()
        if standing:
            self._tell(self.agents.routes, standing)

    def _tell(self, routes: Mapping[str, tuple[Slice, ...]], standing: Mapping[Kept, str]) -> None:
        owner, known, epoch = self._owner, self._known_now, self._epoch
        for name, stub in self.stubs.items():
            request = agent_pb2.SwitchRequest(epoch=epoch, lost=sorted(self.agents.down), **known)
            for stream in sorted(routes):
                if owner[stream] == name:
                    request.routes.add(stream=stream, hops=[self._hop(stop, standing) for stop in routes[stream]])
            stub.Switch(request, timeout=STATUS_DEADLINE_S)
        self.agents.follow(standing)

    def _hop(self, stop: Slice, standing: Mapping[Kept, str]) -> data_pb2.Hop:
        hop = data_pb2.Hop(node=stop.node, address=self.addresses[stop.node], first=stop.first, last=stop.last)
        for node, part in stop.parts:
            placed = hop.parts.add(node=node, address=self.addresses[node], part=part)
            placed.replicas.extend(
                self._replicas(Kept(node, stop.model, stop.first, stop.last, heads_of(part)), standing)
            )
        if not stop.parts:
            hop.replicas.extend(self._replicas(Kept(stop.node, stop.model, stop.first, stop.last), standing))
        return hop

    def _replicas(self, kept: Kept, standing: Mapping[Kept, str]) -> list[data_pb2.Held]:
        address = self.addresses.get(standing.get(kept, ""))
        return [data_pb2.Held(address=address, first=kept.first, last=kept.last, heads=kept.heads)] if address else []

    def _known(self, routes: Mapping[str, tuple[Slice, ...]]) -> dict[str, Any]:
        """Of the nodes that keep something of sessions now, or will: ways between them, and their speeds."""
        seen = self.agents.seen
        if seen is None:
            return {}
        ways = [*self.agents.routes.values(), *routes.values()]
        names = {*self.stubs, *(node for way in ways for stop in way for node in _nodes(stop))}
        hosts = {host.name: n for n, host in enumerate(self.plan.hosts) if host.name in names}
        reaches = [
            agent_pb2.Reach(
                from_address=self.addresses[a],
                to_address=self.addresses[b],
                rate_bps=int(seen.rate_bps[i, j]),
                delay_us=int(seen.delay_us[i, j]),
            )
            for a, i in hosts.items()
            for b, j in hosts.items()
            if a != b
        ]
        spare = {name: PPM - seen.nodes[n].load_ppm for name, n in hosts.items()}
        return {
            "reaches": reaches,
            "flops_per_s": {name: self.plan.hosts[n].flops_per_s * spare[name] // PPM for name, n in hosts.items()},
            "memory_bytes_per_s": {
                name: self.plan.hosts[n].memory_bytes_per_s * spare[name] // PPM for name, n in hosts.items()
            },
            "copied_us": self.agents.copied_ahead(),
        }

    def _open_ways(self, owner: Mapping[str, str], routes: Mapping[str, tuple[Slice, ...]]) -> None:
        """Make before break: the connections of the new routes stand before the first request takes them."""
        pairs = (hops(owner[stream], stops) for stream, stops in routes.items() if stops)  # else it is not served
        self.agents.connect(set(itertools.chain.from_iterable(pairs)))

    def in_flight(self, before_epoch: int) -> int:
        return sum(
            count for status in self._poll() for epoch, count in status.in_flight.items() if epoch < before_epoch
        )

    def outcomes(self) -> list[Ended]:
        """What ended since the last call."""
        self._poll()
        ended, self.waiting = self.waiting, []
        return ended

    def _poll(self) -> list[agent_pb2.PhoneStatus]:
        statuses = [stub.Status(agent_pb2.Empty(), timeout=STATUS_DEADLINE_S) for stub in self.stubs.values()]
        for status in statuses:
            self.sent[status.node] = status.sent
            self.waiting.extend(Ended(o.stream, o.sent_us, o.done_us, o.ok) for o in status.outcomes)
        self.finished = all(status.finished for status in statuses)
        return statuses


def hops(phone: str, stops: Sequence[Slice]) -> Iterator[tuple[str, str]]:
    """From which node to which tensors go, the phone's own way there and back included."""
    at = phone
    for stop in stops:
        yield at, stop.node
        placed = {part: node for node, part in stop.parts}
        middle = placed.get(parts.PROJ, stop.node)
        for part, node in placed.items():
            if part.startswith((parts.HEADS, parts.ROWS)):
                yield from ((stop.node, node), (node, middle))
            elif part.startswith(parts.COLUMNS):
                yield from ((middle, node), (node, middle))
        at = placed.get(parts.MLP, middle)
        yield from ((stop.node, middle), (middle, at))
    yield at, phone


def _nodes(stop: Slice) -> set[str]:
    return {stop.node, *(node for node, _ in stop.parts)}
