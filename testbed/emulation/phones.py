"""The coordinator's port to the phones: routes to them, outcomes from them."""

import itertools
from collections.abc import Mapping

from controller.model import Slice
from nodes.proto import agent_pb2, agent_pb2_grpc, data_pb2
from testbed.emulation.agents import STATUS_DEADLINE_S, Agents
from testbed.emulation.latency import Ended
from testbed.plan import Plan


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

    def switch(self, epoch: int, routes: Mapping[str, tuple[Slice, ...]]) -> None:
        owner = {stream.name: stream.phone for stream in self.plan.streams}
        self._open_ways(owner, routes)
        for name, stub in self.stubs.items():
            request = agent_pb2.SwitchRequest(epoch=epoch)
            for stream in sorted(routes):
                if owner[stream] == name:
                    hops = [
                        data_pb2.Hop(node=p.node, address=self.addresses[p.node], first=p.first, last=p.last)
                        for p in routes[stream]
                    ]
                    request.routes.add(stream=stream, hops=hops)
            stub.Switch(request, timeout=STATUS_DEADLINE_S)

    def _open_ways(self, owner: Mapping[str, str], routes: Mapping[str, tuple[Slice, ...]]) -> None:
        """Make before break: the connections of the new routes stand before the first request takes them."""
        ways = set()
        for stream, pieces in routes.items():
            stops = [owner[stream], *(piece.node for piece in pieces), owner[stream]]
            ways |= set(itertools.pairwise(stops))
        self.agents.connect(ways)

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
