"""What an experiment may ask of sessions, what the plan says of it, and what the summary tells."""

from pathlib import Path

import pytest

from nodes.costing.profile import step_profile
from nodes.prepare import smollm, tensorfile
from nodes.prepare.answers import prepare
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation.agents import Agents
from testbed.emulation.problem import problem_of
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


def test_a_slice_is_prepared_with_what_its_holders_keep_unless_they_are_down(tmp_path):
    from controller.model import Slice

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
