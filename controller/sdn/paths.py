"""Least-latency paths: for each switch that has hosts, one tree of paths from all other switches to it.

Rules: a tree is kept or replaced as a whole, so that next hops of different ages never form a loop. A tree that still
works is replaced only if some path of the new one is better by both a share and an amount (hysteresis). Ties are broken
by the number of hops, then by dpid and port, so equal graphs give equal trees.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from controller.sdn.graph import Graph, Link, PortId

GAIN_PPM = 100_000  # 10 % of the old latency
GAIN_US = 500


@dataclass(frozen=True, slots=True)
class Tree:
    """All paths to the switch `target`."""

    target: int
    hops: Mapping[int, tuple[PortId, PortId]]  # dpid -> the link it sends on: own port, port of the next switch

    def path(self, dpid: int) -> tuple[int, ...]:
        """The switches from `dpid` to the target, both included; empty when there is no path."""
        walk = [dpid]
        while walk[-1] != self.target:
            hop = self.hops.get(walk[-1])
            if hop is None or len(walk) > len(self.hops):
                return ()
            walk.append(hop[1][0])
        return tuple(walk)


def least_latency(graph: Graph, target: int) -> Tree:
    """Dijkstra from the target against the direction of the links."""
    incoming: dict[int, list[Link]] = {}
    for link in graph.up_links():
        incoming.setdefault(link.target[0], []).append(link)
    hops: dict[int, tuple[PortId, PortId]] = {}
    done: set[int] = set()
    queue: list[tuple[int, int, int, tuple[PortId, PortId]]] = [(0, 0, target, ((target, 0), (target, 0)))]
    while queue:
        latency_us, length, dpid, hop = heapq.heappop(queue)
        if dpid in done:
            continue
        done.add(dpid)
        if dpid != target:
            hops[dpid] = hop
        for link in incoming.get(dpid, ()):
            if link.source[0] not in done:
                further = (latency_us + link.latency_us, length + 1, link.source[0], (link.source, link.target))
                heapq.heappush(queue, further)
    return Tree(target, hops)


def latency_us(graph: Graph, tree: Tree, dpid: int) -> int | None:
    """The sum over the links of the tree's path from `dpid`, as measured now; None when it is broken or absent."""
    total = 0
    path = tree.path(dpid)
    if not path:
        return None
    for switch in path[:-1]:
        source, target = tree.hops[switch]
        link = graph.links.get(source)
        if link is None or link.target != target or not graph.link_up(link):
            return None
        total += link.latency_us
    return total


def better(graph: Graph, old: Tree, new: Tree) -> bool:
    """Whether `new` is worth the change: it reaches more, an old path is broken, or one gains enough."""
    if new.hops.keys() != old.hops.keys():
        return True
    for dpid in new.hops:
        before, after = latency_us(graph, old, dpid), latency_us(graph, new, dpid)
        if before is None:
            return True
        if after is not None and before - after >= max(GAIN_US, before * GAIN_PPM // 1_000_000):
            return True
    return False


def choose(graph: Graph, old: Mapping[int, Tree]) -> dict[int, Tree]:
    """The tree of every connected switch that has hosts; old ones are kept where they are good enough."""
    trees: dict[int, Tree] = {}
    for target in sorted({host.at[0] for host in graph.hosts.values()} & graph.round_trips_us.keys()):
        new = least_latency(graph, target)
        before = old.get(target)
        trees[target] = new if before is None or better(graph, before, new) else before
    return trees


def reroutes(old: Mapping[int, Tree], new: Mapping[int, Tree]) -> tuple[str, ...]:
    """Every path that changed, in words; first paths are no reroutes."""
    words = []
    for target in sorted(old.keys() & new.keys()):
        if old[target] is new[target]:
            continue
        for dpid in sorted(old[target].hops):
            was, now = old[target].path(dpid), new[target].path(dpid)
            if was != now:
                words.append(f"reroute {_words(was)} to {_words(now) or 'nowhere'}")
    return tuple(words)


def _words(path: tuple[int, ...]) -> str:
    return "-".join(str(dpid) for dpid in path)
