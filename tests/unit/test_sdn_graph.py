from dataclasses import replace

from controller.sdn import graph as g
from controller.sdn.graph import Counters, Graph, Port

MAC = "02:00:00:00:00:01"


def two_switches() -> Graph:
    graph = Graph()
    for dpid in (1, 2):
        graph = g.switch_joined(graph, dpid, [Port((dpid, n), f"s{dpid}-eth{n}", True) for n in (1, 2)])
    return graph


def test_link_latency_is_smoothed_and_the_control_channel_taken_off() -> None:
    graph = g.round_trip_seen(g.round_trip_seen(two_switches(), 1, 200), 2, 400)
    graph = g.lldp_seen(graph, (1, 2), (2, 1), 5_300, 0)
    assert (graph.links[1, 2].latency_us, graph.links[1, 2].raw_us) == (5_000, 5_000)
    graph = g.lldp_seen(graph, (1, 2), (2, 1), 9_300, 1)
    assert (graph.links[1, 2].latency_us, graph.links[1, 2].raw_us) == (7_000, 9_000)
    graph = g.lldp_seen(graph, (2, 1), (1, 2), 100, 1)
    assert graph.links[2, 1].latency_us == 0  # never below nothing


def test_links_age_and_come_back_unsmoothed() -> None:
    graph = g.lldp_seen(two_switches(), (1, 2), (2, 1), 1_000, 0)
    assert g.aged(graph, 4_000_000, 4_000_000) is graph
    graph = g.aged(graph, 4_000_001, 4_000_000)
    assert graph.up_links() == []
    assert (2, 1) in graph.switch_ports()
    graph = g.lldp_seen(graph, (1, 2), (2, 1), 3_000, 5_000_000)
    assert [link.latency_us for link in graph.up_links()] == [3_000]


def test_link_is_down_while_either_port_is() -> None:
    graph = g.lldp_seen(two_switches(), (1, 2), (2, 1), 1_000, 0)
    for at in ((1, 2), (2, 1)):
        down = g.port_set(graph, Port(at, "x", False))
        assert down.up_links() == []
        assert g.differences(graph, down) == ("port down x", "link lost 1:2 -> 2:1")
    assert g.port_removed(graph, (2, 1)).links == {}


def test_replugged_port_has_one_link() -> None:
    graph = g.lldp_seen(two_switches(), (1, 1), (2, 1), 1_000, 0)
    graph = g.lldp_seen(graph, (1, 2), (2, 1), 1_000, 1)
    assert list(graph.links) == [(1, 2)]


def test_unknown_ports_and_echoes_of_oneself_teach_nothing() -> None:
    graph = two_switches()
    assert g.lldp_seen(graph, (9, 1), (2, 1), 10, 0) is graph
    assert g.lldp_seen(graph, (1, 1), (1, 1), 10, 0) is graph
    assert g.host_seen(graph, MAC, "", (9, 9)) is graph
    assert g.round_trip_seen(graph, 9, 5) is graph


def test_host_is_learned_moves_and_is_never_behind_a_switch_port() -> None:
    graph = g.host_seen(two_switches(), MAC, "10.0.0.1", (1, 1))
    assert graph.hosts[MAC].at == (1, 1)
    moved = g.host_seen(graph, MAC, "", (2, 2))
    assert (moved.hosts[MAC].at, moved.hosts[MAC].ip) == ((2, 2), "10.0.0.1")
    assert g.differences(graph, moved) == (f"host moved {MAC} at 2:2",)
    linked = g.lldp_seen(moved, (1, 1), (2, 2), 10, 0)
    assert linked.hosts == {}  # it was a switch all along
    assert g.host_seen(linked, MAC, "", (2, 2)) is linked


def test_hosts_are_bounded() -> None:
    hosts = {str(n): g.Host(str(n), "", (1, 1)) for n in range(g.HOSTS_MAX)}
    full = replace(two_switches(), hosts=hosts)
    assert g.host_seen(full, "one more", "", (1, 1)) is full
    assert g.host_seen(full, "7", "", (1, 2)).hosts["7"].at == (1, 2)


def test_rates_follow_from_two_readings() -> None:
    graph = g.counters_seen(two_switches(), (1, 1), Counters(1_000_000, 0, 1_000, 0, 0))
    assert graph.ports[1, 1].tx_bps == 0
    graph = g.counters_seen(graph, (1, 1), Counters(1_500_000, 625_000, 1_000, 3, 0))
    assert (graph.ports[1, 1].tx_bps, graph.ports[1, 1].rx_bps) == (10_000_000, 0)
    graph = g.counters_seen(graph, (1, 1), Counters(2_000_000, 0, 0, 0, 0))  # made anew
    assert graph.ports[1, 1].tx_bps == 0
    kept = g.port_set(graph, Port((1, 1), "renamed", False))
    assert kept.ports[1, 1].counters == graph.ports[1, 1].counters


def test_switch_leaves_with_its_links_and_its_hosts_stay_known() -> None:
    graph = g.host_seen(g.lldp_seen(two_switches(), (1, 2), (2, 1), 10, 0), MAC, "", (2, 2))
    gone = g.switch_left(graph, 2)
    assert (gone.links, {at for at in gone.ports if at[0] == 2}) == ({}, set())
    assert MAC in gone.hosts
    assert "switch 2 left" in g.differences(graph, gone)


def test_port_to_a_switch_that_left_is_no_place_for_a_host_until_it_was_down() -> None:
    gone = g.switch_left(g.lldp_seen(two_switches(), (1, 2), (2, 1), 10, 0), 2)
    assert g.host_seen(gone, MAC, "", (1, 2)) is gone
    assert MAC in g.host_seen(gone, MAC, "", (1, 1)).hosts
    still_up = g.port_set(gone, Port((1, 2), "renamed", True))
    assert g.host_seen(still_up, MAC, "", (1, 2)) is still_up
    replugged = g.port_set(g.port_set(gone, Port((1, 2), "x", False)), Port((1, 2), "x", True))
    assert g.host_seen(replugged, MAC, "", (1, 2)).hosts[MAC].at == (1, 2)
    back = g.lldp_seen(g.switch_joined(gone, 2, [Port((2, 1), "b", True)]), (1, 2), (2, 1), 10, 1)
    assert back.switch_ports() == {(1, 2), (2, 1)}
