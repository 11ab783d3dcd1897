"""Layers by parts on any nodes: greedy tokens are those of transformers, whoever has which head, moves or dies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inlayer.assembly import Assembly, carried
from nodes.inlayer.parts import part, split_config
from nodes.models.cache import Cache
from nodes.models.generate import next_token
from nodes.models.shares import ShareError
from nodes.models.splits import Placement, Split
from nodes.runtime.slicing import SliceError, one_thread
from tests.unit.placements import FIFTY, SMALL, check_greedy, expected, placements, text, weights_of

FEW, COUNT = 8, 20  # of the many placements, 64 tokens are those of tests/scenarios/test_heads_full.py


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def uneven(family: str, gather: str | None, columns: bool, nodes: str = "abc") -> Placement:
    """Most heads on the second node; the middle layer is whole."""
    config, (a, b, c) = split_config(family), nodes
    heads = [c] + [b] * (config.movable - 1)
    split = Split.assigned(a, heads, gather, [(b, config.hidden - 100), (a, 60), (c, 40)] if columns else c)
    return [a, split, b, split, c]


KINDS = [(None, True), (None, False), ("a", True), ("b", False)]


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("nodes", [2, 3, 5, 7])
@FIFTY
@given(data=st.data())
def test_any_placement_of_heads_generates_what_transformers_does(family: str, nodes: int, data: st.DataObject) -> None:
    check_greedy(family, data.draw(placements(family, nodes)), FEW)


@pytest.mark.parametrize("family", SMALL)
def test_a_head_moved_at_any_token_changes_no_token(family: str) -> None:
    tokens, _ = expected(family, COUNT)
    movable = split_config(family).movable
    for at in range(COUNT):
        gather, columns = KINDS[at % 4]
        assembly = Assembly(family, weights_of(family), uneven(family, gather, columns))
        found = []
        for i, token in enumerate(assembly.tokens(text(family), COUNT)):
            found.append(token)
            if i == at:
                assembly.move(at % movable, 2 * (at % 2), "d")  # a node that had nothing
                assert assembly.nodes["d"].heads[2 * (at % 2)][at % movable].length == text(family).shape[1] + at
        assert found == tokens, at


@pytest.mark.parametrize("family", SMALL)
@settings(FIFTY, max_examples=10)
@given(data=st.data())
def test_a_new_placement_at_every_token_changes_no_token(family: str, data: st.DataObject) -> None:
    """Units and layers move, whole ones become parts and parts whole ones, each with its caches."""
    tokens, _ = expected(family, COUNT)
    assembly = Assembly(family, weights_of(family), data.draw(placements(family, 3)))
    found = []
    for token in assembly.tokens(text(family), FEW):
        found.append(token)
        assembly.place(data.draw(placements(family, 3)))
    assert found == tokens[:FEW]


@pytest.mark.parametrize("family", SMALL)
def test_gathered_heads_give_the_same_bits_wherever_they_are(family: str) -> None:
    movable = split_config(family).movable
    stay = Assembly(family, weights_of(family), uneven(family, "a", columns=False))
    move = Assembly(family, weights_of(family), uneven(family, "a", columns=False))
    one, other = stay.begin(text(family)), move.begin(text(family))
    for i in range(COUNT):
        assert torch.equal(one, other), i
        move.move(i % movable, 2 * (i % 2), "abcde"[i % 5])
        token = torch.tensor([[next_token(one)]])
        one, other = stay.step(token), move.step(token)


@pytest.mark.parametrize("family", SMALL)
def test_a_node_lost_at_any_token_changes_no_token(family: str) -> None:
    tokens, _ = expected(family, COUNT)
    for at in range(COUNT):
        (gather, columns), lost = KINDS[at % 4], "abc"[at % 3]
        left = uneven(family, gather.replace(lost, "d") if gather else None, columns, "abc".replace(lost, "d"))
        assembly = Assembly(family, weights_of(family), uneven(family, gather, columns))
        found = []
        for i, token in enumerate(assembly.tokens(text(family), COUNT)):
            found.append(token)
            if i == at:
                assembly.lose(lost, left)
                assert lost not in assembly.nodes
        assert found == tokens, at


@pytest.mark.parametrize("family", SMALL)
def test_a_cache_made_anew_from_raw_bytes_goes_on_with_the_same_bits(family: str) -> None:
    config = split_config(family)
    here, there = (part(family, weights_of(family), 1, "heads:0,2") for _ in range(2))
    caches = here.caches()
    here(torch.randn(1, 9, config.width), caches)
    again = {}
    for i, cache in caches.items():
        sent = {name: bytes(carried(tensor).numpy().data.cast("B")) for name, tensor in cache.tensors().items()}
        shape = (1, 1, cache.length, config.head_width)
        read = {name: torch.frombuffer(bytearray(raw), dtype=torch.float32).view(shape) for name, raw in sent.items()}
        again[i] = Cache.of(cache.length, read, grows=frozenset(read))
    for tokens in (1, 1, 3, 1):
        x = torch.randn(1, tokens, config.width)
        assert torch.equal(here(x, caches), there(x, again))
    for i, cache in caches.items():
        kept, other = cache.tensors(), again[i].tensors()
        assert all(torch.equal(kept[name], other[name]) for name in ("keys", "values"))


def test_what_a_node_has_is_what_its_place_says() -> None:
    assembly = Assembly("gpt2_tiny", weights_of("gpt2_tiny"), uneven("gpt2_tiny", None, columns=True))
    held = {name: sorted(f"{at} {share}" for at, share in node.parts) for name, node in assembly.nodes.items()}
    home = ["mlp:156-216", "mlp:norm", "mlp:sum", "norm", "sum"]
    assert held["a"] == [f"{i} {share}" for i in (0, 2) for share in home]
    assert held["c"] == [f"{i} {share}" for i in (0, 2) for share in ("mlp:216-256", "rows:0")]
    before = dict(assembly.nodes["b"].parts)
    assembly.move(0, 2, "b")
    assert sorted(map(str, (share for at, share in assembly.nodes["b"].parts if at == 2))) == [
        "mlp:0-156",
        "rows:0,1,2,3",
    ]
    kept = {key: held for key, held in assembly.nodes["b"].parts.items() if key in before}
    assert all(held is before[key] for key, held in kept.items())  # what stays is not loaded again
    assert len(kept) == 3


def test_moves_and_losses_that_cannot_be() -> None:
    placement = uneven("gpt2_tiny", "a", columns=False)
    assembly = Assembly("gpt2_tiny", weights_of("gpt2_tiny"), placement)
    with pytest.raises(SliceError, match="layer1 is whole, on b: it has no head 2 to move"):
        assembly.move(2, 1, "a")
    with pytest.raises(ShareError, match="head 4 is on no node"):
        assembly.move(4, 0, "a")
    with pytest.raises(SliceError, match="c is lost, and has a place"):
        assembly.lose("c", placement)
    with pytest.raises(SliceError, match="the layers of whisper_tiny have no parts"):
        Assembly("whisper_tiny", {}, placement)
