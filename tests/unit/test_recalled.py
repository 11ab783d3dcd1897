"""From a run's plan and a record of its journal to what was decided on; and what a proof of it says in names."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from controller.cost import predict
from controller.explain import MOST, recorded
from controller.model import Decision, Host, NodeState, Placement, Snapshot, Trigger
from controller.objective import Objective
from controller.plugins import build
from controller.sited import Sited, Sites
from controller.table import tabulate
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation.problem import problem_of
from testbed.experiment import load_experiment
from testbed.plan import to_json
from testbed.proof.certificate import certify
from testbed.proof.recalled import NotProvable, Question, recalled, told

TOWN = Path(__file__).parents[1] / "scenarios" / "experiments" / "town.yaml"
SECOND = 1_000_000
UE1, UE2, UE3, EDGE, MEC = range(5)
NOTHING = Decision("KEEP", Placement(1, {}), (), (), "nothing has changed")
LATE = (Trigger("load", "mec", 0.9, 0.0),)


def town(now_us=0, *, load_ppm=0, down=()):
    """As known of the town when its MEC server has so much other work."""
    delay = np.full((5, 5), 9_000) - np.eye(5, dtype=int) * 9_000
    delay[EDGE, MEC] = delay[MEC, EDGE] = 4_000
    rate = np.full((5, 5), 15_000_000)
    np.fill_diagonal(rate, 2**62)
    states = tuple(NodeState(n not in down, load_ppm if n == MEC else 0, 100 * n) for n in range(5))
    return Snapshot(now_us, states, delay, rate, {"cam.ue1": 90_000})


def decided(folder, *sets, zones=None, snapshots=None):
    """A run folder with the plan, and the records of a policy's decisions in one period after the other."""
    experiment = load_experiment(TOWN, sets=sets)
    plan = compile_plan(experiment, {name: ModelFiles("w", "a", 8) for name in experiment.models})
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(to_json(plan))
    problem, policy = build(plan.policy, problem_of(plan), plan.policy_options)
    first, *others = snapshots or (town(), town(10 * SECOND, load_ppm=950_000))
    made = [(problem, first, policy.start(first))]
    for snapshot in others:
        if zones is not None:
            problem = replace(problem, zones=zones)
            policy.rezone(problem)
        made.append((problem, snapshot, policy.decide(snapshot, made[-1][2].placement, LATE)))
    return folder, [record(number, *one) for number, one in enumerate(made, start=1)]


