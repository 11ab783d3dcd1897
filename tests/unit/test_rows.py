"""`proj_rows`: the projection over several nodes, from the blocks placed to the tokens."""

from dataclasses import replace

import pytest

from controller.model import Host, Problem, Sla, Stream
from controller.moves import route, slices
from controller.parts import blocks_of
from controller.plugins import build
from nodes.models.splits import Split
from testbed.emulation.phones import hops
from testbed.emulation.problem import _model
from testbed.experiment import ExperimentError
from testbed.plan import ModelPlan
from tests.unit.apart import everything
from tests.unit.test_feed_forward import SCENE, as_nodes_see_it
from tests.unit.test_generation import is_whole
from tests.unit.test_head_grain import chat as chat_experiment


def cut(family, columns=1, tokens=8, rows=True):
    plan = ModelPlan("chat", family, "", "", 8, grain="heads", ffn_parts=columns, proj_rows=rows)
    return replace(_model(plan, tokens), name="chat")


def placed(model, pins):
    """What `static` places: the problem, and the node of each block."""
    hosts = tuple(Host(name, "site", 10**9, 10**9) for name in "abc")
    problem = Problem(hosts, {"chat": model}, (Stream("cam", "chat", "a", 10**6),), Sla(95, 10**6, 10**6))
    problem, policy = build("static", problem, {"pin": {f"chat/{name}": node for name, node in pins.items()}})
    return problem, policy.start(SCENE).placement.nodes["cam"]


@pytest.mark.parametrize("family", ["gpt2_tiny", "llama_tiny", "gpt2", "smollm2"])
def test_rows_and_what_is_left_cost_together_what_the_projection_costs(family):
    fine, coarse = cut(family), cut(family, rows=False)
    for unit in {block.unit for block in coarse.blocks}:
        for field in ("flops", "weight_bytes", "read_bytes", "formula_cost"):
            sums = [sum(getattr(b, field) for b in model.blocks if b.unit == unit) for model in (fine, coarse)]
            assert abs(sums[0] - sums[1]) <= 40
    [left, *_] = [block for block in fine.blocks if block.part == "proj"]
    rows = [block for block in fine.blocks if block.unit == 1 and block.part.startswith("rows:")]
    [whole, *_] = [block for block in coarse.blocks if block.part == "proj"]
    assert 0 <= left.flops < whole.flops / 50 and 0 < left.weight_bytes < whole.weight_bytes / 10
    assert {block.output_bytes for block in rows} == {left.output_bytes}


@pytest.mark.parametrize(("family", "columns"), [("gpt2_tiny", 4), ("llama_tiny", 1)])
def test_heads_have_their_rows_beside_them_and_the_tokens_stay(apart_of, family, columns):
    """The sum is made where what is left of the projection is, which is the home of the layer."""
    chat, model = apart_of(family, count=8), cut(family, columns)
    kinds = {block.name: block.part.partition(":") for block in model.blocks if block.part}
    pins = {name: "abc"[int(i) % 3] for name, (kind, _, i) in kinds.items() if kind in {"heads", "rows"}}
    pins |= {name: "b" for name, (kind, _, _) in kinds.items() if kind == "proj"}
    problem, nodes = placed(model, pins)
    stops = route(problem, "cam", nodes)
    placement = as_nodes_see_it(stops)
    layers = placement[1:-1]
    assert all(isinstance(place, Split) and place.home == "b" and place.heads[0][1].rows for place in layers)
    loaded = {(piece.node, piece.first, piece.last, piece.part) for piece in slices(problem, {"cam": nodes})}
    assert loaded == set(everything(placement))
    assert {("b", "a"), ("a", "b"), ("b", "c"), ("c", "b")} <= set(hops("a", stops))
    chat.phone()
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    ran = {(part["node"], part["layer"], part["part"]) for part in chat.of("part")}
    assert ran == {(node, first, part) for node, first, _, part in loaded if part}


def test_rows_that_are_all_where_the_rest_is_are_the_projection():
    model = cut("gpt2_tiny")
    names = [block.name for block in model.blocks if block.part.startswith(("rows", "proj"))]
    problem, nodes = placed(model, {"layer1/heads:0": "a", **dict.fromkeys(names, "b")})
    [first, *_] = [stop for stop in route(problem, "cam", nodes) if stop.parts]
    assert ("b", "proj") in first.parts and not any(part.startswith("rows") for _, part in first.parts)
    piece = next(piece for piece in slices(problem, {"cam": nodes}) if piece.part == "proj")
    held = {model.blocks[i].part for i in blocks_of(model, piece)}
    assert held == {"proj", "rows:0", "rows:1", "rows:2", "rows:3"}
    with_rows = replace(piece, part="rows:0,2")
    assert [model.blocks[i].part for i in blocks_of(model, with_rows)] == ["heads:0", "heads:2", "rows:0", "rows:2"]


def test_rows_are_of_layers_by_parts():
    assert chat_experiment("models.chat.proj_rows=true").models["chat"].proj_rows
    with pytest.raises(ExperimentError, match="it needs grain: heads"):
        chat_experiment("models.chat.proj_rows=true", "models.chat.grain=layers")
