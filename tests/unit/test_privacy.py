"""Data stays in its zones: whatever policy, also when the rules become stricter during a run.

Ten thousand problems are gone through in tests/scenarios/test_zones.py.
"""

import dataclasses

import pytest

from controller import instances
from testbed.emulation.problem import zones_over
from testbed.experiment import ExperimentError, load_experiment
from testbed.plan import from_json, to_json
from tests.unit.test_compile import EXPERIMENTS, ModelFiles, compile_plan
from tests.unit.zones import POLICIES, answers, broken, problem

FEW = {"exact": 3}


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_breaks_a_zone(name):
    placed = 0
    for seed in range(FEW.get(name, 12)):
        for made, nodes in answers(name, seed):
            placed += 1
            assert broken(made, nodes) == [], (name, seed)
    assert placed


def test_what_is_broken_is_found():
    made = dataclasses.replace(problem(3), zones={"raw": frozenset()})
    assert broken(made, {"s0": tuple(host.name for host in made.hosts)[:1] * len(made.models["m"].blocks)})
    assert instances.problem(3).models["m"].input_class == "raw"


EVENT = "\n  - {at: 5s, privacy: {raw: [device], feature: [device, edge]}}\n"


def with_event(tmp_path, event):
    text = EXPERIMENTS["small"].read_text()
    assert "events:" in text
    file = tmp_path / "private.yaml"
    file.write_text(text.replace("events:", f"events:{event}", 1))
    return load_experiment(file)


def test_an_event_makes_privacy_stricter_from_then_on(tmp_path):
    experiment = with_event(tmp_path, EVENT)
    plan = compile_plan(experiment, {model: ModelFiles("w", "a", 8) for model in experiment.models})
    assert from_json(to_json(plan)) == plan
    texts = [change.text for change in plan.changes if change.what == "privacy"]
    assert texts == ["privacy: raw only in device", "privacy: feature only in device, edge"]
    before = {kind: frozenset(zones) for kind, zones in plan.zones.items()}
    zones = zones_over(plan)
    assert zones(0) == zones(4_999_999) == before
    after = {"raw": frozenset({"device"}), "feature": frozenset({"device", "edge"})}
    assert zones(5_000_000) == {**before, **after}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("\n  - {at: 5s, privacy: {raw: [moon]}}\n", "no node is in zone 'moon'"),
        ("\n  - {at: 5s, privacy: {}}\n", "names no class"),
        ("\n  - {at: 5s, privacy: {raw: [device]}, node_down: edge1}\n", "exactly one is right"),
        ("\n  - {at: 5s, privacy: {raw: [device]}, share: 60%}\n", "does not belong to a privacy event"),
    ],
)
def test_what_is_wrong_in_it_is_told(tmp_path, event, said):
    with pytest.raises(ExperimentError, match=said):
        with_event(tmp_path, event)
