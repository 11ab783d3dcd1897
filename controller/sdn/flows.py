"""Paths as flow tables: pure data, and the ordered changes from one set of tables to the next.

Rules: table 0 admits, table 1 forwards. Table 0 sends LLDP and ARP to the controller, lets in what comes from a switch
or from a host where it is known to be, and shows the controller whoever is new; table 1 knows destinations and drops
the rest: nothing is ever flooded. A new path is laid from its end to its beginning and before an old one is taken away.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from controller.sdn.graph import Graph, Host
from controller.sdn.paths import Tree

ADMIT, FORWARD = 0, 1  # tables
CONTROLLER = 0xFFFFFFFD  # OFPP_CONTROLLER
LLDP_TYPE, ARP_TYPE = 0x88CC, 0x0806

Match = tuple[tuple[str, int | str], ...]  # OpenFlow field -> value
Key = tuple[int, int, Match]


@dataclass(frozen=True, slots=True)
class Flow:
    table: int
    priority: int
    match: Match
    output: int = 0  # port; 0: none
    goto: int = 0  # table; 0: none
    rank: int = field(default=0, compare=False)  # switches still to cross: the order of laying a path

    @property
    def key(self) -> Key:
        """What a switch holds at most one flow of."""
        return self.table, self.priority, self.match


Tables = Mapping[int, frozenset[Flow]]  # by dpid


@dataclass(frozen=True, slots=True)
class FlowMod:
    dpid: int
    command: Literal["add", "delete"]
    flow: Flow


BASE = frozenset(
    {
        Flow(ADMIT, 1000, (("eth_type", LLDP_TYPE),), output=CONTROLLER),
        Flow(ADMIT, 900, (("eth_type", ARP_TYPE),), output=CONTROLLER, goto=FORWARD),
        Flow(ADMIT, 0, (), output=CONTROLLER, goto=FORWARD),
        Flow(FORWARD, 0, ()),
    }
)


def tables(graph: Graph, trees: Mapping[int, Tree]) -> dict[int, frozenset[Flow]]:
    """The flows that every connected switch should hold."""
    wanted: dict[int, set[Flow]] = {dpid: set(BASE) for dpid in graph.round_trips_us}
    for dpid, port in sorted(graph.switch_ports()):
        if dpid in wanted:
            wanted[dpid].add(Flow(ADMIT, 100, (("in_port", port),), goto=FORWARD))
    for host in graph.hosts.values():
        for dpid, flow in ways(graph, trees, host):
            wanted[dpid].add(flow)
    return {dpid: frozenset(flows) for dpid, flows in wanted.items()}


def ways(graph: Graph, trees: Mapping[int, Tree], host: Host) -> Iterator[tuple[int, Flow]]:
    """What one host needs: let in where it is, reached from every connected switch that has a path."""
    home, port = host.at
    if home not in graph.round_trips_us:
        return
    yield home, Flow(ADMIT, 100, (("in_port", port), ("eth_src", host.mac)), goto=FORWARD)
    to_host: Match = (("eth_dst", host.mac),)
    yield home, Flow(FORWARD, 100, to_host, output=port)
    if home not in trees:
        return
    for dpid, (source, _) in trees[home].hops.items():
        if dpid in graph.round_trips_us:
            yield dpid, Flow(FORWARD, 100, to_host, output=source[1], rank=len(trees[home].path(dpid)))


def added(old: Tables, more: Iterable[tuple[int, Flow]]) -> tuple[Tables, tuple[FlowMod, ...]]:
    """The tables with some flows more, and the changes in the order to send them."""
    new = dict(old)
    mods = []
    for dpid, flow in more:
        new[dpid] = new.get(dpid, frozenset()) | {flow}
        mods.append(FlowMod(dpid, "add", flow))
    return new, tuple(sorted(mods, key=_order))


def diff(old: Tables, new: Tables) -> tuple[FlowMod, ...]:
    """The changes in the order to send them: admit, lay paths from their ends, then take away from the beginnings.

    A flow whose key stays is overwritten in place. Switches that are no longer there get nothing.
    """
    adds = [FlowMod(dpid, "add", flow) for dpid, flows in new.items() for flow in flows - old.get(dpid, frozenset())]
    deletes = []
    for dpid, flows in new.items():
        kept = {flow.key for flow in flows}
        deletes += [FlowMod(dpid, "delete", flow) for flow in old.get(dpid, frozenset()) if flow.key not in kept]
    return (*sorted(adds, key=_order), *sorted(deletes, key=_order, reverse=True))


def _order(mod: FlowMod) -> tuple[int, int, int, int, str]:
    flow = mod.flow
    return flow.table, flow.rank, mod.dpid, flow.priority, str(flow.match)
