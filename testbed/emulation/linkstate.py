"""What is known of the links: the SDN application's measurements and the network's own reports of capacity."""

import json
import socket
import threading
from pathlib import Path

import grpc

from controller.sdn import linkstate_pb2, linkstate_pb2_grpc
from testbed.network.player import LINK_INFO
from testbed.plan import Plan

DISCOVERY_TIMEOUT_S = 30.0
PATHS_REPORTED = 4096  # at most, in one report


class LinkState:
    """What the SDN application measures and what the network reports of its links; each in a thread of its own."""

    def __init__(self, plan: Plan, sockets: Path, sdn_socket: Path) -> None:
        self.plan = plan
        self.names = {switch.dpid: switch.name for switch in plan.switches}
        self.shapes: dict[tuple[str, str], tuple[int, int]] = {}
        self.stations: dict[str, str] = {}  # link -> base station, of phones that were handed over
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
        """Latencies between switches by name, and the pairs that are down: reported so, or with a switch that left."""
        report = self.report
        if report is None:
            return {}, frozenset()
        pairs = {(self.names[link.from_dpid], self.names[link.to_dpid]): link for link in report.links}
        latency = {pair: link.latency_us for pair, link in pairs.items() if link.up and link.latency_us >= 0}
        switches = set(self.names.values())
        linked = {(link.a, link.b) for link in self.plan.links if {link.a, link.b} <= switches}
        wired = linked | {(b, a) for a, b in linked}
        return latency, frozenset(pair for pair in wired if pair not in pairs or not pairs[pair].up)

    def _read_information(self) -> None:
        while True:
            message = json.loads(self.information.recv(4096))
            if "station" in message:
                self.stations[message["link"]] = message["station"]
                continue
            self.shapes[message["link"], message["direction"]] = (message["rate_bps"], message["delay_us"])

    def _watch(self) -> None:
        stub = linkstate_pb2_grpc.LinkStateStub(self.channel)
        request = linkstate_pb2.WatchRequest(period_s=self.plan.telemetry_period_us / 1e6)
        for report in stub.Watch(request, wait_for_ready=True):
            with self.lock:
                self.report = report
                self.reports.append(report)
                self.lock.notify_all()
