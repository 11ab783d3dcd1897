"""What the SDN application knows of the network: switches, ports, links with their latencies, hosts.

Rules: a `Graph` is a value; each function takes what was seen and returns the next graph. Time is an argument
(CLOCK_MONOTONIC, us). A link is one direction, named by the port it leaves from; it is learned by an LLDP frame, usable
while both its ports are up and frames keep coming. A port with a link is a switch port and never holds a host.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

PortId = tuple[int, int]  # dpid, port number

HOSTS_MAX = 4096  # further hosts are not learned: a source that invents addresses cannot fill the tables


@dataclass(frozen=True, slots=True)
class Counters:
    """A port's own totals, read at `t_us`."""

    t_us: int
    tx_bytes: int
    rx_bytes: int
    tx_dropped: int
    rx_dropped: int


@dataclass(frozen=True, slots=True)
class Port:
    at: PortId
    name: str
    up: bool
    counters: Counters | None = None
    tx_bps: int = 0  # between the last two readings
    rx_bps: int = 0
    orphaned: bool = False  # led to a switch that has left, and has not been down since: still no place for a host


@dataclass(frozen=True, slots=True)
class Link:
    source: PortId
    target: PortId
    latency_us: int  # smoothed
    raw_us: int  # the last measurement
    seen_us: int
    fresh: bool = True  # False: no frame for too long


@dataclass(frozen=True, slots=True)
class Host:
    mac: str
    ip: str  # "" while unknown
    at: PortId


@dataclass(frozen=True, slots=True)
class Graph:
    round_trips_us: Mapping[int, int] = field(default_factory=dict)  # connected switch -> its control channel
    ports: Mapping[PortId, Port] = field(default_factory=dict)
    links: Mapping[PortId, Link] = field(default_factory=dict)  # by source
    hosts: Mapping[str, Host] = field(default_factory=dict)  # by MAC address

    def port_up(self, at: PortId) -> bool:
        return at in self.ports and self.ports[at].up

    def link_up(self, link: Link) -> bool:
        return link.fresh and self.port_up(link.source) and self.port_up(link.target)

    def up_links(self) -> list[Link]:
        """The usable links, in order of their source."""
        return [link for _, link in sorted(self.links.items()) if self.link_up(link)]

    def switch_ports(self) -> set[PortId]:
        ends = {end for link in self.links.values() for end in (link.source, link.target)}
        return ends | {at for at, port in self.ports.items() if port.orphaned}


def switch_joined(graph: Graph, dpid: int, ports: Iterable[Port]) -> Graph:
    """A switch connected; whatever was known of its ports and links is replaced."""
    known = switch_left(graph, dpid)
    return replace(
        known,
        round_trips_us={**known.round_trips_us, dpid: 0},
        ports={**known.ports, **{port.at: port for port in ports}},
    )


def switch_left(graph: Graph, dpid: int) -> Graph:
    """A switch is gone with its ports and links; its hosts stay known, for the switch may come back.

    What it still sends through a neighbour's port must not be taken for a host: the port remembers.
    """
    lost = [link for link in graph.links.values() if dpid in (link.source[0], link.target[0])]
    ends = {end for link in lost for end in (link.source, link.target)}
    ports = {at: port for at, port in graph.ports.items() if at[0] != dpid}
    return replace(
        graph,
        round_trips_us={d: rtt for d, rtt in graph.round_trips_us.items() if d != dpid},
        ports=ports | {at: replace(ports[at], orphaned=True) for at in ends & ports.keys()},
        links={source: link for source, link in graph.links.items() if dpid not in (source[0], link.target[0])},
    )


def port_set(graph: Graph, port: Port) -> Graph:
    """A port appeared or changed; its counters go on. Once down, anything may be plugged into it."""
    old = graph.ports.get(port.at)
    if old is not None:
        port = replace(old, name=port.name, up=port.up, orphaned=old.orphaned and port.up)
    return replace(graph, ports={**graph.ports, port.at: port})


def port_removed(graph: Graph, at: PortId) -> Graph:
    return replace(
        graph,
        ports={a: port for a, port in graph.ports.items() if a != at},
        links={s: link for s, link in graph.links.items() if at not in (s, link.target)},
        hosts={mac: host for mac, host in graph.hosts.items() if host.at != at},
    )


def round_trip_seen(graph: Graph, dpid: int, round_trip_us: int) -> Graph:
    old = graph.round_trips_us.get(dpid)
    if old is None:
        return graph
    smooth = (old + round_trip_us) // 2 if old else round_trip_us
    return replace(graph, round_trips_us={**graph.round_trips_us, dpid: smooth})


