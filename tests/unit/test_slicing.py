"""A model that is cut gives the answers of the whole one, bit for bit."""

import itertools

import pytest
import torch

from nodes.models import chain_of
from nodes.models.config import CONFIGS, UnknownFamily
from nodes.prepare import inputs, weights
from nodes.runtime.slicing import SliceError, cut, one_thread

SMALL = ["vit_tiny", "minilm_tiny"]


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def at_odd_address(x: torch.Tensor) -> torch.Tensor:
    """The same tensor as it may come out of a message: 8 bytes past an aligned address."""
    room = torch.empty(x.nbytes + 72, dtype=torch.uint8)
    offset = (8 - room.data_ptr()) % 64
    moved = room[offset : offset + x.nbytes].view(x.dtype).view(x.shape)
    moved.copy_(x)
    assert moved.data_ptr() % 64 == 8
    return moved


@pytest.mark.parametrize("family", SMALL)
def test_every_cut_is_exact(family: str) -> None:
    made = weights.make(family, 0)
    count = len(chain_of(family).units)
    for i in range(2):
        x = torch.from_numpy(inputs.make(family, 0, i))
        whole = cut(family, made)(x)
        for at in range(1, count):
            assert torch.equal(cut(family, made, at)(at_odd_address(cut(family, made, 0, at)(x))), whole), at
        for a, b in itertools.combinations(range(1, count), 2):
            between = cut(family, made, a, b)(cut(family, made, 0, a)(x))
            assert torch.equal(cut(family, made, b)(between), whole), (a, b)


def test_cuts_of_the_full_model_are_exact(full_weights: dict[str, torch.Tensor]) -> None:
    made = full_weights
    x = torch.from_numpy(inputs.make("vit_b16", 0, 0))
    whole = cut("vit_b16", made)(x)
    assert whole.shape == (1, 1000)
    assert whole.dtype == torch.float32
    step = x
    for a, b in itertools.pairwise((0, 1, 5, 6, 13, 14)):
        step = at_odd_address(cut("vit_b16", made, a, b)(step))
    assert torch.equal(step, whole)


def test_a_slice_needs_its_own_weights_only() -> None:
    made = weights.make("vit_tiny", 0)
    piece = cut("vit_tiny", made, 2, 4)
    assert set(piece.weights) == {name for unit in chain_of("vit_tiny").units[2:4] for name in unit.weights}
    assert all(piece.weights[name].data_ptr() == made[name].data_ptr() for name in piece.weights)  # nothing is copied
    with pytest.raises(SliceError, match=r"missing, the first is vit\.layers\.0"):
        cut("vit_tiny", piece.weights, 1, 3)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (3, 2), (-1, 2), (0, 7)])
def test_ranges_that_are_none(first: int, last: int) -> None:
    with pytest.raises(SliceError, match=r"has 0\.\.6"):
        cut("vit_tiny", weights.make("vit_tiny", 0), first, last)


def test_tensors_that_do_not_fit() -> None:
    vit, minilm = cut("vit_tiny", weights.make("vit_tiny", 0)), cut("minilm_tiny", weights.make("minilm_tiny", 0))
    with pytest.raises(SliceError, match=r"uint8 \(1, 32, 32, 3\), not torch.float32"):
        vit(torch.zeros(1, 32, 32, 3))
    with pytest.raises(SliceError, match=r"not torch.uint8 \(1, 32, 32\)"):
        vit(torch.zeros(1, 32, 32, dtype=torch.uint8))
    with pytest.raises(SliceError, match=r"not torch\.int64"):
        minilm(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(SliceError, match="cannot take this"):
        minilm(torch.full((1, 4), 128))  # the vocabulary ends at 127
    with pytest.raises(SliceError, match="cannot take this"):
        minilm(torch.zeros(1, 65, dtype=torch.int64))  # 64 positions


def test_families_are_known_by_name() -> None:
    assert {chain_of(family).family for family in CONFIGS} == set(CONFIGS)
    with pytest.raises(UnknownFamily, match=", ".join(sorted(CONFIGS))):
        chain_of("resnet")
