"""Every policy that comes with the testbed, and the example, against what all must hold; and that the test can fail."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from controller import instances
from controller.conformance import faults
from controller.instances import NOTHING
from controller.model import Decision, Placement
from controller.plugins import NoPolicy, build, find, in_file, installed, label
from controller.sited import Sited, Sites
from controller.table import tabulate
from controller.validity import MOVES
from testbed.experiment import ExperimentError
from testbed.run import RunOptions, load

EXAMPLE = str(Path(__file__).parents[2] / "examples/nearest.py") + ":Nearest"
SLOW = {"exact": 3, "joint": 5, "optimal": 3}  # problems; the others 10
VARIANTS = [
    *((name, {}) for name in [*installed(), EXAMPLE]),
    ("edgeshard", {"aim": "throughput", "width": 4}),
    ("edgeshard", {"source_first": False}),
    ("joint", {"utilisation_ms": 50, "privacy_ms": 5, "reconfigure_ms": 1}),
    ("joint", {"max_utilisation": 0.3, "max_link_share": 0.5, "privacy_ms": 5}),
    ("greedy", {"fit": "first", "redo": "always", "cooldown_s": 0}),
    ("round_robin", {"each": "stream"}),
    ("random", {"redo": "always", "cooldown_s": 0}),
    ("neurosurgeon", {"redo": "always", "cooldown_s": 0}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value).rpartition("/")[2])
def test_conforms(name, options):
    assert faults(find(name), options, seeds=range(SLOW.get(name, 10)), limit_s=30) == []


def asked_in_turn(names, seed):
    """name -> what each policy said, all of them asked of the same world, one after the other, period by period."""
    problem = instances.problem(seed)
    policies = {name: find(name)(problem, {"steps": 100}) for name in names}
    said, current = {name: [] for name in names}, dict.fromkeys(names, NOTHING)
    for snapshot, triggers in [(instances.scene(problem, seed), ()), *instances.steps(problem, seed, 2)]:
        for name, policy in policies.items():
            starts = not current[name].epoch
            decision = policy.start(snapshot) if starts else policy.decide(snapshot, current[name], triggers)
            if decision.action in MOVES:
                current[name] = decision.placement
            said[name].append(decision)
    return said


def test_no_policy_sees_another_in_whatever_order_they_are_asked():
    names = [*installed(), EXAMPLE]
    for seed in (1, 7):
        forwards = asked_in_turn(names, seed)
        assert forwards == asked_in_turn(names[::-1], seed)
        for name in names:
            assert forwards[name] == asked_in_turn([name], seed)[name], name


def test_every_rival_is_installed():
    rivals = {"static", "greedy", "round_robin", "dynamic", "edgeshard", "neurosurgeon", "device_only", "server_only"}
    assert rivals | {"exact", "random", "joint"} <= set(installed())


class Bad:
    """Static but for what `how` does to its answers."""

    how = "nothing"

    def __init__(self, problem, options):
        self.policy = find("static")(problem, options)
        self.problem, self.asked = problem, 0

    def start(self, snapshot):
        return self.spoiled(self.policy.start(snapshot), snapshot)

    def decide(self, snapshot, current, triggers):
        return self.spoiled(self.policy.decide(snapshot, current, triggers), snapshot)

    def spoiled(self, decision, snapshot):
        type(self).count = self.asked = getattr(type(self), "count", 0) + 1
        if self.how == "writes":
            snapshot.delay_us[0, 0] = self.asked
        if self.how == "remembers":
            return dataclasses.replace(decision, reason=str(self.asked))
        if decision.action not in MOVES or self.how in ("nothing", "writes"):
            return decision
        nodes = dict(decision.placement.nodes)
        nodes = {
            "drops": dict(list(nodes.items())[1:]),
            "shortens": {stream: row[1:] for stream, row in nodes.items()},
            "invents": {stream: ("moon",) * len(row) for stream, row in nodes.items()},
            "crowds": {stream: (self.problem.hosts[-1].name,) * len(row) for stream, row in nodes.items()},
        }[self.how]
        return dataclasses.replace(decision, placement=Placement(1, nodes), candidates=())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("writes", "changed the snapshot"),
        ("remembers", "other answers"),
        ("drops", "placed nowhere"),
        ("shortens", "blocks"),
        ("invents", "no node 'moon'"),
        ("crowds", "bytes with what is loaded"),
    ],
)
def test_what_does_not_conform_is_told(how, said):
    assert any(said in fault for fault in faults(type("Bad", (Bad,), {"how": how}), seeds=range(8)))
    assert faults(type("Good", (Bad,), {"how": "nothing"}), seeds=range(5)) == []


def test_a_policy_that_places_nothing_is_none():
    def nothing(problem, options):
        policy = find("static")(problem, options)
        policy.start = lambda snapshot: Decision("INFEASIBLE", NOTHING, (), (), "no")
        return policy

    assert faults(nothing, seeds=range(3)) == ["placed none of 3 problems"]


def test_a_policy_in_a_file(tmp_path):
    assert in_file(EXAMPLE)[1] == label(EXAMPLE) == "Nearest" and label("joint") == "joint"
    problem = instances.problem(3)
    assert build(EXAMPLE, problem, {})[1].start(instances.scene(problem, 3)).action in ("REMAP", "INFEASIBLE")
    (tmp_path / "bad.py").write_text("def Half(problem, options): pass\nclass Cut:\n    start = 1\n")
    (tmp_path / "torn.py").write_text("class\n")
    for name, said in (
        ("nobody", "there are .*device_only"),
        (f"{tmp_path}/none.py:Mine", "no such file"),
        (f"{tmp_path}/bad.py:Mine", "there are Half, Cut"),
        (f"{tmp_path}/bad.py:Half", "start and decide"),
        (f"{tmp_path}/bad.py:Cut", "start and decide"),
        (f"{tmp_path}/torn.py:Mine", "SyntaxError"),
    ):
        with pytest.raises(NoPolicy, match=said):
            find(name)


def test_instances_are_hard_and_the_same_again():
    made = [instances.problem(seed) for seed in range(60)]
    assert made[7] == instances.problem(7)
    assert any(p.pins for p in made) and any(p.vetoes for p in made) and sum(bool(p.zones) for p in made) > 20
    assert not np.array_equal(instances.scene(made[0], 0).delay_us, instances.scene(made[0], 1).delay_us)
    assert any(not tabulate(p).chain("s0").allowed.all() for p in made)


MINIMAL = str(Path(__file__).parents[2] / "topologies/minimal.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policy": "nobody"}, "no policy 'nobody'"),
        ({"policy": "none.py:Mine"}, "there is no such file"),
        ({"sets": ("policy.veto=[moon]",)}, "policy option veto: no node 'moon'"),
        ({"sets": ("policy.time_limit_s=soon",)}, "time_limit_s"),
        ({"policy": "greedy", "sets": ("policy.fit=best",)}, "right are finish, first"),
        ({"sets": ("detection.method=guess",)}, "method"),
        ({"sets": ("detection.method=cusum", "detection.drift=20%")}, "nothing would ever be found"),
        ({"sets": ("detection.hysteresis=30%",)}, "wider than the rise"),
    ],
)
def test_what_is_wrong_is_told_before_a_kernel_boots(changes, said):
    with pytest.raises(ExperimentError, match=said):
        load(Path(MINIMAL), RunOptions(**changes))


def test_an_experiment_may_name_a_file_beside_it(tmp_path):
    text = Path(MINIMAL).read_text()
    assert "policy: {name: joint}" in text
    (tmp_path / "mine.py").write_text(Path(EXAMPLE.rpartition(":")[0]).read_text())
    (tmp_path / "exp.yaml").write_text(text.replace("policy: {name: joint}", "policy: {name: 'mine.py:Nearest'}"))
    experiment = load(tmp_path / "exp.yaml", RunOptions(sets=("detection.method=cusum",)))
    assert experiment.policy.name == f"{tmp_path}/mine.py:Nearest" and experiment.detection.method == "cusum"
    (tmp_path / "mine.py").unlink()
    with pytest.raises(ExperimentError, match=r"exp.yaml:\d+: policy.name: .*no such file"):
        load(tmp_path / "exp.yaml", RunOptions())


def by_sites(problem, seed):
    """Two periods of a world where hosts share the paths of three sites."""
    draw, size = np.random.default_rng(seed), len(problem.hosts)
    sites = Sites(draw.integers(0, 3, size))
    for seen in (instances.scene(problem, seed, period * 4_000_000) for period in range(3)):
        far, wide = draw.integers(100, 9_000, (3, 3)), draw.integers(5, 500, (3, 3)) * 10**6
        np.fill_diagonal(far, 0)
        np.fill_diagonal(wide, 2**62)
        delay = Sited(sites, *draw.integers(100, 4_000, (2, size)), far)
        rate = Sited(sites, *draw.integers(5, 100, (2, size)) * 10**6, wide, narrowest=True)
        yield dataclasses.replace(seen, delay_us=delay, rate_bps=rate)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value).rpartition("/")[2])
def test_paths_by_sites_are_decided_on_as_all_pairs_are(name, options):
    for seed in range(5):
        problem = instances.problem(seed)
        sited, dense = (find(name)(problem, {**options, "steps": 100}) for _ in range(2))
        current = NOTHING
        for period, seen in enumerate(by_sites(problem, seed)):
            pairs = dataclasses.replace(seen, delay_us=np.asarray(seen.delay_us), rate_bps=np.asarray(seen.rate_bps))
            said = [
                policy.decide(known, current, instances.triggers(seed, period)) if period else policy.start(known)
                for policy, known in ((sited, seen), (dense, pairs))
            ]
            assert said[0] == said[1]
            current = said[0].placement if said[0].action in MOVES else current
