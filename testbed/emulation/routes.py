"""What a path between two hosts offers: the sum of its delays and its narrowest rate.

Pure: computed from the topology, the shapes that the network reports and the latencies that the SDN application
measures. A path follows the least latency, as the application's flows do.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

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


def present(plan: Plan, stations: Mapping[str, str]) -> tuple[LinkPlan, ...]:
    """The links as they are now. `stations`: link -> base station, of phones that were handed over."""
    switches = {switch.name for switch in plan.switches}

    def moved(link: LinkPlan) -> LinkPlan:
        station = stations[link.name]
        return replace(link, a=station) if link.a in switches else replace(link, b=station)

    return tuple(moved(link) if link.name in stations else link for link in plan.links)


def ways(
    links: tuple[LinkPlan, ...],
    shapes: Mapping[tuple[str, str], tuple[int, int]],
    measured: Mapping[tuple[str, str], int],
    down: frozenset[tuple[str, str]] = frozenset(),
) -> list[Way]:
    """`shapes`: (link, direction) -> (rate_bps, delay_us) as reported; `measured`: (switch, switch) -> latency_us.

    A measured latency stands in for the reported delay: it includes what waits in the link's queue. Pairs of
    switches in `down` are left out, and what is reported with rate 0: a link that is down.
    """
    found = []
    for link in links:
        for direction, source, target, shape in (("up", link.a, link.b, link.up), ("down", link.b, link.a, link.down)):
            if (source, target) in down:
                continue
            rate_bps, delay_us = shapes.get((link.name, direction), (shape.rate_bps, shape.delay_us))
            if rate_bps:
                latency_us = measured.get((source, target), delay_us)
                found.append(Way(link.name, direction, source, target, latency_us, rate_bps))
    return found


def path_arrays(plan: Plan, now: list[Way]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(delay_us, rate_bps) of every ordered pair of hosts, (N, N) in the order of `plan.hosts`; rate 0 = no path."""
    hosts = [host.name for host in plan.hosts]
    delay_us = np.zeros((len(hosts), len(hosts)), np.int64)
    rate_bps = np.zeros((len(hosts), len(hosts)), np.int64)
    for row, reached in enumerate(_from_hosts(plan, now)):
        for column, target in enumerate(hosts):
            if target in reached:
                delay_us[row, column], rate_bps[row, column] = reached[target].delay_us, reached[target].rate_bps
    return delay_us, rate_bps


def paths(plan: Plan, now: list[Way]) -> dict[tuple[str, str], list[Way]]:
    """The ways from host to host, of every ordered pair that has a path."""
    found = {}
    for source, reached in zip(plan.hosts, _from_hosts(plan, now), strict=True):
        for target in plan.hosts:
            if target.name in reached and target != source:
                found[source.name, target.name] = _back(reached, target.name)
    return found


@dataclass(frozen=True, slots=True)
class _Reached:
    """A node, from the source of a search; `last` is the way into it, None at the source itself."""

    delay_us: int
    rate_bps: int
    last: Way | None


def _back(reached: Mapping[str, _Reached], node: str) -> list[Way]:
    found: list[Way] = []
    while (last := reached[node].last) is not None:
        found.insert(0, last)
        node = last.source
    return found


def _from_hosts(plan: Plan, now: list[Way]) -> Iterator[dict[str, _Reached]]:
    """A search for each host, in the order of `plan.hosts`."""
    leaving: dict[str, list[Way]] = {}
    for way in now:
        leaving.setdefault(way.source, []).append(way)
    transit = {switch.name for switch in plan.switches}
    for host in plan.hosts:
        yield _from(host.name, leaving, transit)


def _from(source: str, leaving: Mapping[str, list[Way]], transit: set[str]) -> dict[str, _Reached]:
    """Least-latency search from one host; only switches pass traffic on. Ties go to the first name."""
    done: dict[str, _Reached] = {}
    order = count()
    heap: list[tuple[int, str, int, int, Way | None]] = [(0, source, 2**62, 0, None)]
    while heap:
        delay, node, rate, _, last = heapq.heappop(heap)
        if node in done:
            continue
        done[node] = _Reached(delay, rate, last)
        if node != source and node not in transit:
            continue
        for way in leaving.get(node, ()):
            if way.target not in done:
                heapq.heappush(heap, (delay + way.delay_us, way.target, min(rate, way.rate_bps), next(order), way))
    return done
