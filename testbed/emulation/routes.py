"""What a path between two hosts offers: the sum of its delays and its narrowest rate.

Pure: computed from the topology, the shapes that the network reports and the latencies that the SDN application
measures. A path follows the least latency, as the application's flows do.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from testbed.plan import LinkPlan, Plan


@dataclass(frozen=True, slots=True)
class Way:
    """One direction of a link as it is now."""

    link: str
    direction: str
    source: str
    target: str
    delay_us: int
    rate_bps: int


def ways(
    links: tuple[LinkPlan, ...],
    shapes: Mapping[tuple[str, str], tuple[int, int]],
    measured: Mapping[tuple[str, str], int],
    down: frozenset[tuple[str, str]] = frozenset(),
) -> list[Way]:
    """`shapes`: (link, direction) -> (rate_bps, delay_us) as reported; `measured`: (switch, switch) -> latency_us.

    A measured latency stands in for the reported delay: it includes what waits in the link's queue. Pairs of
    switches in `down` are left out.
    """
    found = []
    for link in links:
        for direction, source, target, shape in (("up", link.a, link.b, link.up), ("down", link.b, link.a, link.down)):
            if (source, target) in down:
                continue
            rate_bps, delay_us = shapes.get((link.name, direction), (shape.rate_bps, shape.delay_us))
            found.append(Way(link.name, direction, source, target, measured.get((source, target), delay_us), rate_bps))
    return found


def path_arrays(plan: Plan, now: list[Way]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(delay_us, rate_bps) of every ordered pair of hosts, (N, N) in the order of `plan.hosts`; rate 0 = no path."""
    leaving: dict[str, list[Way]] = {}
    for way in now:
        leaving.setdefault(way.source, []).append(way)
    hosts = [host.name for host in plan.hosts]
    transit = {switch.name for switch in plan.switches}
    delay_us = np.zeros((len(hosts), len(hosts)), np.int64)
    rate_bps = np.zeros((len(hosts), len(hosts)), np.int64)
    for row, source in enumerate(hosts):
        reached = _from(source, leaving, transit)
        for column, target in enumerate(hosts):
            delay_us[row, column], rate_bps[row, column] = reached.get(target, (0, 0))
    return delay_us, rate_bps


def _from(source: str, leaving: Mapping[str, list[Way]], transit: set[str]) -> dict[str, tuple[int, int]]:
    """Least-latency search from one host; only switches pass traffic on. Ties go to the first name."""
    done: dict[str, tuple[int, int]] = {}
    heap = [(0, source, 2**62)]
    while heap:
        delay, node, rate = heapq.heappop(heap)
        if node in done:
            continue
        done[node] = (delay, rate)
        if node != source and node not in transit:
            continue
        for way in leaving.get(node, ()):
            if way.target not in done:
                heapq.heappush(heap, (delay + way.delay_us, way.target, min(rate, way.rate_bps)))
    return done
