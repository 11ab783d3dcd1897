"""Which node has which part of a layer: assignments that are complete, and those that are told why they are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.inlayer.parts import split_config
from nodes.models.shares import MLP, MLP_NORM, MLP_SUM, NORM, PROJ, SUM, Columns, Heads, ShareError, in_order
from nodes.models.splits import Run, Split, check_placement, check_split, stages
from tests.unit.placements import FIFTY, splits

GPT = split_config("gpt2_tiny")
WHOLE = {"a": ["heads:0,3", "proj"], "b": ["heads:1,2", "mlp"]}


def test_what_follows_from_the_parts() -> None:
    gathered = Split.of("h", WHOLE)
    assert gathered.everything == (*gathered.parts, ("h", NORM))
    assert (gathered.middle, gathered.end) == ("a", "b")
    added = Split.of("h", {"a": ["rows:0,1"], "b": ["rows:2,3", "mlp:0-7"], "c": ["mlp:7-256"]})
    assert added.everything == (*added.parts, ("h", NORM), ("h", SUM), ("h", MLP_NORM), ("h", MLP_SUM))
    assert (added.middle, added.end) == ("h", "h")
    mixed = Split.of("h", {"a": ["heads:0,1,2,3", "mlp:7-256"], "b": ["proj", "mlp:0-7"]})
    assert mixed.everything == (*mixed.parts, ("h", NORM), ("b", MLP_NORM), ("b", MLP_SUM))
    assert (mixed.middle, mixed.end) == ("b", "b")
    assert [str(share) for _, share in mixed.columns] == ["mlp:0-7", "mlp:7-256"]
    for split in (gathered, added, mixed):
        check_split(GPT, split)


def test_from_the_node_of_each_head() -> None:
    split = Split.assigned("h", ["a", "b", "b", "a"], "a", "b")
    assert split == Split("h", (("a", Heads((0, 3))), ("b", Heads((1, 2))), ("a", PROJ), ("b", MLP)))
    shared = Split.assigned("h", ["a"] * 4, None, [("b", 56), ("a", 200)])
    assert shared.parts == (("a", Heads((0, 1, 2, 3), rows=True)), ("b", Columns(0, 56)), ("a", Columns(56, 256)))


@FIFTY
@given(st.data(), st.sampled_from(["gpt2_tiny", "llama_tiny"]), st.integers(0, 2), st.sampled_from("abc"))
def test_drawn_assignments_are_complete_and_stay_so_when_a_head_moves(
    data: st.DataObject, family: str, head: int, node: str
) -> None:
    config = split_config(family)
    split = data.draw(splits(config, ["a", "b", "x"]))
    check_split(config, split)
    moved = split.moved(head, node)
    check_split(config, moved)
    assert moved.node_of(head) == node
    assert {i: split.node_of(i) for i in range(config.movable) if i != head} == {
        i: moved.node_of(i) for i in range(config.movable) if i != head
    }
    assert moved.moved(head, split.node_of(head)).node_of(head) == split.node_of(head)
    close = SUM if split.heads[0][1].rows else PROJ
    assert in_order(config, close, frozenset(share for _, share in moved.heads)) == tuple(s for _, s in moved.heads)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"a": ["heads:0", "proj"]}, "head 3 on no node"),
        ({"a": ["proj"]}, "head 0, 3 on no node"),
        ({"b": ["heads:1,2,3", "mlp"]}, "head 3 is on a and again on b"),
        ({"b": ["heads:1,2,4", "mlp"]}, r"heads:1,2,4: gpt2_tiny has heads 0\.\.3"),
        ({"b": ["rows:1,2", "mlp"]}, "rows:1,2 on b: heads:0,3 on a is of the other kind"),
        ({"a": ["rows:0,3", "proj"], "b": ["rows:1,2", "mlp"]}, "proj on a: rows are added at the home, h"),
        ({"a": ["heads:0,3"]}, "proj is on no node"),
        ({"c": ["proj"]}, "proj is on a and again on c"),
        ({"b": ["heads:1,2"]}, "mlp is on no node"),
        ({"c": ["mlp"]}, "mlp is on b and again on c"),
        ({"c": ["mlp:0-9"]}, "mlp on b: it is on c as mlp:0-9, too"),
        ({"b": ["heads:1,2", "mlp:0-9"]}, "mlp:9-256 is on no node"),
        ({"b": ["heads:1,2", "mlp:0-9", "mlp:10-256"]}, "mlp:9-10 is on no node"),
        ({"b": ["heads:1,2", "mlp:0-9"], "c": ["mlp:8-256"]}, "mlp:8-256 on c: columns before 9 are elsewhere already"),
        ({"b": ["heads:1,2", "mlp:0-300"]}, "mlp:0-300: gpt2_tiny has columns 0-256"),
        ({"c": ["norm"]}, "norm on c: follows from the other parts"),
        ({"c": ["mlp:sum"]}, "mlp:sum on c: follows from the other parts"),
    ],
)
def test_assignments_that_are_none(changes: dict[str, list[str]], told: str) -> None:
    split = Split.of("h", WHOLE | changes)
    with pytest.raises(ShareError, match=told):
        check_split(GPT, split)
    with pytest.raises(ShareError, match="layer1: " + told):
        check_placement(GPT, ["a", "a", split, "a", "a"])


def test_placements_that_are_none() -> None:
    with pytest.raises(ShareError, match="no part 'head:0'"):
        Split.of("h", {"a": ["head:0"]})
    with pytest.raises(ShareError, match="head 9 is on no node"):
        Split.of("h", WHOLE).moved(9, "a")
    with pytest.raises(ShareError, match="gpt2_tiny has 5 units, 3 are placed"):
        check_placement(GPT, ["a", "a", "a"])
    for place, name in ((0, "embed"), (4, "head")):
        with pytest.raises(ShareError, match=f"{name} has no parts"):
            check_placement(GPT, [Split.of("h", WHOLE) if i == place else "a" for i in range(5)])


def test_whole_units_in_a_row_run_as_one() -> None:
    split = Split.of("h", WHOLE)
    assert stages(["a", "a", split, split, "b"]) == [Run("a", 0, 2), (1, split), (2, split), Run("b", 4, 5)]