def counters_seen(graph: Graph, at: PortId, now: Counters) -> Graph:
    """Rates follow from the reading before; a counter that went back (a port made anew) gives rate 0."""
    port = graph.ports.get(at)
    if port is None:
        return graph
    before = port.counters
    tx_bps = rx_bps = 0
    if before is not None and now.t_us > before.t_us:
        elapsed_us = now.t_us - before.t_us
        tx_bps = max(0, (now.tx_bytes - before.tx_bytes) * 8_000_000 // elapsed_us)
        rx_bps = max(0, (now.rx_bytes - before.rx_bytes) * 8_000_000 // elapsed_us)
    return replace(graph, ports={**graph.ports, at: replace(port, counters=now, tx_bps=tx_bps, rx_bps=rx_bps)})


def lldp_seen(graph: Graph, source: PortId, target: PortId, elapsed_us: int, now_us: int) -> Graph:
    """A frame sent out of `source` came in at `target`, `elapsed_us` after the application had sent it.

    Half of each switch's control round trip is taken off. Ports that are not known, or a switch that hears itself on
    the same port, teach nothing.
    """
    if source == target or source not in graph.ports or target not in graph.ports:
        return graph
    trips = graph.round_trips_us
    raw_us = max(0, elapsed_us - (trips.get(source[0], 0) + trips.get(target[0], 0)) // 2)
    old = graph.links.get(source)
    same = old is not None and old.target == target and old.fresh
    latency_us = (old.latency_us + raw_us) // 2 if old is not None and same else raw_us
    # a port has one link: what was plugged in here before is gone
    links = {s: link for s, link in graph.links.items() if link.target != target or s == source}
    links[source] = Link(source, target, latency_us, raw_us, now_us)
    hosts = graph.hosts
    if not same:
        hosts = {mac: host for mac, host in hosts.items() if host.at not in (source, target)}
    return replace(graph, links=links, hosts=hosts)


def host_seen(graph: Graph, mac: str, ip: str, at: PortId) -> Graph:
    """A frame of a host came in at `at`: it is learned, or has moved there, unless the port leads to a switch."""
    if at not in graph.ports or at in graph.switch_ports():
        return graph
    old = graph.hosts.get(mac)
    if old is None and len(graph.hosts) >= HOSTS_MAX:
        return graph
    host = Host(mac, ip or (old.ip if old is not None else ""), at)
    return graph if host == old else replace(graph, hosts={**graph.hosts, mac: host})


def aged(graph: Graph, now_us: int, age_us: int) -> Graph:
    """Links without a frame for more than `age_us` are not fresh; they stay known: their ports stay switch ports."""
    late = {s: replace(link, fresh=False) for s, link in graph.links.items() if now_us - link.seen_us > age_us}
    return replace(graph, links={**graph.links, **late}) if late else graph


def newcomer(old: Graph, new: Graph) -> Host | None:
    """The host that was learned, when that is all that changed."""
    rest = (old.round_trips_us, old.ports, old.links), (new.round_trips_us, new.ports, new.links)
    if len(new.hosts) != len(old.hosts) + 1 or any(a is not b for a, b in zip(*rest, strict=True)):
        return None
    (mac,) = new.hosts.keys() - old.hosts.keys()
    return new.hosts[mac]


def differences(old: Graph, new: Graph) -> tuple[str, ...]:
    """What changed in the shape of the network, in words; empty when only numbers changed.

    A part that is the very same value is not looked at: most events change one.
    """
    words: list[str] = []
    if new.round_trips_us is not old.round_trips_us:
        words += [f"switch {d} left" for d in sorted(old.round_trips_us.keys() - new.round_trips_us.keys())]
        words += [f"switch {d} joined" for d in sorted(new.round_trips_us.keys() - old.round_trips_us.keys())]
    if new.ports is not old.ports:
        words += _ports_changed(old.ports, new.ports)
    if new.ports is not old.ports or new.links is not old.links:
        before = {(link.source, link.target) for link in old.links.values() if old.link_up(link)}
        after = {(link.source, link.target) for link in new.links.values() if new.link_up(link)}
        words += [f"link lost {_ends(ends)}" for ends in sorted(before - after)]
        words += [f"link found {_ends(ends)}" for ends in sorted(after - before)]
    if new.hosts is not old.hosts:
        words += _hosts_changed(old.hosts, new.hosts)
    return tuple(words)


def _ports_changed(old: Mapping[PortId, Port], new: Mapping[PortId, Port]) -> Iterator[str]:
    for at in sorted(at for at in old.keys() & new.keys() if old[at].up != new[at].up):
        yield f"port {'up' if new[at].up else 'down'} {new[at].name}"
    yield from (f"port removed {old[at].name}" for at in sorted(old.keys() - new.keys()))
    yield from (f"port added {new[at].name}" for at in sorted(new.keys() - old.keys()))


def _hosts_changed(old: Mapping[str, Host], new: Mapping[str, Host]) -> Iterator[str]:
    for mac in sorted(dict(old.items() ^ new.items())):
        was, now = old.get(mac), new.get(mac)
        if now is None:
            yield f"host forgotten {mac}"
        elif was is None or was.at != now.at:
            yield f"host {'found' if was is None else 'moved'} {mac} at {now.at[0]}:{now.at[1]}"


def _ends(ends: tuple[PortId, PortId]) -> str:
    (a, a_port), (b, b_port) = ends
    return f"{a}:{a_port} -> {b}:{b_port}"
