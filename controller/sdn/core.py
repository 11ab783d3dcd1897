"""The SDN application without its shell: (state, event, time) -> (state, messages).

Rules: `step` is the only way from one state to the next and does no I/O; messages are data for the shell to send.
Changes of shape (a port, a switch, a link, a host) reroute at once; changes of latency at the next `Review`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.sdn import flows, graph, lldp, paths
from controller.sdn.flows import FlowMod
from controller.sdn.graph import Counters, Graph, Port, PortId
from controller.sdn.sender import sender

CHANGES_MAX = 256
AGE_PERIODS = 4  # a link without a frame for longer is lost


# -- events


@dataclass(frozen=True, slots=True)
class SwitchJoined:
    dpid: int
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class SwitchLeft:
    dpid: int


@dataclass(frozen=True, slots=True)
class PortSet:
    port: Port


@dataclass(frozen=True, slots=True)
class PortRemoved:
    at: PortId


@dataclass(frozen=True, slots=True)
class FrameSeen:
    at: PortId
    data: bytes


@dataclass(frozen=True, slots=True)
class EchoSeen:
    dpid: int
    sent_us: int


@dataclass(frozen=True, slots=True)
class CountersSeen:
    counters: Mapping[PortId, Counters]


@dataclass(frozen=True, slots=True)
class Measure:
    """Once a period: probe every link, control channel and counter."""


@dataclass(frozen=True, slots=True)
class Review:
    """Once a period, when the probes have come back: age links, choose paths anew, report."""


Event = SwitchJoined | SwitchLeft | PortSet | PortRemoved | FrameSeen | EchoSeen | CountersSeen | Measure | Review

# -- messages


@dataclass(frozen=True, slots=True)
class Clear:
    """Delete all flows of a switch: it may bring some from an earlier application."""

    dpid: int


@dataclass(frozen=True, slots=True)
class Probe:
    """An LLDP frame out of a port; stamped by the shell at the moment of sending."""

    dpid: int
    port: int


@dataclass(frozen=True, slots=True)
class Echo:
    """A time-stamped echo request, for the round trip of the control channel."""

    dpid: int


@dataclass(frozen=True, slots=True)
class ReadCounters:
    dpid: int


Message = FlowMod | Clear | Probe | Echo | ReadCounters


@dataclass(frozen=True, slots=True)
class State:
    age_us: int
    graph: Graph = field(default_factory=Graph)
    trees: Mapping[int, paths.Tree] = field(default_factory=dict)
    tables: flows.Tables = field(default_factory=dict)  # as sent to the switches
    changes: tuple[str, ...] = ()  # since they were last taken, at most CHANGES_MAX


def start(period_us: int) -> State:
    return State(age_us=AGE_PERIODS * period_us)


def taken(state: State) -> State:
    """The state after its changes have been reported."""
    return replace(state, changes=())


def step(state: State, event: Event, now_us: int) -> tuple[State, tuple[Message, ...]]:
    before, after = state.graph, _seen(state, event, now_us)
    words = graph.differences(before, after)
    messages: list[Message] = []
    if isinstance(event, SwitchJoined):
        messages.append(Clear(event.dpid))
        state = replace(state, tables={d: table for d, table in state.tables.items() if d != event.dpid})
    state = replace(state, graph=after, changes=(*state.changes, *words)[-CHANGES_MAX:])
    newcomer = graph.newcomer(before, after)
    if newcomer is not None:
        state, mods = _welcomed(state, newcomer)
        messages += mods
    elif words or isinstance(event, SwitchJoined | Review):
        state, mods = _rerouted(state)
        messages += mods
    if isinstance(event, Measure):
        messages += _measurements(after)
    else:
        messages += _new_ground(event, before, after)
    return state, tuple(messages)


def _seen(state: State, event: Event, now_us: int) -> Graph:
    known = state.graph
    match event:
        case SwitchJoined(dpid, ports):
            known = graph.switch_joined(known, dpid, ports)
        case SwitchLeft(dpid):
            known = graph.switch_left(known, dpid)
        case PortSet(port) if port.at[0] in known.round_trips_us:
            known = graph.port_set(known, port)
        case PortRemoved(at):
            known = graph.port_removed(known, at)
        case FrameSeen(at, data):
            known = _frame(known, at, data, now_us)
        case EchoSeen(dpid, sent_us):
            known = graph.round_trip_seen(known, dpid, max(0, now_us - sent_us))
        case CountersSeen(counters):
            for at, reading in counters.items():
                known = graph.counters_seen(known, at, reading)
        case Review():
            known = graph.aged(known, now_us, state.age_us)
    return known


def _frame(known: Graph, at: PortId, data: bytes, now_us: int) -> Graph:
    stamp = lldp.decode(data)
    if stamp is not None:
        return graph.lldp_seen(known, (stamp.dpid, stamp.port), at, now_us - stamp.sent_us, now_us)
    who = None if data[12:14] == lldp.ETHERTYPE.to_bytes(2, "big") else sender(data)
    return known if who is None else graph.host_seen(known, *who, at)


def _rerouted(state: State) -> tuple[State, tuple[FlowMod, ...]]:
    trees = paths.choose(state.graph, state.trees)
    tables = flows.tables(state.graph, trees)
    words = paths.reroutes(state.trees, trees)
    changed = replace(state, trees=trees, tables=tables, changes=(*state.changes, *words)[-CHANGES_MAX:])
    return changed, flows.diff(state.tables, tables)


def _welcomed(state: State, host: graph.Host) -> tuple[State, tuple[FlowMod, ...]]:
    """Ways to one new host and nothing else: to lay all anew for each of many takes the square of their number."""
    home = host.at[0]
    trees = state.trees
    if home in state.graph.round_trips_us and home not in trees:
        trees = {**trees, home: paths.least_latency(state.graph, home)}
    tables, mods = flows.added(state.tables, flows.ways(state.graph, trees, host))
    return replace(state, trees=trees, tables=tables), mods


def _new_ground(event: Event, before: Graph, after: Graph) -> list[Message]:
    """Probes where there may be a link that is worth looking for before the period is over."""
    match event:
        case SwitchJoined(dpid, ports):
            return [Echo(dpid), *(Probe(*port.at) for port in ports if port.up)]
        case PortSet(port) if port.up and port.at in after.ports:
            return [Echo(port.at[0]), Probe(*port.at)]
        case FrameSeen(at) if after.links is not before.links:  # a link that works one way may work the other way too
            back = after.links.get(at)
            return [] if back is not None and after.link_up(back) else [Echo(at[0]), Probe(*at)]
    return []


def _measurements(known: Graph) -> list[Message]:
    """A switch at a time, so that the shell can send all that is for one in one go."""
    ports: dict[int, list[Message]] = {dpid: [] for dpid in sorted(known.round_trips_us)}
    for at, port in sorted(known.ports.items()):
        if port.up and at[0] in ports:
            ports[at[0]].append(Probe(*at))
    return [message for dpid, probes in ports.items() for message in (Echo(dpid), *probes, ReadCounters(dpid))]
