"""`grain: heads`: the finer blocks of a model, their costs, what the experiment may not say, and the ways to open."""

from itertools import pairwise
from pathlib import Path

import pytest

from controller.model import Slice
from controller.parts import in_parts
from nodes.costing.costs import costs
from nodes.costing.partcost import held_bytes, part_work, working_bytes
from nodes.models.shares import MLP, PROJ, Heads
from nodes.pieces import Piece
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation import problem
from testbed.emulation.agents import Agents
from testbed.emulation.phones import hops
from testbed.experiment import ExperimentError, load_experiment
from testbed.plan import ModelPlan, from_json, to_json
from testbed.summary import summarise
from tests.unit.journal_factory import a_run

CHAT = Path(__file__).resolve().parents[2] / "topologies" / "chat.yaml"
FAMILIES = ("gpt2_tiny", "llama_tiny", "gpt2", "smollm2")


def model(family, grain="heads", tokens=0, batch=1, ffn_parts=1):
    plan = ModelPlan("chat", family, "", "", 8, batch=batch, grain=grain, ffn_parts=ffn_parts)
    return problem._model(plan, tokens)


def columns(family, count):
    """The names of that many blocks of the feed-forward part."""
    if count == 1:
        return ["mlp"]
    hidden = costs(family)[1].split.hidden
    ends = [hidden * (16 * i // count) // 16 for i in range(count + 1)]
    return [f"mlp:{begin}-{end}" for begin, end in pairwise(ends)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("tokens", "ffn_parts"), [(0, 1), (1, 3), (48, 1), (48, 2), (48, 16)])
def test_the_parts_of_a_layer_cost_together_what_the_layer_costs(family, tokens, ffn_parts):
    fine, coarse = model(family, tokens=tokens, ffn_parts=ffn_parts), model(family, "layers", tokens)
    assert in_parts(fine) and not in_parts(coarse)
    assert (fine.input_bytes, fine.input_class) == (coarse.input_bytes, coarse.input_class)
    for unit, whole in enumerate(coarse.blocks):
        parts = [block for block in fine.blocks if block.unit == unit]
        rounded = len(parts) + 1
        assert abs(sum(block.flops for block in parts) - whole.flops) <= rounded
        assert sum(block.weight_bytes for block in parts) == whole.weight_bytes
        assert parts[-1].output_bytes in {whole.output_bytes, whole.output_bytes - 1}
        assert {block.output_class for block in parts} == {whole.output_class}
        assert max(block.working_bytes for block in parts) <= whole.working_bytes
        assert abs(sum(block.formula_cost for block in parts) - whole.formula_cost) <= rounded
        layer = 0 < unit < len(coarse.blocks) - 1
        named = ["", *(f"heads:{i}" for i in range(12)), "proj", *columns(family, ffn_parts)]
        assert [block.part for block in parts] == (
            [n for n in named[1:] if any(b.part == n for b in parts)] if layer else [""]
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_work_and_memory_of_parts_are_those_of_the_whole(family):
    held, length = costs(family), 50
    layer = held[1]
    split = layer.split
    assert held[0].split is held[-1].split is None and split is not None
    heads = [Heads((i,)) for i in range(split.movable)]
    works = [
        *(part_work(split, one, 1, length) for one in heads),
        part_work(split, PROJ, 1, length, heads),
        part_work(split, MLP, 1, length),
    ]
    assert sum(work.flops for work in works) == layer.step.work(length).flops
    assert (
        layer.step.work(length).read_bytes
        < sum(work.read_bytes for work in works)
        < 1.02 * layer.step.work(length).read_bytes
    )
    whole, _ = held_bytes(held, Piece("m", 1, 2))
    parts = {}
    for name in ("norm", f"heads:{','.join(map(str, range(split.movable)))}", "proj", "mlp"):
        weights, working = held_bytes(held, Piece("m", 1, 2, name))
        parts |= weights
        assert 0 < working <= layer.working_bytes
    assert parts == whole and sum(whole.values()) == layer.weight_bytes
    assert working_bytes(split, heads[0], 64) > 0


def test_ways_are_opened_between_all_nodes_of_a_layer_by_parts():
    split = Slice("a", "m", 1, 2, parts=(("a", "heads:0"), ("b", "heads:1"), ("c", "proj"), ("d", "mlp")))
    stops = (Slice("a", "m", 0, 1), split, Slice("e", "m", 2, 3))
    found = {(x, y) for x, y in hops("ue1", stops) if x != y}
    assert found == {("ue1", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "e"), ("e", "ue1")}
    whole = {(x, y) for x, y in hops("ue1", (Slice("a", "m", 0, 3),)) if x != y}
    assert whole == {("ue1", "a"), ("a", "ue1")}


def test_columns_are_reached_from_the_projection_and_send_back_to_it():
    split = Slice("a", "m", 1, 2, parts=(("a", "heads:0"), ("b", "proj"), ("c", "mlp:0-8"), ("d", "mlp:8-16")))
    found = {(x, y) for x, y in hops("ue1", (split, Slice("e", "m", 2, 3))) if x != y}
    inside = {("a", "b"), ("b", "c"), ("c", "b"), ("b", "d"), ("d", "b")}
    assert found == {("ue1", "a"), ("b", "e"), ("e", "ue1")} | inside


def chat(*sets):
    return load_experiment(CHAT, sets=("models.chat.grain=heads", *sets))


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (("models.chat.family=vit_tiny", "models.chat.prompts=[]"), "the layers of 'vit_tiny' have no heads to place"),
        (("models.chat.grain=layers", "models.chat.ffn_parts=2"), "it needs grain: heads"),
        (("models.chat.ffn_parts=17",), "models.chat.ffn_parts"),
        (("models.chat.runtime=onnxruntime",), "parts of layers run in plain torch"),
        (("models.chat.grain=bits",), "models.chat.grain"),
    ],
)
def test_what_cannot_be_by_heads_is_told(sets, told):
    with pytest.raises(ExperimentError) as refused:
        chat(*sets)
    assert told in str(refused.value)


def test_the_plan_keeps_the_grain():
    plan = compile_plan(chat("models.chat.ffn_parts=4", "weights=transfer"), {"chat": ModelFiles("/w", "/a", 2)})
    again = from_json(to_json(plan))
    assert (again.models[0].grain, again.models[0].ffn_parts, again.weights) == ("heads", 4, "transfer")
    assert len(problem.problem_of(plan).models["chat"].blocks) == 30 * (3 + 1 + 4) + 2


def test_a_part_is_prepared_with_what_its_heads_keep_elsewhere(tmp_path):
    plan = compile_plan(chat(), {"chat": ModelFiles("/w", "/a", 2)})
    agents = Agents(plan, tmp_path)
    split = Slice(
        "ue1", "chat", 5, 6, parts=(("ue1", "heads:0,2"), ("edge1", "heads:1"), ("mec", "proj"), ("mec", "mlp"))
    )
    agents.routes = {"talk.ue1": (Slice("edge1", "chat", 0, 5), split, Slice("mec", "chat", 6, 32))}
    at = agents.addresses

    def sources(node, first, last, part=""):
        found = agents._kv_sources(Slice(node, "chat", first, last, part))
        return {(held.address, held.first, held.last, *held.heads) for held in found}

    assert sources("mec", 5, 6, "heads:0,1") == {(at["ue1"], 5, 6, 0), (at["edge1"], 5, 6, 1)}
    assert sources("mec", 4, 6) == {(at["edge1"], 4, 5), (at["edge1"], 5, 6, 1), (at["ue1"], 5, 6, 0, 2)}
    assert sources("ue1", 6, 7, "heads:1") == {(at["mec"], 6, 7, 1)}
    assert sources("edge1", 5, 6, "proj") == sources("edge1", 5, 6, "norm") == set()
    agents.down = frozenset({"ue1"})
    assert sources("mec", 5, 6, "heads:0,1") == {(at["edge1"], 5, 6, 1)}


def test_what_travels_within_a_layer_counts_as_data():
    run = a_run()
    before = summarise(run)["bytes"]["data"]
    part = {"kind": "part", "t_us": 1, "node": "mec", "request": 1, "part": "proj", "sent_bytes": 70}
    assert summarise([*run, part, part])["bytes"]["data"] == before + 140
