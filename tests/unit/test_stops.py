"""From blocks that are parts of layers to the stops of a request."""

from dataclasses import replace

import numpy as np
import pytest

from controller.model import Block, Host, Model, NodeState, Problem, Sla, Slice, Snapshot, Stream
from controller.moves import move_cost, plan_move, route, slices
from controller.parts import blocks_of, pieces, text, way
from controller.table import tabulate


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


UP = NodeState(True, 0, 0)
SCENE = Snapshot(0, (UP, UP, UP), np.zeros((3, 3), dtype=np.int64), np.full((3, 3), 8_000_000))
TRAVELS = replace(PROBLEM, weights="transfer")


@pytest.mark.parametrize(
    ("after", "sources"),
    [
        pytest.param("acaab", {"heads:1": "b"}, id="a head from where it was"),
        pytest.param("cbccb", {"heads:0,2": "a", "proj": "a", "norm": "a"}, id="two heads from who has both"),
        pytest.param("bbaab", {"heads:0,1": "a", "heads:2": None}, id="what lacks, not what is there"),
        pytest.param("ccccc", {"": "a"}, id="a whole layer from who has most of it"),
    ],
)
def test_a_part_comes_from_the_node_that_has_most_of_it(after, sources) -> None:
    rest = ("ccccc", "c")
    before, new = ("a", *"abaab", *rest[0], rest[1]), ("a", *after, *rest[0], rest[1])
    move = plan_move(TRAVELS, {"s": before}, {"s": new}, SCENE)
    assert {load.piece.part: load.source for load in move.prepare if load.piece.first <= 1} == sources


def test_a_move_of_parts_costs_what_must_travel() -> None:
    table = tabulate(TRAVELS)
    before, after = (0, *(0, 1, 0, 0, 1), *[2] * 5, 2), (0, *(0, 2, 0, 0, 2), *[2] * 5, 2)
    assert move_cost(table, {"s": before}, {"s": after}, SCENE) == (20, 20)


WIDE = [
    Block(f"layer1/{part}", 1, 10, 1, unit=1, part=part)
    for part in ("heads:0", "heads:1", "proj", "mlp:0-4", "mlp:4-8", "mlp:8-12", "mlp:12-16")
]
COLUMNS = Model("w", (Block("embed", 1, 50, 1, unit=0), *WIDE, Block("head", 1, 50, 1, unit=2)), 100)


def test_columns_on_several_nodes_are_added_up_at_the_projection() -> None:
    stop, last = way(COLUMNS, ("a", *"ab", "b", *"aacb", "b"))[1:]
    columns = (("a", "mlp:0-8"), ("c", "mlp:8-12"), ("b", "mlp:12-16"))
    assert stop == Slice("a", "w", 1, 2, parts=(("a", "heads:0"), ("b", "heads:1"), ("b", "proj"), *columns))
    assert [f"{piece.node}:{piece.part}" for piece in pieces(stop)][-3:] == ["a:norm", "b:mlp:norm", "b:mlp:sum"]
    held = {piece.part: blocks_of(COLUMNS, piece) for piece in pieces(stop)}
    assert (held["mlp:0-8"], held["mlp:8-12"], held["mlp:12-16"]) == ([4, 5], [6], [7])
    assert held["mlp:norm"] == held["mlp:sum"] == held["norm"] == []
    assert last == Slice("b", "w", 2, 3)


def test_columns_that_are_no_neighbours_stay_apart_and_all_on_one_node_are_whole() -> None:
    [_, apart, _] = way(COLUMNS, ("a", *"aa", "a", *"abab", "a"))
    assert [part for _, part in apart.parts if part.startswith("mlp")] == [
        "mlp:0-4",
        "mlp:4-8",
        "mlp:8-12",
        "mlp:12-16",
    ]
    [_, whole, _] = way(COLUMNS, ("a", *"ab", "a", *"cccc", "a"))
    assert whole.parts[-1] == ("c", "mlp")
    assert [blocks_of(COLUMNS, p) for p in pieces(whole) if p.part == "mlp"] == [[4, 5, 6, 7]]
    assert [piece.part for piece in pieces(whole)][-1] == "norm"
    assert way(COLUMNS, "a" * 9) == (Slice("a", "w", 0, 3),)


def test_a_layer_that_ends_in_a_sum_is_followed_from_there() -> None:
    """The next layer by parts begins at home where the sum was, if it has anything there."""
    twice = Model(
        "w", (*COLUMNS.blocks[:8], *(replace(b, unit=2) for b in WIDE), replace(COLUMNS.blocks[8], unit=3)), 100
    )
    stops = way(twice, ("a", *"ab", "b", *"aacb", *"ab", "c", *"abcc", "b"))
    assert [stop.node for stop in stops] == ["a", "a", "b", "b"]


def test_a_chain_of_units_is_as_it_was() -> None:
    plain = replace(PROBLEM, models={"m": Model("m", tuple(replace(b, unit=0, part="") for b in BLOCKS), 100)})
    assert route(plain, "s", ("a",) * 6 + ("b",) * 6) == (Slice("a", "m", 0, 6), Slice("b", "m", 6, 12))
