"""The control plane: the coordinator's ports on top of the agents', phones' and SDN application's sockets.

All of it runs over Unix sockets outside the emulated network and costs no emulated bandwidth.
"""

import itertools
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc

from controller.model import NodeState, Slice, Snapshot
from controller.ports import Prepared, PrepareFailed, ReleaseFailed
from controller.sdn import linkstate_pb2, linkstate_pb2_grpc
from nodes.proto import agent_pb2, agent_pb2_grpc, data_pb2
from testbed.emulation.latency import Ended, RecentLatency
from testbed.emulation.routes import path_arrays, ways
from testbed.network.player import LINK_INFO
from testbed.plan import Plan

DATA_PORT = 5000
STATUS_DEADLINE_S = 5.0
PREPARE_DEADLINE_S = 120.0
STANDING_SAMPLES = 3  # a queue counts for what stands of it over so many samples: one request in service is no backlog
CONNECT_S = 0.3  # what a new connection gets before requests use it: a few round trips
DISCOVERY_TIMEOUT_S = 30.0
PATHS_REPORTED = 4096  # at most, in one report


class Agents:
    """The agents by node name: status, prepare and release."""

    def __init__(self, plan: Plan, sockets: Path) -> None:
        self.plan = plan
        self.addresses = {host.name: f"{host.ip}:{DATA_PORT}" for host in plan.hosts}
        self.channels = {host.name: grpc.insecure_channel(f"unix:{sockets / host.name}.sock") for host in plan.hosts}
        self.stubs = {name: agent_pb2_grpc.AgentStub(channel) for name, channel in self.channels.items()}

    def statuses(self) -> dict[str, agent_pb2.NodeStatus | None]:
        """All at once; None for an agent that does not answer."""
        calls = {
            name: stub.Status.future(agent_pb2.Empty(), timeout=STATUS_DEADLINE_S) for name, stub in self.stubs.items()
        }
        return {name: _result(call) for name, call in calls.items()}

    def prepare(self, piece: Slice, source: str | None) -> Prepared:
        request = agent_pb2.PrepareRequest(
            slice=_reference(piece),
            source_address=self.addresses[source] if source else "",
            deadline_s=PREPARE_DEADLINE_S,
        )
        try:
            reply = self.stubs[piece.node].Prepare(request, timeout=PREPARE_DEADLINE_S + STATUS_DEADLINE_S)
        except grpc.RpcError as error:
            raise PrepareFailed(f"{piece.node}: {error.code().name}: {error.details()}") from error
        if not reply.ok:
            raise PrepareFailed(reply.why)
        return Prepared(bytes_moved=reply.bytes_moved, digest=reply.digest)

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
        time.sleep(CONNECT_S)

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


