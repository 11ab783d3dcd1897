"""Everything that is known, once a period: one `Snapshot` for the controller, and the records of what was seen."""

from collections import deque
from collections.abc import Callable
from typing import Any

from controller.model import NodeState, Snapshot
from testbed.emulation.agents import Agents
from testbed.emulation.latency import RecentLatency
from testbed.emulation.linkstate import LinkState
from testbed.emulation.phones import Phones
from testbed.emulation.problem import zones_over
from testbed.emulation.routes import path_values, present, ways
from testbed.plan import Plan

STANDING_SAMPLES = 3  # a queue counts for what stands of it over so many samples: one request in service is no backlog


class Telemetry:
    """The coordinator's telemetry port."""

    def __init__(
        self, plan: Plan, agents: Agents, phones: Phones, links: LinkState, record: Callable[..., Any]
    ) -> None:
        self.plan, self.agents, self.phones, self.links, self.record = plan, agents, phones, links, record
        self.recent = RecentLatency(plan.sla.window_us, plan.sla.percentile)
        self.zones = zones_over(plan)
        self.ok = 0
        self.queues = {host.name: deque[int](maxlen=STANDING_SAMPLES) for host in plan.hosts}

    def snapshot(self, now_us: int) -> Snapshot:
        outcomes = self.phones.outcomes()
        self.ok += sum(outcome.ok for outcome in outcomes)
        self.recent.add(now_us, outcomes)
        measured, down = self.links.measured()
        now = ways(present(self.plan, self.links.stations), self.links.shapes, measured, down)
        delay_us, rate_bps = path_values(self.plan, now)
        self._record_links(now_us)
        self.agents.seen = seen = Snapshot(
            now_us=now_us,
            nodes=self._nodes(now_us),
            delay_us=delay_us,
            rate_bps=rate_bps,
            latency_us=self.recent.by_stream(),
            zones=self.zones(now_us),  # type: ignore[arg-type]
        )
        self.phones.stand_in()
        return seen

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
        for report in self.links.new_reports():
            name = self.links.names
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