def record(number, problem, snapshot, decision):
    fields = recorded(problem, snapshot, decision) | {"duration_us": 700, "refused": ""}
    return json.loads(json.dumps({"kind": "decision", "t_us": snapshot.now_us, "n": number, **fields}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return decided(tmp_path_factory.mktemp("run"))


def chosen(decision):
    return next(candidate for candidate in decision["candidates"] if not candidate["why_not"])


def test_what_was_decided_on_is_known_again(run):
    folder, records = run
    assert [one["action"] for one in records] == ["RESPLIT", "REMAP"]
    for one, seen in zip(records, (town(), town(10 * SECOND, load_ppm=950_000)), strict=True):
        question = recalled(folder, one)
        known, wanted = question.snapshot, chosen(one)
        assert (known.now_us, tuple(known.nodes), known.latency_us) == (seen.now_us, seen.nodes, seen.latency_us)
        assert (known.delay_us == seen.delay_us).all()
        assert (known.rate_bps == np.where(np.eye(5), 0, seen.rate_bps)).all()
        table = tabulate(question.problem)
        assert {s: list(table.names(row)) for s, row in question.rows.items()} == wanted["nodes"]
        assert question.looked == ("cam.ue1", "cam.ue2", "cam.ue3")
        latencies = predict(table, known, question.rows)
        assert {s: us.total_us for s, us in latencies.items()} == {
            s: parts["total_us"] for s, parts in wanted["predicted"].items()
        }
        assert round(question.cost_us) == wanted["weighted_us"]
        assert question.cost_us == pytest.approx(sum(us.total_us for us in latencies.values()), abs=6)


def test_the_same_policy_decides_the_same_on_what_is_known_again(run):
    folder, (first, second) = run
    start, later = recalled(folder, first), recalled(folder, second)
    _, policy = build("joint", start.problem, {})
    again = [policy.start(start.snapshot)]
    again.append(policy.decide(later.snapshot, again[0].placement, LATE))
    assert [record(n, start.problem, start.snapshot, one)["candidates"] for n, one in enumerate(again)] == [
        first["candidates"],
        second["candidates"],
    ]


def test_the_state_is_small_and_of_integers_alone(run):
    state = run[1][1]["state"]
    assert set(state) == {"up", "load_ppm", "queue_us", "delay_us", "rate_bps", "zones"}
    numbers = [*state["up"], *state["load_ppm"], *state["queue_us"]]
    numbers += [value for way in ("delay_us", "rate_bps") for row in state[way] for value in row]
    assert len(numbers) == 3 * 5 + 2 * 25 and all(isinstance(number, int) for number in numbers)


def kept(problem, hosts, *paths):
    """What a journal keeps of a network of so many hosts."""
    many = tuple(Host(f"h{n}", "site", 10**9, 10**9) for n in range(hosts))
    seen = Snapshot(0, (NodeState(True, 0, 0),) * hosts, *paths)
    return recorded(replace(problem, hosts=many), seen, NOTHING)["state"]


def test_of_a_large_network_there_is_no_state_unless_hosts_share_paths(run):
    folder, records = run
    problem = recalled(folder, records[0]).problem
    for size in (111, 112):
        assert (kept(problem, size, *np.zeros((2, size, size), np.int64)) is None) == (2 * size * size > MOST)
        sites = Sites(np.arange(300) % size)
        ways, between = np.zeros(300, np.int64), np.zeros((size, size), np.int64)
        delay, rate = Sited(sites, ways, ways, between), Sited(sites, ways, ways, between, narrowest=True)
        assert (kept(problem, 300, delay, rate) is None) == (2 * size * size > MOST)


def test_paths_by_sites_are_known_again_as_they_were(tmp_path):
    sites = Sites(np.array([0, 0, 1, 1, 2]))
    delay = Sited(sites, *np.array([[8, 9, 7, 1, 2], [6, 8, 9, 2, 1]]) * 1_000, np.array([[0, 3, 5]] * 3) * 1_000)
    rate = Sited(sites, *np.full((2, 5), 15_000_000), np.full((3, 3), 2**62), narrowest=True)
    snapshots = [replace(town(n * 10 * SECOND, load_ppm=950_000 * n), delay_us=delay, rate_bps=rate) for n in (0, 1)]
    folder, records = decided(tmp_path / "run", snapshots=snapshots)
    assert [one["action"] for one in records] == ["RESPLIT", "REMAP"]
    for one in records:
        known = recalled(folder, one).snapshot
        assert known.delay_us.sites is known.rate_bps.sites
        assert (np.asarray(known.delay_us) == np.asarray(delay)).all()
        assert (np.asarray(known.rate_bps) == np.asarray(rate)).all()
    asked = recalled(folder, records[1])
    found = certify(asked.problem, asked.snapshot, asked.looked, asked.rows, weights=asked.weights)
    assert not found.open and told(asked, found)["gap"] == 0


def test_pins_vetoes_and_the_zones_of_that_time_are_the_problems(tmp_path):
    zones = {"raw": frozenset({"device", "edge"})}
    folder, (first, second) = decided(tmp_path / "run", "policy.pin.vit/head=mec", "policy.veto=[edge1]", zones=zones)
    before, after = recalled(folder, first).problem, recalled(folder, second).problem
    last = len(before.models["vit"].blocks) - 1
    assert before.pins == after.pins == {(f"cam.ue{n}", last): "mec" for n in (1, 2, 3)}
    assert before.vetoes == after.vetoes == {"edge1"}
    assert (before.zones, after.zones) == ({}, zones)
    assert second["state"]["zones"] == {"raw": ["device", "edge"]}


def test_the_question_is_of_the_streams_that_were_looked_at(tmp_path):
    folder, records = decided(tmp_path / "run", "policy.breadth=1")
    question = recalled(folder, records[1])
    assert len(question.looked) == 1 and set(question.rows) == {"cam.ue1", "cam.ue2", "cam.ue3"}
    kept = records[1]["candidates"][0]  # where all are on one node
    asked = recalled(folder, records[1] | {"candidates": [kept | {"why_not": ""}]})
    predicted_us = sum(parts["total_us"] for parts in kept["predicted"].values())
    assert predicted_us + 1_000 < kept["weighted_us"] == round(asked.cost_us)  # what the others wait longer counts


def without(decision, *fields, **changes):
    return {name: value for name, value in (decision | changes).items() if name not in fields}


def other(decision, **changes):
    """The decision with another chosen candidate."""
    return decision | {"candidates": [chosen(decision) | changes]}


def slower(predicted):
    return {stream: parts | {"compute_us": parts["compute_us"] + 2} for stream, parts in predicted.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: without(one, "state"), "decision 2 cannot be proven: the run is of an older version"),
        (lambda one: one | {"state": None}, "the network is too large"),
        (lambda one: one | {"action": "INFEASIBLE", "reason": "no node"}, "nothing could be chosen: no node"),
        (lambda one: one | {"candidates": []}, "it weighed nothing: "),
        (lambda one: other(one, parts={"cam.ue1": {"layers": 1}}), "its layers are placed by parts"),
        (lambda one: other(one, predicted={"cam.ue1": {"total_us": 10**12}}), "cannot be reached where it is"),
        (lambda one: other(one, predicted={}), "does not say where it has every stream, and how fast"),
        (lambda one: other(one, nodes={"cam.ue1": chosen(one)["nodes"]["cam.ue1"]}), "does not say where"),
        (lambda one: other(one, predicted=slower(chosen(one)["predicted"])), "seen, or expected: the policy reckons"),
        (lambda one: one | {"state": one["state"] | {"zones": {"raw": []}}}, "forbids where a stream stays"),
        (lambda one: one | {"state": one["state"] | {"up": [True]}}, "is not that of its journal"),
    ],
)
def test_what_cannot_be_proven_says_why(run, change, said):
    folder, records = run
    with pytest.raises(NotProvable, match=said):
        recalled(folder, change(records[1]))


