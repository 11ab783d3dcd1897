"""From blocks that are parts of layers to the stops of a request."""

from dataclasses import replace

import pytest

from controller.model import Block, Host, Model, Problem, Sla, Slice, Stream
from controller.moves import plan_move, route, slices
from controller.parts import blocks_of, pieces, text, way


def layer(unit: int) -> list[Block]:
    names = ("heads:0", "heads:1", "heads:2", "proj", "mlp")
    return [Block(f"layer{unit}/{name}", 1, 10, 1, unit=unit, part=name) for name in names]


BLOCKS = (Block("embed", 1, 50, 1, unit=0), *layer(1), *layer(2), Block("head", 1, 50, 1, unit=3))
MODEL = Model("m", BLOCKS, 100)
PROBLEM = Problem(
    hosts=tuple(Host(name, "site", 10**9, 10**9) for name in "abc"),
    models={"m": MODEL},
    streams=(Stream("s", "m", "a", 10**6),),
    sla=Sla(95, 10**6, 10**6),
)


def test_layers_that_are_whole_on_a_node_make_up_slices() -> None:
    assert way(MODEL, "a" * 12) == (Slice("a", "m", 0, 4),)
    assert way(MODEL, "a" * 6 + "b" * 6) == (Slice("a", "m", 0, 2), Slice("b", "m", 2, 4))


def test_a_layer_on_several_nodes_is_a_stop_with_parts() -> None:
    stops = way(MODEL, ("a", *"abaab", *"ccccc", "c"))
    split = Slice("a", "m", 1, 2, parts=(("a", "heads:0,2"), ("b", "heads:1"), ("a", "proj"), ("b", "mlp")))
    assert stops == (Slice("a", "m", 0, 1), split, Slice("c", "m", 2, 4))
    assert [str(piece.node + ":" + piece.part) for piece in pieces(split)] == [
        "a:heads:0,2",
        "b:heads:1",
        "a:proj",
        "b:mlp",
        "a:norm",
    ]
    assert text(split) == "[1: a heads:0,2 proj, b heads:1 mlp]"


def test_the_home_is_where_the_input_is_or_else_where_the_projection_is() -> None:
    assert [stop.node for stop in way(MODEL, ("a", *"bbccc", *"aabbb", "b"))] == ["a", "c", "b", "b"]
    assert [stop.node for stop in way(MODEL, ("b", *"bbccc", *"cabbb", "b"))][1:3] == ["b", "c"]


def test_the_blocks_of_a_part_are_its_own() -> None:
    split = way(MODEL, ("a", *"abaab", *"ccccc", "c"))[1]
    held = {piece.part: [BLOCKS[i].name for i in blocks_of(MODEL, piece)] for piece in pieces(split)}
    assert held["heads:0,2"] == ["layer1/heads:0", "layer1/heads:2"]
    assert held["mlp"] == ["layer1/mlp"]
    assert held["norm"] == []
    assert blocks_of(MODEL, Slice("a", "m", 1, 3)) == list(range(1, 11))


def test_a_head_that_moves_is_loaded_where_it_goes_and_let_go_where_it_was() -> None:
    before, after = ("a", *"abaab", *"ccccc", "c"), ("a", *"acaab", *"ccccc", "c")
    move = plan_move(PROBLEM, {"s": before}, {"s": after}, snapshot=None)  # type: ignore[arg-type]
    assert [(load.piece.node, load.piece.part) for load in move.prepare] == [("c", "heads:1")]
    assert [(piece.node, piece.part) for piece in move.release] == [("b", "heads:1")]
    assert move.routes["s"] == route(PROBLEM, "s", after)


@pytest.mark.parametrize("nodes", [("a",) * 12, ("a", *"abcab", *"cbabc", "c")])
def test_every_block_is_loaded_once(nodes) -> None:
    held = slices(PROBLEM, {"s": nodes})
    found = sorted((piece.node, i) for piece in held for i in blocks_of(MODEL, piece))
    assert found == sorted((node, i) for i, node in enumerate(nodes))


def test_a_chain_of_units_is_as_it_was() -> None:
    plain = replace(PROBLEM, models={"m": Model("m", tuple(replace(b, unit=0, part="") for b in BLOCKS), 100)})
    assert route(plain, "s", ("a",) * 6 + ("b",) * 6) == (Slice("a", "m", 0, 6), Slice("b", "m", 6, 12))
