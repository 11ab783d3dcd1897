"""What a path between two hosts offers: the sum of its delays and its narrowest rate.

Pure: computed from the topology, the shapes that the network reports and the latencies that the SDN application
measures. A path follows the least latency, as the application's flows do. Where hosts are many, those that hang at
one switch share its paths (`sited_paths`): a search for each switch instead of one for each host.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import numpy as np
import numpy.typing as npt

from controller.sited import Paths, Sited, Sites
from testbed.plan import LinkPlan, Plan

DENSE = 64  # hosts, every pair of which has its own number
ANY_BPS = 2**62  # of a path without links


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


def path_values(plan: Plan, now: list[Way]) -> tuple[Paths, Paths]:
    """(delay_us, rate_bps) of every ordered pair of hosts, (N, N) in the order of `plan.hosts`; rate 0 = no path."""
    return path_arrays(plan, now) if len(plan.hosts) <= DENSE else sited_paths(plan, now)


def path_arrays(plan: Plan, now: list[Way]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The same in dense arrays: a search from each host."""
    hosts = [host.name for host in plan.hosts]
    return _between(hosts, _from_each(plan, now, hosts))


def sited_paths(plan: Plan, now: list[Way]) -> tuple[Sited, Sited]:
    """The same by the switches that hosts hang at: a search from each of these.

    A host that has not just one link, in both directions, is a site of its own. Without a path a delay says nothing.
    """
    leaving, entering = _by(now, "source"), _by(now, "target")
    site, access = list[str](), list[tuple[int, int, int, int]]()  # delays out and in, rates out and in
    for host in plan.hosts:
        match leaving.get(host.name, ()), entering.get(host.name, ()):
            case [out], [into] if out.target == into.source:
                site.append(out.target)
                access.append((out.delay_us, into.delay_us, out.rate_bps, into.rate_bps))
            case _:
                site.append(host.name)
                access.append((0, 0, ANY_BPS, ANY_BPS))
    names = sorted(set(site))
    number = {name: n for n, name in enumerate(names)}
    sites = Sites(np.array([number[name] for name in site], dtype=np.intp))
    delay_us, rate_bps = _between(names, _from_each(plan, now, names))
    delays_out, delays_in, rates_out, rates_in = np.array(access, dtype=np.int64).T
    return (
        Sited(sites, delays_out, delays_in, delay_us),
        Sited(sites, rates_out, rates_in, rate_bps, narrowest=True),
    )


def _between(
    names: list[str], searches: Iterable[Mapping[str, "_Reached"]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(delay_us, rate_bps) from each of these nodes to each, a search from each being there."""
    delay_us, rate_bps = np.zeros((2, len(names), len(names)), np.int64)
    for row, reached in enumerate(searches):
        for column, target in enumerate(names):
            if target in reached:
                delay_us[row, column], rate_bps[row, column] = reached[target].delay_us, reached[target].rate_bps
    return delay_us, rate_bps


def paths(plan: Plan, now: list[Way]) -> dict[tuple[str, str], list[Way]]:
    """The ways from host to host, of every ordered pair that has a path."""
    found = {}
    every = _from_each(plan, now, [host.name for host in plan.hosts])
    for source, reached in zip(plan.hosts, every, strict=True):
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


def _by(now: list[Way], end: Literal["source", "target"]) -> dict[str, list[Way]]:
    """The ways by one of their ends."""
    found: dict[str, list[Way]] = {}
    for way in now:
        found.setdefault(getattr(way, end), []).append(way)
    return found


def _from_each(plan: Plan, now: list[Way], nodes: Iterable[str]) -> Iterator[dict[str, _Reached]]:
    """A search from each of these nodes."""
    leaving = _by(now, "source")
    transit = {switch.name for switch in plan.switches}
    for node in nodes:
        yield _from(node, leaving, transit)


def _from(source: str, leaving: Mapping[str, list[Way]], transit: set[str]) -> dict[str, _Reached]:
    """Least-latency search from one host; only switches pass traffic on. Ties go to the first name."""
    done: dict[str, _Reached] = {}
    order = count()
    heap: list[tuple[int, str, int, int, Way | None]] = [(0, source, ANY_BPS, 0, None)]
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
