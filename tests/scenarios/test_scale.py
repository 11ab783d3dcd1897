"""Two hundred hosts on two hundred links start, work and stop. Three phones send; everybody is asked how it is."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from testbed.progress import Unwatched
from testbed.run import RunOptions, run
from testbed.scenario import ScenarioRun
from testbed.topology.city import City, generate
from tests.scenarios.conftest import NewFolder

CITY = City(
    "scale", 180, 20, 15, 4, 1, "tree", 1, "vit_b16", "1/s", "3s"
)  # its computing takes longer than 200 answers do
ACTIVE = ("ue1", "ue60", "ue180")
LINKS = 200 + 20 + 3  # hosts, base stations, aggregation switches: each has one upwards


@pytest.fixture(scope="module")
def city(new_folder: NewFolder, tmp_path_factory: pytest.TempPathFactory) -> ScenarioRun:
    file: Path = tmp_path_factory.mktemp("city") / "scale.yaml"
    file.write_text(generate(CITY, "a city of 200 hosts", Random(CITY.seed)))
    phones = f"workload.ask.phones=[{', '.join(ACTIVE)}]"
    done = run(file, RunOptions(out=new_folder("scale"), sets=(phones,)), Unwatched())
    return ScenarioRun(done.folder, done.summary)


def test_it_is_valid_and_every_request_is_answered(city: ScenarioRun) -> None:
    city.assert_valid()
    requests = city.journal("request")
    assert {request["stream"] for request in requests} == {f"ask.{phone}" for phone in ACTIVE}
    assert len(requests) == 3 * len(ACTIVE)
    assert {request["outcome"] for request in requests} == {"ok"}


def test_every_host_answers_in_every_period(city: ScenarioRun) -> None:
    heard = Counter(record["node"] for record in city.journal("node") if record["up"])
    assert len(heard) == CITY.hosts == 200
    assert len(set(heard.values())) == 1


def test_every_host_can_be_reached_from_every_switch(city: ScenarioRun) -> None:
    switches = CITY.base_stations + 3 + 1
    found = city.journal("linkstate")[-1]
    assert sum(port["up"] for port in found["ports"]) == 2 * LINKS - CITY.hosts
    assert found["flows"] >= CITY.hosts * (switches + 1)


def test_every_link_was_there_to_the_end(city: ScenarioRun) -> None:
    assert len(city.journal("traffic")) == 2 * LINKS
