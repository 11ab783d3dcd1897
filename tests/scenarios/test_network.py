"""The emulated network is the one that was asked for: its round trips and its rates, measured by a probe inside."""

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.compile import ModelFiles, compile_plan
from testbed.experiment import load_experiment
from testbed.kernel.guest import CONSOLE, GuestOptions, run_guest, tail
from testbed.plan import to_json

PLAIN = Path(__file__).parent / "experiments" / "plain.yaml"
RTT_TOLERANCE_US = 200
RATE_TOLERANCE = 0.02
TOO_FAST = {f"{link} {way}" for link in ("edge1", "bs1agg", "bs2agg", "xn") for way in ("up", "down")}


@pytest.fixture(scope="module")
def probe(kernel, new_folder) -> dict[str, Any]:
    folder = new_folder("probe")
    experiment = load_experiment(PLAIN)
    files = {name: ModelFiles("", "", model.inputs) for name, model in experiment.models.items()}
    (folder / "plan.json").write_text(to_json(compile_plan(experiment, files)))
    run_guest(kernel, folder, "testbed.emulation.probe", GuestOptions(wall_limit_s=240))
    result = folder / "probe.json"
    assert result.exists(), f"the probe wrote nothing; its console:\n{tail(folder / CONSOLE, 40)}"
    return json.loads(result.read_text())


def test_a_round_trip_takes_the_sum_of_its_delays(probe):
    hosts = 6
    assert len(probe["rtt"]) == hosts * (hosts - 1)
    off = [pair for pair in probe["rtt"] if abs(pair["measured_us"] - pair["configured_us"]) > RTT_TOLERANCE_US]
    assert not off


def test_a_saturated_link_carries_its_rate_in_every_second(probe):
    off = [
        (link["link"], link["direction"], link["scheduled_bps"], rate)
        for link in probe["rate"]
        for rate in link["windows_bps"]
        if abs(rate / link["scheduled_bps"] - 1) > RATE_TOLERANCE
    ]
    assert not off
    assert all(len(link["windows_bps"]) >= 5 for link in probe["rate"])


def test_segments_leave_one_by_one(probe):
    assert len(probe["lump_segments"]) == 2 * 9 and set(probe["lump_segments"].values()) == {1}


def test_every_link_is_measured_or_named(probe):
    measured = {f"{link['link']} {link['direction']}" for link in probe["rate"]}
    named = {line.partition(":")[0] for line in probe["unsaturated"]}
    assert named == TOO_FAST
    assert measured == {f"{link} {way}" for link in ("ue1", "ue2", "ue3", "mec", "cloud") for way in ("up", "down")}
