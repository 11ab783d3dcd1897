"""The core drives a pretend network: flow tables as data, wires with delays, and the question where a packet goes."""

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.sdn import core, flows, lldp, paths
from controller.sdn.flows import ADMIT, CONTROLLER, FORWARD, Flow, FlowMod, Key
from controller.sdn.graph import Counters, Port, PortId

PERIOD_US = 1_000_000
CONTROL_US = 150  # one way between a switch and the application
NOBODY = "02:00:00:00:00:99"


def frame(source: str, target: str = "ff:ff:ff:ff:ff:ff", ip: tuple[int, ...] = (10, 0, 0, 1)) -> bytes:
    """An IPv4 packet, or the announcing ARP when it is for everybody."""
    macs = bytes.fromhex((target + source).replace(":", ""))
    if target == "ff:ff:ff:ff:ff:ff":
        return macs + bytes.fromhex("08060001080006040001") + macs[6:] + bytes(ip) + bytes(10)
    return macs + bytes.fromhex("0800") + bytes(12) + bytes(ip) + bytes(4)


def fields(data: bytes, port: int) -> dict[str, int | str]:
    kind = int.from_bytes(data[12:14], "big")
    return {"in_port": port, "eth_type": kind, "eth_dst": data[:6].hex(":"), "eth_src": data[6:12].hex(":")}


def outputs(flows: Mapping[Key, Flow], data: bytes, port: int) -> list[int]:
    """The ports one switch's pipeline sends a frame to."""
    seen, out, table = fields(data, port), [], ADMIT
    while True:
        hits = [flow for flow in flows.values() if flow.table == table and all(seen[k] == v for k, v in flow.match)]
        if not hits:
            return out
        best = max(hits, key=lambda flow: flow.priority)
        assert [flow.priority for flow in hits].count(best.priority) == 1, "two flows of one priority match"
        out += [best.output] if best.output else []
        if not best.goto:
            return out
        assert best.goto > table
        table = best.goto


