"""What a generation keeps: moved it goes on with the same bits, lost it is made again from the tokens."""

import pytest
import torch

from nodes.models.cache import GROWTH, Cache
from nodes.models.generate import generate, next_token, step
from nodes.prepare import inputs
from nodes.runtime.slicing import cut, one_thread
from tests.unit.oracles import lively
from tests.unit.test_models_answers import GENERATING

COUNT = 24


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def moved(cache: Cache) -> Cache:
    """As its numbers arrive at another node."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in cache.tensors().items()}
    return Cache.of(cache.length, tensors, grows=frozenset({"keys", "values"}))


@pytest.mark.parametrize("family", GENERATING)
def test_caches_moved_at_every_token_change_no_bit(family: str) -> None:
    model, x = cut(family, lively(family)), torch.from_numpy(inputs.make(family, 0, 0))
    stay, move = model.caches(), model.caches()
    expected, scores = model(x, stay), model(x, move)
    assert torch.equal(expected, model(x))  # a cache to be filled changes nothing
    for _ in range(COUNT):
        assert torch.equal(scores, expected)
        token = torch.tensor([[next_token(expected)]])
        move = {name: moved(cache) for name, cache in move.items()}
        expected, scores = model.step(token, stay), model.step(token, move)


@pytest.mark.parametrize("family", GENERATING)
def test_a_lost_cache_is_made_again_from_the_tokens(family: str) -> None:
    model, x = cut(family, lively(family)), torch.from_numpy(inputs.make(family, 0, 1))
    tokens = generate([model], x, COUNT)
    for lost_at in (1, 2, 11):
        caches = [model.caches()]
        model(x, caches[0])
        scores = step([model], caches, torch.tensor([tokens[:lost_at]]))  # those already told, at once
        again = tokens[:lost_at]
        while len(again) < COUNT:
            again.append(next_token(scores))
            scores = step([model], caches, torch.tensor([again[-1:]]))
        assert again == tokens


def test_a_cache_lies_as_its_length_says() -> None:
    one, many = Cache(), Cache()
    k, v = torch.randn(2, 1, 3, 2 * GROWTH + 5, 8)
    one.append(k, v)
    for i in range(k.shape[2]):
        keys, values = many.append(k[:, :, i : i + 1], v[:, :, i : i + 1])
    assert one.length == many.length == k.shape[2]
    assert torch.equal(keys, k)
    assert torch.equal(values, v)
    held = [cache.tensors()["keys"] for cache in (one, many, moved(many))]
    assert {tensor.stride() for tensor in held} == {held[0].stride()}
    assert all(torch.equal(tensor, k) for tensor in held)
