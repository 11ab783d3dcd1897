import itertools
import random
from collections.abc import Mapping

from controller.sdn.graph import Graph, Host, Link, Port
from controller.sdn.paths import choose, latency_us, least_latency, reroutes


def network(latencies_us: Mapping[tuple[int, int], int], hosts_at: tuple[int, ...] = ()) -> Graph:
    """Switch a's port to b is numbered b; port 99 is the host's. Latencies are one way, by (from, to)."""
    ports = {(a, b): Port((a, b), f"s{a}s{b}", True) for pair in latencies_us for a, b in (pair, pair[::-1])}
    links = {(a, b): Link((a, b), (b, a), us, us, 0) for (a, b), us in latencies_us.items()}
    hosts = {f"h{a}": Host(f"h{a}", "", (a, 99)) for a in hosts_at}
    return Graph({a: 0 for a, _ in ports}, ports, links, hosts)


def both(one_way: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    return {**one_way, **{(b, a): us for (a, b), us in one_way.items()}}


def test_least_latency_not_fewest_hops() -> None:
    graph = network(both({(1, 2): 9_000, (1, 3): 4_000, (3, 2): 4_000}))
    tree = least_latency(graph, 2)
    assert tree.path(1) == (1, 3, 2)
    assert tree.path(2) == (2,)
    assert tree.path(7) == ()
    assert latency_us(graph, tree, 1) == 8_000
    assert latency_us(graph, tree, 2) == 0


def test_directions_are_measured_apart() -> None:
    graph = network({(1, 2): 9_000, (2, 1): 1_000, **both({(1, 3): 2_000, (3, 2): 2_000})})
    assert least_latency(graph, 2).path(1) == (1, 3, 2)
    assert least_latency(graph, 1).path(2) == (2, 1)


def test_ties_go_to_fewer_hops_then_lower_numbers() -> None:
    zero = network(both({(1, 2): 0, (1, 3): 0, (3, 2): 0}))
    assert least_latency(zero, 2).path(1) == (1, 2)
    square = network(both({(1, 2): 5, (2, 4): 5, (1, 3): 5, (3, 4): 5}))
    assert least_latency(square, 4).path(1) == (1, 2, 4)


def test_tree_equals_brute_force() -> None:
    draw = random.Random(3)
    for _ in range(20):
        pairs = {
            (a, b): draw.randrange(1, 50) for a, b in itertools.permutations(range(1, 6), 2) if draw.random() < 0.6
        }
        graph = network(pairs)
        tree = least_latency(graph, 1)
        for start in range(2, 6):
            costs = [
                sum(pairs[hop] for hop in itertools.pairwise((start, *middle, 1)))
                for size in range(4)
                for middle in itertools.permutations(set(range(2, 6)) - {start}, size)
                if all(hop in pairs for hop in itertools.pairwise((start, *middle, 1)))
            ]
            assert latency_us(graph, tree, start) == min(costs, default=None)


def test_path_is_kept_until_another_is_better_by_share_and_amount() -> None:
    def triangle(direct_us: int) -> Graph:
        return network(both({(1, 2): direct_us, (1, 3): 5_000, (3, 2): 5_000}), hosts_at=(2,))

    trees = choose(triangle(9_000), {})
    assert trees[2].path(1) == (1, 2)
    for direct_us in (10_400, 11_000):  # by 0.4 ms; by 1 ms, which is less than 10 %
        assert choose(triangle(direct_us), trees)[2] is trees[2]
    moved = choose(triangle(11_200), trees)
    assert moved[2].path(1) == (1, 3, 2)
    assert reroutes(trees, moved) == ("reroute 1-2 to 1-3-2",)


def test_small_gains_never_move_a_path_however_large_the_share() -> None:
    def triangle(direct_us: int) -> Graph:
        return network(both({(1, 2): direct_us, (1, 3): 50, (3, 2): 50}), hosts_at=(2,))

    trees = choose(triangle(60), {})
    assert choose(triangle(590), trees)[2] is trees[2]
    assert choose(triangle(600), trees)[2].path(1) == (1, 3, 2)


def test_broken_path_is_replaced_at_once_and_a_lost_switch_has_none() -> None:
    links = both({(1, 2): 1_000, (1, 3): 5_000, (3, 2): 5_000})
    trees = choose(network(links, hosts_at=(2,)), {})
    cut = {pair: us for pair, us in links.items() if set(pair) != {1, 2}}
    after = choose(network(cut, hosts_at=(2,)), trees)
    assert after[2].path(1) == (1, 3, 2)
    alone = {pair: us for pair, us in cut.items() if set(pair) != {1, 3}}
    last = choose(network(alone, hosts_at=(2,)), after)
    assert last[2].path(1) == ()
    assert reroutes(after, last) == ("reroute 1-3-2 to nowhere",)


def test_trees_never_loop_whatever_the_history() -> None:
    draw = random.Random(5)
    trees: dict = {}
    for _ in range(100):
        links = {
            (a, b): draw.randrange(20_000) for a, b in itertools.permutations(range(1, 6), 2) if draw.random() < 0.7
        }
        graph = network({**links, (1, 2): 500, (2, 1): 500}, hosts_at=(1, 2, 5))
        trees = choose(graph, trees)
        for target, tree in trees.items():
            for dpid in tree.hops:
                path = tree.path(dpid)
                assert path[-1] == target
                assert len(set(path)) == len(path)
