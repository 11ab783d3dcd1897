"""Topologies by the number: the same options give the same file, and every one is a right experiment."""

import shlex
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.cli.topology import command
from testbed.experiment import load_experiment
from testbed.topology.backhaul import hops, nodes
from testbed.topology.city import City, generate

CITY_50 = Path(__file__).parents[2] / "topologies" / "city-50.yaml"


def city(**changes) -> City:
    wanted = {
        **{"name": "city", "phones": 12, "base_stations": 5, "edge_servers": 2, "mec_servers": 1, "clouds": 1},
        **{"shape": "ring", "seed": 1, "model": "vit_tiny", "rate": "1/s", "duration": "5s"},
    }
    return City(**(wanted | changes))


def text(wanted: City) -> str:
    return generate(wanted, command(wanted), Random(wanted.seed))


def test_its_first_line_makes_city_50_again(tmp_path):
    held = CITY_50.read_text()
    words = shlex.split(held.splitlines()[0].removeprefix("# testbed "))
    assert words[-2:] == ["--out", CITY_50.name]
    done = CliRunner().invoke(app, [*words[:-1], str(tmp_path / CITY_50.name)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / CITY_50.name).read_text() == held


def test_city_50_has_50_hosts_that_replay_traces():
    experiment = load_experiment(CITY_50)
    assert sum(node.is_host for node in experiment.nodes.values()) == 50
    assert all(experiment.trace(f"ue{n}", "up") is not None for n in range(1, 41))


@pytest.mark.parametrize("shape", ["ring", "tree", "grid"])
@pytest.mark.parametrize("base_stations", [1, 2, 3, 9, 10, 17])
def test_every_shape_is_connected_and_joins_no_pair_twice(shape, base_stations):
    names, links = nodes(shape, base_stations), list(hops(shape, base_stations))
    reached = {"core"}
    for _ in names:
        reached |= {end for link in links if reached & set(link) for end in link}
    assert reached == set(names)
    assert max(Counter(frozenset(link) for link in links).values()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": "tree", "phones": 180, "base_stations": 50, "edge_servers": 15, "mec_servers": 4},
        {"shape": "grid", "base_stations": 1, "edge_servers": 0},
        {"mec_servers": 0, "clouds": 0, "duration": "2s"},
        {"edge_servers": 20, "numerics": True, "traces": ("driving",)},
    ],
)
def test_what_is_written_is_a_right_experiment(changes, tmp_path):
    wanted = city(**changes)
    file = tmp_path / "city.yaml"
    file.write_text(text(wanted))
    experiment = load_experiment(file)
    kinds = Counter(node.kind for node in experiment.nodes.values())
    asked = (wanted.phones, wanted.base_stations, wanted.edge_servers, wanted.mec_servers, wanted.clouds)
    assert asked == tuple(kinds[k] for k in ("phone", "base_station", "edge_server", "mec_server", "cloud"))
    assert experiment.numerics == wanted.numerics


def test_the_seed_draws_it():
    assert text(city()) == text(city())
    assert text(city()).splitlines()[1:] != text(city(seed=2)).splitlines()[1:]


def test_wrong_options_write_nothing(tmp_path):
    out = tmp_path / "city.yaml"
    for options in (["--model", "nobody"], ["--rate", "often"], ["--duration", "5"], ["--trace", "no-such-trace"]):
        done = CliRunner().invoke(app, ["topology", "generate", "--out", str(out), *options])
        assert done.exit_code == 2, done.output
        assert not out.exists()
