"""What an experiment may ask of sessions, what the plan says of it, and what the summary tells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.memory import overfull
from controller.model import NodeState, Slice, Snapshot
from controller.table import tabulate
from nodes.costing.costs import costs
from nodes.costing.profile import step_profile
from nodes.prepare import smollm, tensorfile
from nodes.prepare.answers import prepare
from nodes.proto import agent_pb2
from nodes.slices import rows_bytes
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation import problem
from testbed.emulation.agents import Agents
from testbed.emulation.phones import Phones
from testbed.emulation.problem import problem_of
from testbed.emulation.sessions import Sessions, sessions_of
from testbed.emulation.standby import Kept, followed
from testbed.experiment import ExperimentError, load_experiment
from testbed.plan import GeneratePlan, from_json, to_json
from testbed.summary import summarise
from tests.unit.journal_factory import a_request, a_run

CHAT = Path(__file__).resolve().parents[2] / "topologies" / "chat.yaml"
FLOW = "workload.talk.generate"


def plan_of(*sets):
    return compile_plan(load_experiment(CHAT, sets=sets), {"chat": ModelFiles("/w", "/a", 2)})


def test_the_plan_says_what_a_session_asks_for():
    plan = plan_of("kv=prefill", f"{FLOW}.end=2")
    assert plan.streams[0].generate == GeneratePlan(48, 30_000_000, 2)
    again = from_json(to_json(plan))
    assert plan.kv == again.kv == "prefill" and again.streams == plan.streams


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (("models.chat.family=vit_tiny", "models.chat.prompts=[]"), "'vit_tiny' generates nothing"),
        (("models.chat.family=whisper_tiny",), "'whisper_tiny' takes no texts of one's own"),
        (("models.chat.family=gpt2_tiny", f"{FLOW}.tokens=256"), "'gpt2_tiny' knows 256 positions"),
        ((f"{FLOW}.tokens=0",), f"{FLOW}.tokens"),
        (("workload.talk.rate=1000/s",), "requests; at most 200000"),
        (("kv=teleport",), "kv"),
        (("standby=[mec]",), "nobody stands by with kv: copy"),
        (("kv=replica", "standby=[mec, cloud]"), "no node 'cloud'"),
        (("kv=replica", "standby=[agg]"), "'agg' is a switch, it computes nothing"),
        (("kv=replica", "standby=[mec, mec]"), "'mec' is there twice"),
        (("kv=replica", f"{FLOW}=null"), "no flow generates"),
    ],
)
def test_what_cannot_be_is_told(sets, told):
    with pytest.raises(ExperimentError) as refused:
        plan_of(*sets)
    assert told in str(refused.value)


def test_the_controller_plans_for_the_mean_round():
    spoken, once = problem_of(plan_of()), problem_of(plan_of(f"{FLOW}.tokens=1"))
    layer, prompt = spoken.models["chat"].blocks[1], once.models["chat"].blocks[1]
    step = step_profile("smollm2", 64 + 24).units[1]
    assert layer.flops == (prompt.flops + 47 * step.flops) // 48
    assert layer.output_bytes == (prompt.output_bytes + 47 * 576 * 4) // 48
    assert spoken.streams[0].period_us == once.streams[0].period_us // 48


def test_what_sessions_keep_has_its_room_in_the_plan():
    """Ten sessions may be at once, of 89 tokens each: no text of 41 bytes has more tokens than that."""
    planned, costs_ = problem_of(plan_of()), costs("smollm2")
    assert sessions_of(plan_of(), "chat") == Sessions(10, 41 + 48)
    assert sessions_of(plan_of(f"{FLOW}.deadline=3s"), "chat") == Sessions(2, 89)
    blocks = planned.models["chat"].blocks
    assert [block.kept_bytes for block in blocks] == [10 * rows_bytes(cost, 0, 89) for cost in costs_]
    plain = problem._model(plan_of().models[0], 48).blocks
    assert all(block.working_bytes > other.working_bytes for block, other in zip(blocks, plain, strict=True))
    by_heads = problem_of(plan_of("models.chat.grain=heads")).models["chat"].blocks
    for unit, block in enumerate(blocks):
        assert sum(part.kept_bytes for part in by_heads if part.unit == unit) == block.kept_bytes


def test_no_placement_is_planned_for_whose_sessions_there_is_no_room():
    planned = problem_of(plan_of())
    names, model = [host.name for host in planned.hosts], planned.models["chat"]
    need = sum(block.weight_bytes + block.kept_bytes for block in model.blocks)
    need += max(block.working_bytes for block in model.blocks)
    rows = {"talk.ue1": (names.index("mec"),) * len(model.blocks)}

    def room(size_bytes):
        hosts = tuple(replace(host, memory_bytes=size_bytes) for host in planned.hosts)
        return overfull(tabulate(replace(planned, hosts=hosts)), rows)

    assert not room(need) and room(need - 1)


def test_who_stands_by_is_up_may_have_it_and_serves_nothing_else_if_that_can_be(tmp_path):
    agents = Agents(plan_of("kv=replica"), tmp_path)
    routes = {"talk.ue1": (Slice("ue1", "chat", 0, 8), Slice("edge1", "chat", 8, 20), Slice("edge1", "chat", 31, 32))}
    phone, edge = Kept("ue1", "chat", 0, 8), Kept("edge1", "chat", 8, 20)
    assert agents.standbys(routes) == {phone: "mec", edge: "mec"}  # the last unit keeps nothing
    agents.down = frozenset({"mec"})
    assert agents.standbys(routes) == {phone: "edge1"}
    agents.down = frozenset()
    nowhere = np.zeros((0, 0))
    agents.seen = Snapshot(0, (), nowhere, nowhere, zones={"feature": frozenset({"home", "device", "edge"})})
    assert "mec" not in agents.standbys(routes).values()
    asked = Agents(plan_of("kv=replica", "standby=[ue1, mec]"), tmp_path)
    assert asked.standbys(routes) == {phone: "mec", edge: "mec"}  # the phone serves a part itself
    assert Agents(plan_of(), tmp_path).standbys(routes) == {}


def test_auto_keeps_a_replica_where_one_is_named_and_pays(tmp_path):
    """89 tokens of twenty blocks: 2.6 MB over the way, or 12.3 GFLOP at the speed of who would stand by."""
    routes = {"talk.ue1": (Slice("edge1", "chat", 0, 20), Slice("ue1", "chat", 20, 32))}
    edge, phone = Kept("edge1", "chat", 0, 20), Kept("ue1", "chat", 20, 32)

    def standing(rate_bps, load_ppm, *sets):
        agents = Agents(plan_of("kv=auto", *sets), tmp_path)
        count = len(agents.plan.hosts)
        rate = np.full((count, count), rate_bps)
        agents.seen = Snapshot(0, [NodeState(True, load_ppm, 0)] * count, np.full_like(rate, 100), rate)
        return agents.standbys(routes)

    named, slow = "standby=[mec]", "nodes.mec.flops=10GFLOPS"
    assert standing(10**9, 0) == {}  # nobody is named
    assert standing(10**10, 0, named, slow) == {edge: "mec", phone: "mec"}
    assert standing(10**7, 0, named, slow) == {}  # its way is too long
    assert standing(10**10, 0, named, "nodes.mec.flops=100TFLOPS") == {}  # it computes all of it again as fast
    assert standing(10**9, 0, named, "nodes.mec.flops=1TFLOPS") == {}
    assert standing(10**9, 990_000, named, "nodes.mec.flops=1TFLOPS")  # but for what else it does
    assert Agents(plan_of("kv=auto", named, slow), tmp_path).standbys(routes) == {}  # nothing is known yet


def test_who_stands_by_asks_a_node_once_for_layers_of_which_it_has_the_same_heads():
    heads = {Kept("a", "chat", n, n + 1, (0, 2)): "c" for n in (1, 2, 3, 5)} | {Kept("a", "chat", 4, 5, (1,)): "c"}
    others = {Kept("b", "chat", 1, 2, (1,)): "c", Kept("b", "chat", 2, 3, (1,)): "a", Kept("a", "chat", 6, 9): "c"}
    assert dict(followed(heads | others)) == {
        Kept("a", "chat", 1, 4, (0, 2)): "c",
        Kept("a", "chat", 5, 6, (0, 2)): "c",
        Kept("a", "chat", 4, 5, (1,)): "c",
        **others,
    }


def test_who_stands_by_and_fails_is_replaced_when_that_is_seen(tmp_path):
    agents = Agents(plan_of("kv=replica", "standby=[edge1, mec]"), tmp_path)
    phones, told, epochs = Phones(agents.plan, agents), [], []
    agents.connect = lambda pairs: None
    agents._tell = lambda name, request: told.append((name, len(request.followed)))
    for name in phones.stubs:
        phones.stubs[name] = Switched({address: name for name, address in phones.addresses.items()}, epochs)
    kept, routes = Kept("ue1", "chat", 0, 31), {"talk.ue1": (Slice("ue1", "chat", 0, 31), Slice("mec", "chat", 31, 32))}
    phones.stand_in()
    assert not epochs  # before anything is placed
    phones.switch(4, routes)
    assert agents.standing == {kept: "edge1"} and epochs == [(4, ["edge1"], [])]
    phones.stand_in()
    agents.down = frozenset({"mec"})
    phones.stand_in()
    assert len(epochs) == 1  # who stands by is up
    agents.down = frozenset({"edge1"})
    told.clear()
    phones.stand_in()
    assert agents.standing == {kept: "mec"} and epochs[1:] == [(4, ["mec"], ["edge1"])]
    assert sorted(told) == [("edge1", 0), ("mec", 1)]
    agents.down = frozenset()
    phones.stand_in()
    agents.down = frozenset({"edge1", "mec"})
    phones.stand_in()
    agents.down = frozenset({"ue1", "mec"})  # who serves: there will be a switch
    phones.stand_in()
    assert len(epochs) == 2 and agents.standing == {kept: "mec"}


class Switched:
    """A phone that keeps what a switch says: its epoch, who stands by, who is down."""

    def __init__(self, names, told):
        self.names, self.told = names, told

    def Switch(self, request, timeout):
        del timeout
        replicas = [held.address for route in request.routes for hop in route.hops for held in hop.replicas]
        self.told.append((request.epoch, [self.names[address] for address in replicas], list(request.lost)))


def test_keys_and_values_go_ahead_as_reckoned_when_they_can_come_in_time(tmp_path):
    agents = Agents(plan_of("kv=auto"), tmp_path)
    agents.routes = {"talk.ue1": (Slice("edge1", "chat", 0, 20), Slice("mec", "chat", 20, 32))}
    names = [host.name for host in agents.plan.hosts]

    def ahead(rate_bps):
        way = np.full((len(names), len(names)), rate_bps)
        agents.seen = Snapshot(7_000_000, (), np.full_like(way, 1_000), way)
        told = agents._kv_sources(Slice("mec", "chat", 10, 32))
        return len(told), agents.copied_ahead(), agents.copied_ahead()

    assert ahead(1_000_000_000) == (1, 7_000_000, 0)
    assert ahead(10_000_000) == (0, 0, 0)  # ten sessions' rows of ten layers are thirteen megabytes


def test_phones_are_told_speeds_as_load_leaves_them_and_who_stands_by(tmp_path):
    plan, routes = plan_of("kv=auto"), {"talk.ue1": (Slice("edge1", "chat", 0, 20), Slice("mec", "chat", 20, 32))}
    phones = Phones(plan, Agents(plan, tmp_path))
    count = len(plan.hosts)
    phones.agents.seen = Snapshot(
        0, [NodeState(True, 250_000, 0)] * count, np.full((count, count), 9), np.full((count, count), 8)
    )
    told = agent_pb2.SwitchRequest(epoch=1, **phones._known(routes))
    for host in plan.hosts:
        assert told.flops_per_s[host.name] == host.flops_per_s * 3 // 4
        assert told.memory_bytes_per_s[host.name] == host.memory_bytes_per_s * 3 // 4 > 0
    assert len(told.reaches) == count * (count - 1) and (told.reaches[0].rate_bps, told.reaches[0].delay_us) == (8, 9)
    standing = {Kept("edge1", "chat", 0, 20): "mec"}
    first, last = (phones._hop(stop, standing) for stop in routes["talk.ue1"])
    assert [held.address for held in first.replicas] == [phones.addresses["mec"]] and not last.replicas
    parts = (("edge1", "heads:0,2"), ("mec", "heads:1"), ("edge1", "proj"), ("mec", "mlp"))
    hop = phones._hop(Slice("edge1", "chat", 4, 5, parts=parts), {Kept("mec", "chat", 4, 5, (1,)): "edge1"})
    assert [list(held.heads) for placed in hop.parts for held in placed.replicas] == [[1]]


def test_a_slice_is_prepared_with_what_its_holders_keep_unless_they_are_down(tmp_path):
    agents = Agents(plan_of(), tmp_path)
    agents.routes = {
        "talk.ue1": (Slice("ue1", "chat", 0, 8), Slice("edge1", "chat", 8, 20), Slice("mec", "chat", 20, 32))
    }
    address = agents.addresses

    def told(piece):
        return [(held.address, held.first, held.last) for held in agents._kv_sources(piece)]

    assert told(Slice("mec", "chat", 6, 32)) == [(address["ue1"], 6, 8), (address["edge1"], 8, 20)]
    agents.down = frozenset({"edge1"})
    assert told(Slice("mec", "chat", 6, 32)) == [(address["ue1"], 6, 8)]
    assert told(Slice("mec", "other", 6, 32)) == []
    assert Agents(plan_of("kv=prefill"), tmp_path)._kv_sources(Slice("mec", "chat", 6, 32)) == []


def test_answers_hold_the_tokens_that_follow_a_prompt(tmp_path):
    _, path = prepare("llama_tiny", 1, 0, tmp_path, prompts=("Abc",), tokens=5)
    held = tensorfile.read(path)
    assert held["input.0"].tolist() == [[ord(letter) - ord("!") for letter in "Abc"]]
    assert held["tokens.0"].shape == (5,) and held["tokens.0"][0] == held["answer.0"].argmax()
    assert prepare("llama_tiny", 1, 0, tmp_path, prompts=("Abc",), tokens=6)[1] != path
    assert smollm.text(smollm.tokenise("The capital of France is")) == "The capital of France is"


def a_session(n, begun_us, first_us, done_us, tokens, **changes):
    record = {"kind": "session", "t_us": done_us, "session": f"cam1/{n}", "stream": "cam1", "input": 0}
    times = {"begun_us": begun_us, "first_us": first_us, "done_us": done_us}
    return record | times | {"outcome": "ok", "error": "", "tokens": tokens, "replays": 0} | changes


def a_pull(phase, size):
    return {"kind": "kv", "t_us": 1, "phase": phase, "bytes": size}


def test_the_summary_tells_of_sessions_when_there_are_any():
    run = a_run()
    assert "sessions" not in summarise(run)
    sessions = [
        a_session(0, 0, 100_000, 1_100_000, [1, 2, 3, 4, 5], replays=2),
        a_session(1, 0, 300_000, 2_300_000, [1, 2, 3]),
        a_session(2, 0, None, 5_000_000, [], outcome="failed", error="DEADLINE"),
    ]
    told = summarise([*run, *sessions])["sessions"]
    assert told == {
        "started": 3,
        "finished": 2,
        "failed": 1,
        "tokens": 8,
        "replays": 2,
        "first_token_ms": {"p50": 300.0, "p95": None, "p99": None},
        "tokens_per_s": {"median": 4.0, "slowest": 1.0},
    }


def test_keys_and_values_that_were_pulled_count_as_moved():
    run = a_run()
    before = summarise(run)["bytes"]["moves"]
    assert summarise([*run, a_pull("switch", 500), a_pull("prepare", 70)])["bytes"]["moves"] == before + 500
    rounds = a_request(9_000, sent_us=1, session="cam1/0", life=0, position=0, token=0, replay=False)
    assert summarise([*run, rounds])["requests"]["ok"] == summarise(run)["requests"]["ok"] + 1
