from controller.sdn.flows import ADMIT, BASE, FORWARD, diff, tables
from controller.sdn.graph import Graph, Host, Link, Port
from controller.sdn.paths import choose


def line(hosts: dict[str, Host]) -> Graph:
    """1 - 2 - 3; port 1 leads down, port 2 up, port 3 is for hosts."""
    ports = {(d, n): Port((d, n), f"s{d}-{n}", True) for d in (1, 2, 3) for n in (1, 2, 3)}
    pairs = [((1, 2), (2, 1)), ((2, 2), (3, 1))]
    links = {a: Link(a, b, 1_000, 1_000, 0) for x, y in pairs for a, b in ((x, y), (y, x))}
    return Graph(dict.fromkeys((1, 2, 3), 0), ports, links, hosts)


def planned(hosts: dict[str, Host]) -> dict:
    graph = line(hosts)
    return tables(graph, choose(graph, {}))


FAR = {"h": Host("h", "", (3, 3))}


def test_every_switch_knows_the_way_to_every_host() -> None:
    wanted = planned(FAR)
    outputs = {d: [f.output for f in flows if f.table == FORWARD and f.match] for d, flows in wanted.items()}
    assert outputs == {1: [2], 2: [2], 3: [3]}
    assert all(flows >= BASE for flows in wanted.values())


def test_only_the_own_port_admits_a_host_and_links_admit_all() -> None:
    admits = {
        d: {f.match for f in flows if f.table == ADMIT and f.priority == 100} for d, flows in planned(FAR).items()
    }
    assert admits[1] == {(("in_port", 2),)}
    assert admits[3] == {(("in_port", 1),), (("in_port", 3), ("eth_src", "h"))}


def test_equal_tables_need_no_messages() -> None:
    assert diff(planned(FAR), planned(FAR)) == ()


def test_paths_are_laid_from_their_end_and_admitted_first() -> None:
    mods = diff({}, planned(FAR))
    to_host = [mod.dpid for mod in mods if mod.flow.match == (("eth_dst", "h"),)]
    assert to_host == [3, 2, 1]
    kinds = [mod.flow.table for mod in mods]
    assert kinds == sorted(kinds)
    assert {mod.command for mod in mods} == {"add"}


def test_moved_host_is_overwritten_before_its_old_admission_goes() -> None:
    mods = diff(planned(FAR), planned({"h": Host("h", "", (1, 3))}))
    deletes = [mod for mod in mods if mod.command == "delete"]
    assert mods[-len(deletes) :] == tuple(deletes)
    assert [(mod.dpid, mod.flow.match) for mod in deletes] == [(3, (("in_port", 3), ("eth_src", "h")))]
    assert [mod.dpid for mod in mods if mod.flow.match == (("eth_dst", "h"),)] == [1, 2, 3]


def test_forgotten_host_is_taken_away_from_the_beginning() -> None:
    mods = diff(planned(FAR), planned({}))
    assert [mod.dpid for mod in mods if mod.flow.table == FORWARD] == [1, 2, 3]
    assert {mod.command for mod in mods} == {"delete"}
    assert diff(planned(FAR), {}) == ()  # switches that are gone get nothing
