"""Layers by parts in full size, once each: heads move, a node dies, the tokens are those of transformers. No guest.

Besides, what the unit tests show of a few tokens on many placements of the small families, of 64.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nodes.inlayer.assembly import Assembly
from nodes.inlayer.parts import split_config
from nodes.models.splits import Placement, Split
from nodes.prepare import inputs, smollm, weights
from nodes.runtime.slicing import one_thread
from tests.unit.oracles import answer_of, continuation_of, lively, relative_error
from tests.unit.placements import FIFTY, SMALL, check_greedy, placements

COUNT = 24


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def uneven(family: str) -> Placement:
    """On a, b and c, four kinds of layers in turn: gathered, shared out, both, and whole; most heads are on b."""
    config = split_config(family)
    heads = ["a", *["b"] * (config.movable - 2), "c"]
    columns = [("b", config.hidden - 200), ("a", 137), ("c", 63)]
    kinds: list[str | Split] = [
        Split.assigned("a", heads, "c", "b"),
        Split.assigned("b", heads[::-1], None, columns),
        Split.assigned("c", heads, "a", columns),
        "b",
    ]
    return ["a", *(kinds[i % 4] for i in range(config.layers)), "c"]


def without_c(place: str | Split) -> str | Split:
    """The same, with what c had on a."""
    if isinstance(place, str):
        return place.replace("c", "a")
    heads = [place.node_of(i).replace("c", "a") for i in sorted(i for _, share in place.heads for i in share.numbers)]
    columns = [(node.replace("c", "a"), share.end - share.begin) for node, share in place.columns]
    gather = None if place.heads[0][1].rows else place.middle.replace("c", "a")
    return Split.assigned(place.home.replace("c", "a"), heads, gather, columns or place.end.replace("c", "a"))


def generated(assembly: Assembly, ids: torch.Tensor, count: int) -> list[int]:
    """Behind every other token, a head of each layer that has parts moves to the next node; behind 16, c is lost."""
    tokens, nodes = [], "abc"
    for i, token in enumerate(assembly.tokens(ids, count)):
        tokens.append(token)
        if i == 15:
            nodes = "ab"
            assembly.lose("c", [without_c(place) for place in assembly.placement])
        if i % 2 == 0:
            for layer, place in enumerate(assembly.placement[1:-1]):
                if isinstance(place, Split):
                    head = (layer + i) % assembly.config.movable
                    assembly.move(head, layer, nodes[(nodes.index(place.node_of(head)) + 1) % len(nodes)])
    return tokens


def weights_in(family: str, folder: Path) -> dict[str, torch.Tensor]:
    if family == "gpt2":
        return lively(family)
    return weights.load(weights.ensure(family, 0, folder), family)


@pytest.mark.parametrize("family", ["gpt2", "smollm2"])
def test_heads_of_a_full_model_move_and_the_tokens_stay(family: str, tmp_path: Path) -> None:
    held = weights_in(family, tmp_path)
    ids = torch.from_numpy(inputs.make(family, 0, 0))
    if family == "smollm2":
        ids = torch.tensor([smollm.tokenise("The capital of France is")])
    assembly = Assembly(family, held, uneven(family))
    assert relative_error(assembly.begin(ids), answer_of(family, held)(ids)) < 1e-5
    tokens = generated(assembly, ids, COUNT)
    assert tokens == continuation_of(family, held, ids, COUNT)
    assert len(set(tokens)) > 2
    assert family != "smollm2" or smollm.text(tokens).startswith(" Paris.")


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("nodes", [2, 3, 5, 7])
@FIFTY
@given(data=st.data())
def test_any_placement_of_heads_generates_64_tokens_of_transformers(
    family: str, nodes: int, data: st.DataObject
) -> None:
    check_greedy(family, data.draw(placements(family, nodes)), 64)
