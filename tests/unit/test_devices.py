"""Device profiles against their data sheets and what peers measured, and what a node of an experiment says itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from nodes.compute.processor import Speed
from nodes.slices import Work
from testbed.compile import ModelFiles, compile_plan
from testbed.devices import GIB, MIB, PROFILES
from testbed.experiment import ExperimentError, load_experiment
from testbed.plan import Plan, from_json, to_json
from testbed.run import RunFailed, RunOptions, check_compute, shared_processor
from testbed.trace.loads import parse_loads
from testbed.trace.rows import TraceError

SMALL = Path(__file__).with_name("small.yaml")

CUDA = {"edge_small": (1024, 625), "orin_nx": (1024, 918), "agx_orin": (2048, 1300), "gpu_3090": (10496, 1695)}
BUS = {  # bits, million transfers a second
    "phone": (64, 8533),
    "edge_small": (128, 4266),
    "orin_nx": (128, 6400),
    "agx_orin": (256, 6400),
    "mec_gpu": (256, 10_000),
    "gpu_3090": (384, 19_500),
    "server_cpu": (6 * 64, 2933),
}


@pytest.mark.parametrize(("name", "cores", "mhz"), [(name, *figures) for name, figures in CUDA.items()])
def test_a_gpu_does_two_operations_a_core_and_cycle(name: str, cores: int, mhz: int) -> None:
    assert PROFILES[name].peak_flops_per_s == pytest.approx(2 * cores * mhz * 10**6, rel=0.01)


@pytest.mark.parametrize(("name", "bits", "transfers"), [(name, *figures) for name, figures in BUS.items()])
def test_memory_is_as_wide_and_fast_as_its_bus(name: str, bits: int, transfers: int) -> None:
    assert PROFILES[name].peak_bytes_per_s == pytest.approx(bits / 8 * transfers * 10**6, rel=0.01)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sustains_less_than_its_peak_and_says_what_it_is(name: str) -> None:
    device = PROFILES[name]
    assert 0.1 < device.sustained < 0.75
    assert device.memory_bytes_per_s < device.peak_bytes_per_s
    assert len(device.what) > 20


def test_the_three_containers_of_amp4ec() -> None:
    three = [PROFILES[name] for name in ("cpu_1", "cpu_06", "cpu_04")]
    assert [(d.cpus_ppm, d.memory_bytes) for d in three] == [
        (1_000_000, GIB),
        (600_000, 512 * MIB),
        (400_000, 512 * MIB),
    ]
    shares = [d.flops_per_s / three[0].flops_per_s for d in three]
    assert shares == [1.0, 0.6, 0.4]
    assert all(d.cpus_ppm is None for name, d in PROFILES.items() if not name.startswith("cpu_"))


def test_a_decoded_layer_takes_at_most_twice_as_long_as_modelled_where_edgeshard_measured_it() -> None:
    """Milliseconds a layer of Llama-2-7B, one token: KasperXMS/EdgeShard-remastered, 7B_partition_latency.py.

    202 million weights of two bytes. By their FLOP alone the three would take 0.43, 0.15 and 0.02 ms.
    """
    layer = (Work(2 * 202_375_168, 2 * 202_375_168, 0),)
    for name, measured_ms in {"orin_nx": 6.0, "agx_orin": 5.25, "gpu_3090": 0.79}.items():
        device = PROFILES[name]
        speed = Speed(device.flops_per_s, device.memory_bytes_per_s)
        modelled_ms = speed.effort([layer]) * 1000 / device.flops_per_s
        assert modelled_ms < measured_ms < 2 * modelled_ms, name


def planned(*sets: str, path: Path = SMALL) -> Plan:
    experiment = load_experiment(path, sets=sets)
    return compile_plan(experiment, {model: ModelFiles("w", "a", 8) for model in experiment.models})


def refused(*sets: str, path: Path = SMALL) -> str:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path, sets=sets)
    return str(caught.value)


def with_load_event(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.read_text().replace("events:\n", "events:\n  - {at: 5s, load: edge1, share: 90%}\n"))
    return path


def loads_file(tmp_path: Path, text: str = "seconds,share\n0,0.1\n2,0.5\n4,0.5\n6,0\n") -> str:
    path = tmp_path / "loads.csv"
    path.write_text(text)
    return f"nodes.edge1.load_trace={path}"


def load_changes(plan: Plan) -> list[tuple[int, int]]:
    return [(c.t_us // 10**6, c.value // 10_000) for c in plan.changes if c.what == "load" and c.target == "edge1"]


def test_a_trace_of_loads_is_a_row_of_changes_that_begins_anew(tmp_path: Path) -> None:
    plan = planned(loads_file(tmp_path))
    assert load_changes(plan) == [(0, 10), (2, 50), (6, 0), (8, 10), (10, 50), (14, 0), (16, 10), (18, 50)]
    assert not any(change.text for change in plan.changes if change.what == "load")  # steps of a trace are no events
    assert from_json(to_json(plan)) == plan


def test_the_end_policy_of_traces_holds_for_loads_too(tmp_path: Path) -> None:
    trace = loads_file(tmp_path)
    assert load_changes(planned(trace, "trace_end=hold")) == [(0, 10), (2, 50), (6, 0)]
    stopped = planned(trace, "trace_end=stop", "nodes.edge1.load=30%")
    assert load_changes(stopped) == [(0, 30), (0, 10), (2, 50), (6, 0), (8, 30)]


def test_an_event_replaces_the_trace_of_loads_from_then_on(tmp_path: Path) -> None:
    plan = planned(loads_file(tmp_path), path=with_load_event(tmp_path))
    assert load_changes(plan) == [(0, 10), (2, 50), (5, 90)]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 0, "its first row is 'seconds,share'"),
        ("t_s,mbps\n0,3\n", 1, "its first row is 'seconds,share'"),
        ("seconds,share\n", 1, "there is no row"),
        ("seconds,share\n0,1\n", 2, "a share of 1 leaves nothing"),
        ("seconds,share\n0,60%\n", 2, "a finite decimal number is right"),
        ("seconds,share\n0,-0.1\n", 2, "must not be negative"),
        ("seconds,share\n0,0.1,7\n", 2, "3 values; two are right"),
        ("seconds,share\n2,0.1\n1,0.2\n", 3, "times must rise"),
    ],
)
def test_a_bad_trace_of_loads_is_told_with_its_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    with pytest.raises(TraceError, match=why) as caught:
        parse_loads(text.encode(), "loads.csv")
    assert caught.value.line == line
    told = refused(loads_file(tmp_path, text))
    assert why in told and (f"loads.csv:{line}" in told if line else True)


def test_a_trace_of_loads_must_be_there() -> None:
    assert "there is no trace 'nowhere'" in refused("nodes.edge1.load_trace=nowhere")


def test_a_node_says_its_discipline_and_a_model_its_batch() -> None:
    plan = planned("nodes.edge1.discipline=ps", "models.tiny.batch=4")
    hosts = {host.name: host for host in plan.hosts}
    assert (hosts["ue1"].discipline, hosts["edge1"].discipline) == ("fifo", "ps")
    assert [model.batch for model in plan.models] == [4]
    assert [model.batch for model in planned().models] == [1]
    assert hosts["edge1"].memory_bytes_per_s == PROFILES["edge_small"].memory_bytes_per_s


CGROUP = ("compute=cgroup", "nodes.ue1.device=cpu_04", "nodes.edge1.device=cpu_1")


def test_control_groups_get_their_processors_from_the_device_or_the_node() -> None:
    plan = planned(*CGROUP, "nodes.edge1.cpus=150%")
    assert plan.compute == "cgroup"
    assert {host.name: host.cpus_ppm for host in plan.hosts} == {"ue1": 400_000, "edge1": 1_500_000}


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (("compute=cgroup",), "no processors are said for compute: cgroup"),
        ((*CGROUP, "nodes.edge1.load=10%"), "load: does nothing with compute: cgroup"),
        ((*CGROUP, "nodes.edge1.discipline=ps"), "discipline: does nothing with compute: cgroup"),
        ((*CGROUP, "numerics=off"), "the numbers are what takes the time"),
        (("nodes.edge1.cpus=50%",), "cpus: does nothing with compute: model"),
        (("nodes.bs1.discipline=ps",), "a base_station computes nothing"),
        (("models.tiny.batch=0",), "batch"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(sets: tuple[str, ...], why: str) -> None:
    assert why in refused(*sets)


def test_an_event_of_load_does_nothing_to_a_control_group(tmp_path: Path) -> None:
    told = refused(*CGROUP, path=with_load_event(tmp_path))
    assert "events[0].load: does nothing with compute: cgroup" in told


def test_control_groups_are_refused_where_work_takes_no_time() -> None:
    limited = load_experiment(SMALL, sets=CGROUP)
    with pytest.raises(RunFailed, match=r"in virtual time work takes no time: add --clock real"):
        check_compute(limited, RunOptions().timed(limited))
    check_compute(limited, RunOptions(clock="real"))
    check_compute(load_experiment(SMALL), RunOptions(clock="virtual"))


def test_a_guest_has_one_processor_to_give() -> None:
    with pytest.raises(RunFailed, match=r"edge1 is to have 1.5 processors, and a guest has one"):
        check_compute(load_experiment(SMALL, sets=(*CGROUP, "nodes.edge1.cpus=150%")), RunOptions(clock="real"))
    (note,) = shared_processor(planned(*CGROUP), RunOptions(clock="real"))
    assert "the quotas come to 1.4 processors" in note
    assert not list(shared_processor(planned(*CGROUP, "nodes.edge1.cpus=60%"), RunOptions(clock="real")))
    assert not list(shared_processor(planned(), RunOptions(clock="real")))


NO_TORCH = """
import sys
from pathlib import Path
from testbed.plan import from_json
from testbed.emulation import roles
from nodes.wire.codec import Tensor
from nodes.host import Host

sys.path.insert(0, "")
plan = from_json(Path(sys.argv[1]).read_text())
loader, costs = roles._loader(plan)
loaded = loader.load("tiny", 0, len(costs["tiny"]), None)
answer = loaded.run(Tensor("uint8", (1, 32, 32, 3), bytes(3072)))
assert answer.shape == (1, 10), answer.shape
sys.exit("torch" in sys.modules)
"""


def test_without_numerics_an_agent_never_imports_torch(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(to_json(planned("numerics=off")))
    done = subprocess.run([sys.executable, "-c", NO_TORCH, str(plan)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