def test_a_plan_that_is_missing_or_of_another_version_is_told(run, tmp_path):
    one = run[1][0]
    with pytest.raises(NotProvable, match=r"the run's plan cannot be read: .*plan\.json"):
        recalled(tmp_path, one)
    plan = json.loads((run[0] / "plan.json").read_text())
    for text in ("{}", "{", json.dumps(plan | {"novelty": 1})):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(NotProvable, match="the run's plan is of another version of the testbed"):
            recalled(tmp_path, one)


def test_what_a_policy_decides_on_what_it_expects_is_proven_on_that(tmp_path):
    busier = [town(n * SECOND, load_ppm=200_000 * n) for n in range(4)]
    folder, records = decided(tmp_path / "run", "policy.name=predictive", snapshots=busier)
    assert [one["expected"] is None for one in records] == [True, False, False, False]  # the first knows no more
    last = records[-1]
    seen, expected = ({node["node"]: node["load_ppm"] for node in last[of]["nodes"]} for of in ("seen", "expected"))
    assert seen["mec"] == 600_000 < expected["mec"] == last["state"]["load_ppm"][MEC]
    assert last["seen"]["latency_us"] == {"cam.ue1": 90_000} and "latency_us" not in last["expected"]
    asked = recalled(folder, last)
    assert asked.snapshot.nodes[MEC].load_ppm == expected["mec"]
    found = certify(asked.problem, asked.snapshot, asked.looked, asked.rows, weights=asked.weights)
    assert found.start_us == pytest.approx(chosen(last)["weighted_us"], abs=1)
    with pytest.raises(NotProvable, match="not of what was seen, or expected"):
        recalled(folder, last | {"state": recorded(asked.problem, busier[-1], NOTHING)["state"]})


def certificate(question: Question, *, bound=1.0, found=1.0, rows=None, why=""):
    """As `certify` gives it; `bound` and `found` as shares of what the chosen candidate costs."""
    kept = {stream: question.rows[stream] for stream in question.looked}
    return SimpleNamespace(
        bound_us=bound * question.cost_us, found_us=found * question.cost_us, rows={**kept, **(rows or {})}, open=why
    )


