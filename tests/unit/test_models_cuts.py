"""Every family, small, cut everywhere: the bits of the unsplit model, in one pass and while tokens are generated."""

import itertools

import pytest
import torch

from nodes.models import chain_of
from nodes.models.generate import next_token, step
from nodes.prepare import inputs
from nodes.runtime.slicing import Slice, SliceError, cut, one_thread
from tests.unit.oracles import lively
from tests.unit.test_models_answers import GENERATING, TINY
from tests.unit.test_slicing import at_odd_address

STEPS = 8


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def scores_of(slices: list[Slice], x: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Of `count` steps of greedy generation, each tensor between slices laid where a message may put it."""
    caches = [piece.caches() for piece in slices]
    for piece, kept in zip(slices, caches, strict=True):
        x = at_odd_address(piece(x, kept))
    scores = [x]
    while len(scores) < count:
        x = torch.tensor([[next_token(scores[-1])]])
        for piece, kept in zip(slices, caches, strict=True):
            x = at_odd_address(piece.step(x, kept)) if piece.generates else x
        scores.append(x)
    return scores


@pytest.mark.parametrize("family", TINY)
def test_every_cut_gives_the_same_bits(family: str) -> None:
    weights, count = lively(family), len(chain_of(family).units)
    for i in range(2):
        x = torch.from_numpy(inputs.make(family, 0, i))
        whole = cut(family, weights)(x)
        for at in range(1, count):
            assert torch.equal(cut(family, weights, at)(at_odd_address(cut(family, weights, 0, at)(x))), whole), at


@pytest.mark.parametrize("family", GENERATING)
def test_every_cut_generates_the_same_bits(family: str) -> None:
    weights, count = lively(family), len(chain_of(family).units)
    x = torch.from_numpy(inputs.make(family, 0, 0))
    whole = scores_of([cut(family, weights)], x, STEPS)
    places = [(0, at, count) for at in range(1, count)] + [tuple(range(count + 1))]
    for place in places:
        slices = [cut(family, weights, a, b) for a, b in itertools.pairwise(place)]
        assert all(map(torch.equal, scores_of(slices, x, STEPS), whole)), place


@pytest.mark.parametrize("family", TINY)
def test_what_crosses_and_what_is_kept_is_what_is_declared(family: str) -> None:
    chain, weights = chain_of(family), lively(family)
    x = torch.from_numpy(inputs.make(family, 0, 0))
    slices = [cut(family, weights, i, i + 1) for i in range(len(chain.units))]
    caches = [piece.caches() for piece in slices]
    tokens = x.shape[1] if chain.enters == 0 else 3
    for unit, piece, kept in zip(chain.units, slices, caches, strict=True):
        x = piece(x, kept)
        assert fits(x, unit.shape.output)
        assert sum(unit.shape.parts.values()) in {0, x.shape[1]}
    if chain.enters is None:
        return
    x = torch.tensor([[1, 2]])
    for unit, piece, kept in zip(chain.units, slices, caches, strict=True):
        if unit.shape.step is None:
            with pytest.raises(SliceError, match="no part in generating"):
                piece.step(x, kept)
            continue
        x = piece.step(x, kept)
        assert fits(x, unit.shape.step)
        assert (unit.shape.keeps is None) == (not kept)
        for cache in kept.values():
            assert cache.length == tokens + 2
            shapes = {name: tuple(tensor.shape) for name, tensor in cache.tensors().items()}
            assert shapes == {
                name: tuple(cache.length if n == -1 else n for n in shape) for name, shape in unit.shape.keeps.items()
            }


def fits(x: torch.Tensor, shape: tuple[int, ...]) -> bool:
    return len(shape) == x.dim() and all(want in {-1, got} for want, got in zip(shape, x.shape, strict=True))


def test_tensors_that_do_not_fit_a_step() -> None:
    model, tail = cut("gpt2_tiny", lively("gpt2_tiny")), cut("gpt2_tiny", lively("gpt2_tiny"), 2)
    with pytest.raises(SliceError, match=r"takes contiguous int64 \(1, -1\), not torch\.float32"):
        model.step(torch.zeros(1, 1), model.caches())
    with pytest.raises(SliceError, match=r"takes contiguous float32 \(1, -1, 64\), not torch\.int64"):
        tail.step(torch.zeros(1, 1, dtype=torch.int64), tail.caches())
    with pytest.raises(SliceError, match="no part in generating"):
        cut("vit_tiny", lively("vit_tiny")).step(torch.zeros(1, 1, dtype=torch.int64), {})


@pytest.mark.parametrize("family", GENERATING)
def test_a_text_that_grows_too_long_is_refused(family: str) -> None:
    model = cut(family, lively(family))
    caches = [model.caches()]
    model(torch.from_numpy(inputs.make(family, 0, 0)), caches[0])
    with pytest.raises(SliceError, match="have a position"):
        for _ in range(300):
            step([model], caches, torch.tensor([[1]]))