class Network:
    """What the SDN application measures and what the network reports of its links; each in a thread of its own."""

    def __init__(self, plan: Plan, sockets: Path, sdn_socket: Path) -> None:
        self.plan = plan
        self.names = {switch.dpid: switch.name for switch in plan.switches}
        self.shapes: dict[tuple[str, str], tuple[int, int]] = {}
        self.report: linkstate_pb2.Report | None = None
        self.reports: list[linkstate_pb2.Report] = []
        self.lock = threading.Condition()
        self.information = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.information.bind(str(sockets / LINK_INFO))
        self.channel = grpc.insecure_channel(f"unix:{sdn_socket}")
        threading.Thread(target=self._read_information, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def new_reports(self) -> list[linkstate_pb2.Report]:
        with self.lock:
            reports, self.reports = self.reports, []
        return reports

    def wait_discovered(self) -> bool:
        """Until the SDN application has found every host and every link between switches; False when it has not."""
        switches = {switch.name for switch in self.plan.switches}
        links = 2 * sum(link.a in switches and link.b in switches for link in self.plan.links)

        hosts = len(self.plan.hosts)
        paths = min(hosts * (hosts - 1), PATHS_REPORTED)

        def complete() -> bool:
            found = self.report
            return (
                found is not None
                and len(found.hosts) >= hosts
                and sum(link.up and link.latency_us >= 0 for link in found.links) >= links
                and len(found.paths) >= paths
            )

        with self.lock:
            return self.lock.wait_for(complete, DISCOVERY_TIMEOUT_S)

    def measured(self) -> tuple[dict[tuple[str, str], int], frozenset[tuple[str, str]]]:
        """Latencies between switches by name, and the pairs that are down."""
        report = self.report
        if report is None:
            return {}, frozenset()
        pairs = {(self.names[link.from_dpid], self.names[link.to_dpid]): link for link in report.links}
        latency = {pair: link.latency_us for pair, link in pairs.items() if link.up and link.latency_us >= 0}
        return latency, frozenset(pair for pair, link in pairs.items() if not link.up)

    def _read_information(self) -> None:
        while True:
            message = json.loads(self.information.recv(4096))
            self.shapes[message["link"], message["direction"]] = (message["rate_bps"], message["delay_us"])

    def _watch(self) -> None:
        stub = linkstate_pb2_grpc.LinkStateStub(self.channel)
        request = linkstate_pb2.WatchRequest(period_s=self.plan.telemetry_period_us / 1e6)
        for report in stub.Watch(request, wait_for_ready=True):
            with self.lock:
                self.report = report
                self.reports.append(report)
                self.lock.notify_all()


class Telemetry:
    """Everything that is known, as one `Snapshot`; what was seen goes into the journal."""

    def __init__(
        self, plan: Plan, agents: Agents, phones: Phones, network: Network, record: Callable[..., Any]
    ) -> None:
        self.plan, self.agents, self.phones, self.network, self.record = plan, agents, phones, network, record
        self.recent = RecentLatency(plan.sla.window_us, plan.sla.percentile)
        self.ok = 0
        self.queues = {host.name: deque[int](maxlen=STANDING_SAMPLES) for host in plan.hosts}

    def snapshot(self, now_us: int) -> Snapshot:
        outcomes = self.phones.outcomes()
        self.ok += sum(outcome.ok for outcome in outcomes)
        self.recent.add(now_us, outcomes)
        measured, down = self.network.measured()
        delay_us, rate_bps = path_arrays(self.plan, ways(self.plan.links, self.network.shapes, measured, down))
        self._record_links(now_us)
        return Snapshot(
            now_us=now_us,
            nodes=self._nodes(now_us),
            delay_us=delay_us,
            rate_bps=rate_bps,
            latency_us=self.recent.by_stream(),
        )

    def _nodes(self, now_us: int) -> tuple[NodeState, ...]:
        states = []
        for name, status in self.agents.statuses().items():
            if status is None:
                states.append(NodeState(up=False, load_ppm=0, queue_us=0))
                continue
            self.queues[name].append(status.queue_us)
            standing_us = min(self.queues[name])
            states.append(NodeState(up=status.up, load_ppm=status.load_ppm, queue_us=standing_us))
            self.record(
                "node",
                now_us,
                **{"node": name, "up": status.up, "load_ppm": status.load_ppm, "queue_us": status.queue_us},
                **{"queued": status.queued, "memory_used_bytes": status.memory_used_bytes},
                **{"rss_bytes": status.rss_bytes, "cpu_s": status.cpu_s, "busy_s": status.busy_s},
                **{"served": status.served, "refused": status.refused},
            )
        return tuple(states)

    def _record_links(self, now_us: int) -> None:
        for report in self.network.new_reports():
            name = self.network.names
            links = [
                {"from": name[k.from_dpid], "to": name[k.to_dpid], "latency_us": k.latency_us, "up": k.up}
                for k in report.links
            ]
            ports = [
                {"name": p.name, "up": p.up, "tx_bps": p.tx_bps, "rx_bps": p.rx_bps}
                | {"tx_dropped": p.tx_dropped, "rx_dropped": p.rx_dropped}
                for p in report.ports
            ]
            self.record("linkstate", now_us, links=links, ports=ports, changes=list(report.changes), flows=report.flows)


def _reference(piece: Slice) -> agent_pb2.SliceRef:
    return agent_pb2.SliceRef(model=piece.model, first=piece.first, last=piece.last)


def _result(call: Any) -> Any:
    try:
        return call.result()
    except grpc.RpcError:
        return None