@dataclass
class Network:
    """Switches, wires and the application, in simulated time."""

    wires: dict[PortId, tuple[PortId, int]]  # where a port leads, and how long it takes
    access: dict[str, PortId]  # MAC -> where the host is plugged in
    state: core.State = field(default_factory=lambda: core.start(PERIOD_US))
    tables: dict[int, dict[Key, Flow]] = field(default_factory=dict)
    now_us: int = 0
    down: set[PortId] = field(default_factory=set)
    arrived: list[tuple[PortId, bytes]] = field(default_factory=list)
    mods: list[FlowMod] = field(default_factory=list)
    _queue: list = field(default_factory=list)
    _count: itertools.count = field(default_factory=itertools.count)

    def ports(self, dpid: int) -> tuple[Port, ...]:
        ends = {at for at in (*self.wires, *self.access.values()) if at[0] == dpid}
        return tuple(Port(at, f"s{at[0]}-eth{at[1]}", at not in self.down) for at in sorted(ends))

    def later(self, delay_us: int, event: core.Event) -> None:
        heapq.heappush(self._queue, (self.now_us + delay_us, next(self._count), event))

    def feed(self, event: core.Event) -> None:
        self.state, messages = core.step(self.state, event, self.now_us)
        for message in messages:
            self._apply(message)

    def _apply(self, message: core.Message) -> None:
        match message:
            case FlowMod(dpid, command, flow):
                self.mods.append(message)
                if command == "add":
                    self.tables[dpid][flow.key] = flow
                else:
                    del self.tables[dpid][flow.key]  # what is deleted must have been there
            case core.Clear(dpid):
                self.tables[dpid] = {}
            case core.Echo(dpid):
                self.later(2 * CONTROL_US, core.EchoSeen(dpid, self.now_us))
            case core.Probe(dpid, port):
                data = lldp.encode(lldp.Stamp(dpid, port, self.now_us))
                self._out((dpid, port), data, CONTROL_US)
            case core.ReadCounters(dpid):
                readings = {port.at: Counters(self.now_us, 0, 0, 0, 0) for port in self.ports(dpid)}
                self.later(2 * CONTROL_US, core.CountersSeen(readings))

    def _out(self, at: PortId, data: bytes, after_us: int, hops: int = 0) -> None:
        if at in self.down:
            return
        if at in self.access.values():
            self.arrived.append((at, data))
        elif at in self.wires and self.wires[at][0] not in self.down:
            there, wire_us = self.wires[at]
            self.enter(there, data, after_us + wire_us, hops + 1)

    def enter(self, at: PortId, data: bytes, after_us: int = 0, hops: int = 0) -> None:
        assert hops < 20, "a loop"
        for port in outputs(self.tables.get(at[0], {}), data, at[1]):
            if port == CONTROLLER:
                self.later(after_us + CONTROL_US, core.FrameSeen(at, data))
            else:
                self._out((at[0], port), data, after_us, hops)

    def send(self, source: str, target: str) -> list[PortId]:
        """Where a packet of one host comes out."""
        self.arrived.clear()
        self.enter(self.access[source], frame(source, target))
        return [at for at, _ in self.arrived]

    def join(self) -> None:
        for dpid in sorted({at[0] for at in self.wires}):
            self.tables.setdefault(dpid, {})
            self.feed(core.SwitchJoined(dpid, self.ports(dpid)))

    def run(self, periods: int) -> None:
        for _ in range(periods):
            end_us = self.now_us + PERIOD_US
            self.feed(core.Measure())
            self.later(PERIOD_US // 2, core.Review())
            while self._queue and self._queue[0][0] <= end_us:
                self.now_us, _, event = heapq.heappop(self._queue)
                self.feed(event)
            self.now_us = end_us


def triangle(hosts: bool = True) -> Network:
    """s1, s2, s3; port n of a switch leads to switch n, port 9 to its host; 2 ms each way, 10 ms between 1 and 2."""
    pairs = {(1, 2): 10_000, (1, 3): 2_000, (3, 2): 2_000}
    wires = {(x, y): ((y, x), us) for (a, b), us in pairs.items() for x, y in ((a, b), (b, a))}
    network = Network(wires, {f"02:00:00:00:00:0{d}": (d, 9) for d in (1, 2, 3)} if hosts else {})
    network.join()
    return network


A, B, C = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"


def announced() -> Network:
    network = triangle()
    network.run(2)
    for mac, at in network.access.items():
        network.enter(at, frame(mac))
    network.run(1)
    return network


def test_links_are_found_and_timed_exactly() -> None:
    network = triangle()
    network.run(1)
    latencies = {link.source: link.latency_us for link in network.state.graph.up_links()}
    network.run(1)
    exact = {source: wire_us for source, (_, wire_us) in network.wires.items()}
    assert {link.source: link.raw_us for link in network.state.graph.up_links()} == exact
    assert latencies.keys() == exact.keys()


def test_all_pairs_reach_each_other_and_nobody_else() -> None:
    network = announced()
    for source, target in itertools.permutations(network.access, 2):
        assert network.send(source, target) == [network.access[target]]
        assert network.send(source, NOBODY) == []
    assert network.send(A, "ff:ff:ff:ff:ff:ff") == []
    assert {host.ip for host in network.state.graph.hosts.values()} == {"10.0.0.1"}
    assert network.state.trees[2].path(1) == (1, 3, 2)


def test_a_new_host_gets_its_own_flows_and_nobody_elses() -> None:
    network = triangle()
    network.run(2)
    for mac, at in network.access.items():
        network.mods.clear()
        network.feed(core.FrameSeen(at, frame(mac)))
        assert {mod.flow.match[-1][1] for mod in network.mods} == {mac}
        assert sorted(mod.dpid for mod in network.mods) == sorted((1, 2, 3, at[0]))  # one more where it is let in
        assert network.state.tables == flows.tables(network.state.graph, network.state.trees)
    assert network.state.trees == paths.choose(network.state.graph, {})


def test_joining_switches_probe_each_link_a_few_times() -> None:
    line = {(n, 2): ((n + 1, 1), 1_000) for n in range(1, 20)}
    network = Network(line | {there: (at, us) for at, (there, us) in line.items()}, {})
    probes = 0
    for dpid in range(1, 21):
        network.tables[dpid] = {}
        network.state, messages = core.step(network.state, core.SwitchJoined(dpid, network.ports(dpid)), 0)
        probes += sum(isinstance(message, core.Probe) for message in messages)
    assert probes == len(network.wires)
    network.join()
    network.now_us += 1_000
    while network._queue and network._queue[0][0] < PERIOD_US:
        network.now_us, _, event = heapq.heappop(network._queue)
        network.feed(event)
    assert len(network.state.graph.up_links()) == len(network.wires)  # without a Measure


def test_traffic_before_discovery_heals() -> None:
    network = triangle()
    for mac, at in network.access.items():
        network.enter(at, frame(mac))
        network.enter(((at[0] % 3) + 1, at[0]), frame(mac))  # a stray copy over a wire not yet known to be one
    network.run(2)
    for mac, at in network.access.items():
        network.enter(at, frame(mac))
    network.run(1)
    assert {mac: host.at for mac, host in network.state.graph.hosts.items()} == network.access
    assert network.send(A, B) == [network.access[B]]


def test_port_down_reroutes_at_once() -> None:
    network = announced()
    network.state = core.taken(network.state)
    network.down.add((1, 3))
    network.feed(core.PortSet(Port((1, 3), "s1-eth3", False)))
    assert network.send(A, B) == [network.access[B]]
    assert network.state.trees[2].path(1) == (1, 2)
    assert "port down s1-eth3" in network.state.changes
    assert "reroute 1-3-2 to 1-2" in network.state.changes


def test_silent_link_is_lost_and_found_again() -> None:
    network = announced()
    wires = dict(network.wires)
    for at in ((1, 3), (3, 1)):  # frames vanish, ports stay up
        network.wires[at] = ((77, 1), 0)
    network.run(core.AGE_PERIODS + 2)
    assert network.state.trees[2].path(1) == (1, 2)
    network.wires = wires
    network.run(2)
    assert network.state.trees[2].path(1) == (1, 3, 2)


def test_slower_link_is_left_at_the_next_review_only() -> None:
    network = announced()
    network.wires[1, 3] = ((3, 1), 40_000)
    network.mods.clear()
    network.feed(core.Measure())
    assert network.mods == []
    network.run(1)
    assert network.state.trees[2].path(1) == (1, 2)
    assert network.send(A, B) == [network.access[B]]
    assert {mod.command for mod in network.mods} == {"add"}  # overwritten in place: nothing is broken before


def test_what_is_measured_of_a_switch_is_asked_for_in_one_go() -> None:
    network = announced()
    _, messages = core.step(network.state, core.Measure(), network.now_us)
    dpids = [message.dpid for message in messages]
    assert dpids == sorted(dpids)
    for dpid, ours in itertools.groupby(messages, lambda message: message.dpid):
        probes = [core.Probe(*port.at) for port in network.ports(dpid)]
        assert list(ours) == [core.Echo(dpid), *probes, core.ReadCounters(dpid)]


def test_steady_network_sends_no_flows() -> None:
    network = announced()
    network.mods.clear()
    network.run(5)
    assert network.mods == []


def test_moved_host_is_followed_by_its_first_packet() -> None:
    network = announced()
    network.access = {**network.access, A: (2, 8)}
    network.feed(core.PortSet(Port((2, 8), "s2-eth8", True)))
    assert network.send(A, C) == [network.access[C]]  # forwarded, and shown to the application
    network.run(1)
    assert network.state.graph.hosts[A].at == (2, 8)
    assert network.send(C, A) == [(2, 8)]
    assert f"host moved {A} at 2:8" in network.state.changes


def test_rejoining_switch_gets_all_its_flows_again() -> None:
    network = announced()
    network.feed(core.SwitchLeft(3))
    assert network.send(A, B) == [network.access[B]]
    assert network.send(A, C) == []
    network.tables[3] = {(ADMIT, 7, ()): Flow(ADMIT, 7, (), output=1), (FORWARD, 5, ()): Flow(FORWARD, 5, (), output=1)}
    network.feed(core.SwitchJoined(3, network.ports(3)))
    network.run(2)
    assert network.send(A, C) == [network.access[C]]
    held = {dpid: frozenset(flows.values()) for dpid, flows in network.tables.items()}
    assert held == network.state.tables


def test_switch_that_joins_twice_without_leaving_is_set_up_anew() -> None:
    network = Network({(1, 1): ((1, 1), 0)}, {})
    network.join()
    once = dict(network.tables[1])
    network.join()
    assert network.tables[1] == once != {}


def test_changes_are_bounded_and_taken() -> None:
    state = replace(core.start(PERIOD_US), changes=("x",) * core.CHANGES_MAX)
    state, _ = core.step(state, core.SwitchJoined(1, ()), 0)
    assert len(state.changes) == core.CHANGES_MAX
    assert state.changes[-1] == "switch 1 joined"
    assert core.taken(state).changes == ()


def test_events_of_unknown_switches_change_nothing() -> None:
    state = core.start(PERIOD_US)
    strange = (core.PortSet(Port((7, 1), "x", True)), core.PortRemoved((7, 1)), core.EchoSeen(7, 0), core.SwitchLeft(7))
    for event in (*strange, core.FrameSeen((7, 1), frame(A)), core.FrameSeen((7, 1), b"")):
        after, messages = core.step(state, event, 5)
        assert (after, messages) == (state, ())