@pytest.fixture
def question(run):
    return recalled(run[0], run[1][1])


def elsewhere(question, node):
    return {"cam.ue2": (node,) * len(question.rows["cam.ue2"])}


def test_the_chosen_placement_may_be_proven(question):
    proof = told(question, certificate(question, bound=1 - 1e-7))
    assert (proof["found_us"], proof["gap"], proof["better"], proof["open"]) == (
        round(question.cost_us, 3),
        0.0,
        {},
        "",
    )
    assert proof["bound_us"] == pytest.approx(question.cost_us, rel=1e-6)
    assert told(question, certificate(question, bound=0, why="no bound"))["gap"] is None


def test_a_better_placement_is_named_and_the_gap_is_of_the_chosen_one(question):
    proof = told(question, certificate(question, bound=0.8, found=0.8, rows=elsewhere(question, UE2)))
    assert proof["better"] == {"cam.ue2": ["ue2"] * len(question.rows["cam.ue2"])}
    assert (proof["gap"], proof["found_us"]) == (0.25, round(0.8 * question.cost_us, 3))


def test_another_placement_that_is_as_good_is_not_better(question):
    less = 1 - 5 / question.cost_us  # microseconds: each part of each latency was rounded
    proof = told(question, certificate(question, bound=less, found=less, rows=elsewhere(question, UE2)))
    assert (proof["better"], proof["gap"], proof["open"]) == ({}, 0.0, "")


def test_what_does_not_fit_is_not_better(question):
    hosts = tuple(replace(host, memory_bytes=1) if host.name == "ue2" else host for host in question.problem.hosts)
    small = replace(question, problem=replace(question.problem, hosts=hosts))
    proof = told(small, certificate(question, bound=0.8, found=0.8, rows=elsewhere(question, UE2)))
    assert (proof["better"], proof["gap"], proof["found_us"]) == ({}, 0.25, round(question.cost_us, 3))
    assert proof["open"] == "what is below the chosen one does not fit into memory"


def test_what_counts_beside_latency_and_limits_are_in_the_question(tmp_path):
    sets = "policy.reconfigure_ms=2", "policy.max_utilisation=0.9"
    folder, (first, second) = decided(tmp_path / "run", *sets)
    begun, later = recalled(folder, first), recalled(folder, second)
    assert begun.sought.objective == later.sought.objective == Objective(reconfigure_us=2_000, max_utilisation=0.9)
    assert begun.sought.current == {} and later.sought.current == begun.rows  # from there blocks change
    assert round(later.cost_us) == chosen(second)["weighted_us"]
    found = certify(later.problem, later.snapshot, later.looked, later.rows, weights=later.weights, sought=later.sought)
    assert not found.open and told(later, found)["gap"] == 0
    plain = certify(later.problem, later.snapshot, later.looked, later.rows, weights=later.weights)
    assert plain.found_us < found.found_us  # latency alone would be lower


def test_a_price_of_utilisation_is_not_proven(tmp_path):
    folder, records = decided(tmp_path / "run", "policy.utilisation_ms=20")
    with pytest.raises(NotProvable, match="decision 2 cannot be proven: it sets a price on utilisation"):
        recalled(folder, records[1])
    with pytest.raises(NotProvable, match="its objective is of another version"):
        recalled(folder, records[1] | {"objective": {"beauty_us": 3}})


def test_a_bound_that_knows_of_memory_counts_where_what_is_better_does_not_fit(question):
    hosts = tuple(replace(host, memory_bytes=1) if host.name == "ue2" else host for host in question.problem.hosts)
    small = replace(question, problem=replace(question.problem, hosts=hosts))
    below = certificate(question, bound=0.8, found=0.8, rows=elsewhere(question, UE2))
    near = told(small, below, 0.98 * question.cost_us)
    assert near["gap"] == pytest.approx(1 / 0.98 - 1, abs=1e-6) and near["open"]
    at_it = told(small, below, question.cost_us - 1)
    assert (at_it["gap"], at_it["better"], at_it["open"]) == (pytest.approx(0, abs=1e-5), {}, "")
    assert told(small, below, 2 * question.cost_us)["bound_us"] <= round(question.cost_us, 3)
