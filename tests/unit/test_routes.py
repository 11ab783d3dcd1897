"""Paths between hosts, by a search from each host, and by one from each switch: the same delays and rates."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from controller.sited import Sited
from testbed.cli.topology import command
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation.routes import DENSE, path_arrays, path_values, present, sited_paths, ways
from testbed.experiment import load_experiment
from testbed.plan import LinkPlan
from testbed.topology.city import City, generate

MS, MBIT = 1000, 10**6


@pytest.fixture(scope="module", params=["ring", "tree", "grid"])
def city(request, tmp_path_factory):
    """A plan of 80 phones, 12 base stations, and servers."""
    wanted = City(
        **{"name": "city", "phones": 80, "base_stations": 12, "edge_servers": 6, "mec_servers": 2, "clouds": 1},
        **{"shape": request.param, "seed": 3, "model": "vit_tiny", "rate": "1/s", "duration": "5s"},
    )
    path = tmp_path_factory.mktemp("city") / "city.yaml"
    path.write_text(generate(wanted, command(wanted), Random(wanted.seed)))
    experiment = load_experiment(path)
    return compile_plan(experiment, {name: ModelFiles("w", "a", 8) for name in experiment.models})


def between_hosts(plan):
    return [host.name for host in plan.hosts], {switch.name for switch in plan.switches}


def anyhow(plan, draw):
    """Links as they may be: some down in one direction or both, delays and rates of their own, often equal ones."""
    shapes, down = {}, set()
    for link in plan.links:
        for direction, way in (("up", (link.a, link.b)), ("down", (link.b, link.a))):
            fate = draw.random()
            rate_bps = 0 if fate < 0.03 else draw.choice([10, 50, 100]) * MBIT
            shapes[link.name, direction] = (rate_bps, draw.choice([1, 2, 5]) * MS)
            if fate > 0.97:
                down.add(way)
    return shapes, frozenset(down)


def same(plan, now):
    """Whether both searches tell the same; and how many pairs have no path."""
    (delay_us, rate_bps), sited = path_arrays(plan, now), sited_paths(plan, now)
    others = ~np.eye(len(plan.hosts), dtype=bool)
    delays, rates = (np.asarray(paths) for paths in sited)
    assert (rates[others] == rate_bps[others]).all()
    assert (delays == delay_us)[rate_bps > 0].all() and (np.diag(delays) == 0).all()
    return int((rate_bps[others] == 0).sum())


def test_a_search_from_each_switch_finds_what_one_from_each_host_does(city):
    cut_off = 0
    for seed in range(20):
        shapes, down = anyhow(city, Random(seed))
        cut_off += same(city, ways(city.links, shapes, {}, down))
    assert cut_off


def test_a_host_with_two_links_a_handed_over_one_and_one_without_links(city):
    names, switches = between_hosts(city)
    stations = sorted(name for name in switches if name.startswith("bs"))
    link = next(one for one in city.links if one.name == names[0])
    far = stations[0] if stations[0] not in (link.a, link.b) else stations[1]
    second = replace(city, links=(*city.links, LinkPlan("second", names[0], far, link.up, link.down)))
    assert same(second, ways(second.links, {}, {})) == 0
    moved = present(city, {names[0]: far})
    assert same(city, ways(moved, {}, {})) == 0
    alone = replace(city, links=tuple(one for one in city.links if one is not link))
    assert same(alone, ways(alone.links, {}, {})) == 2 * (len(names) - 1)


def test_only_many_hosts_share_the_paths_of_their_switch(city):
    now = ways(city.links, {}, {})
    delay_us, rate_bps = path_values(city, now)
    assert isinstance(delay_us, Sited) and isinstance(rate_bps, Sited)
    assert len(delay_us.between) <= len(city.switches) < DENSE < len(city.hosts)
    few = replace(city, hosts=city.hosts[:DENSE])
    assert all(isinstance(paths, np.ndarray) for paths in path_values(few, now))
