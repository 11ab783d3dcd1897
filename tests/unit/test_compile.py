from pathlib import Path

import pytest

from testbed.compile import ModelFiles, compile_plan, seed_for
from testbed.experiment import load_experiment
from testbed.plan import from_json, to_json

EXPERIMENTS = {
    "small": Path(__file__).with_name("small.yaml"),
    "urban-mec": Path(__file__).resolve().parents[2] / "topologies" / "urban-mec.yaml",
}


def compiled(name, clock=None, **options):
    experiment = load_experiment(EXPERIMENTS[name], **options)
    return compile_plan(experiment, {model: ModelFiles("w", "a", 8) for model in experiment.models}, clock)


def test_the_plan_survives_its_file():
    plan = compiled("urban-mec")
    assert from_json(to_json(plan)) == plan


def test_addresses_are_distinct_and_in_order():
    plan = compiled("urban-mec")
    assert [host.ip for host in plan.hosts[:3]] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    for values in ([h.ip for h in plan.hosts], [h.mac for h in plan.hosts], [s.dpid for s in plan.switches]):
        assert len(set(values)) == len(values)


def test_profiles_fill_what_a_node_leaves_out():
    plan = compiled("small", sets=["nodes.edge1.flops=2TFLOPS", "nodes.ue1.zone=home"])
    hosts = {host.name: host for host in plan.hosts}
    assert hosts["edge1"].flops_per_s == 2 * 10**12
    assert hosts["edge1"].memory_bytes == 6 * 2**30
    assert (hosts["ue1"].zone, hosts["edge1"].zone) == ("home", "edge")


def test_the_same_seed_gives_the_same_plan_and_another_another():
    assert compiled("urban-mec") == compiled("urban-mec")
    first, second = compiled("urban-mec", seed=1), compiled("urban-mec", seed=2)
    assert [s.arrivals_us for s in first.streams] != [s.arrivals_us for s in second.streams]


def test_a_further_stream_changes_no_other():
    few = compiled("urban-mec", sets=["workload.cam.phones=[ue1]"])
    many = compiled("urban-mec")
    assert few.streams[0] == many.streams[0]
    assert seed_for(1, "a") != seed_for(1, "b") != seed_for(2, "b")


def test_streams_are_named_by_flow_and_phone():
    plan = compiled("urban-mec")
    assert [stream.name for stream in plan.streams] == ["cam.ue1", "cam.ue2", "cam.ue3"]
    assert all(0 <= t < plan.duration_us for stream in plan.streams for t in stream.arrivals_us)


def test_events_keep_their_text_and_their_time():
    plan = compiled("small")
    (change,) = plan.changes
    assert (change.t_us, change.target, change.direction, change.text) == (
        10**7,
        "radio",
        "up",
        "radio up: rate 10Mbit",
    )
    assert change.shape.rate_bps == 10**7
    assert change.shape.delay_us == plan.links[0].up.delay_us


def test_a_first_load_is_a_change_at_the_start_without_text():
    plan = compiled("small", sets=["nodes.edge1.load=20%"])
    assert (plan.changes[0].t_us, plan.changes[0].what, plan.changes[0].value) == (0, "load", 200_000)
    assert plan.changes[0].text == ""


def test_options_zones_and_clock_go_through():
    plan = compiled("urban-mec", clock="real", sets=["policy.horizon_s=20", "telemetry_period=500ms"])
    assert plan.policy_options == {"horizon_s": 20}
    assert plan.zones == {"raw": ("device", "edge", "mec")}
    assert plan.clock == "real"
    assert plan.telemetry_period_us == 500_000


def test_a_model_without_files_is_an_error():
    with pytest.raises(KeyError):
        compile_plan(load_experiment(EXPERIMENTS["small"]), {})
