"""The loader of real slices: exact from files and from received weights, and every bad input refused by name."""

import pytest
import torch

from nodes.prepare import inputs, weights
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.rawtensors import raw, view
from nodes.runtime.slicing import cut
from nodes.slices import BadTensor, LoadError
from nodes.wire import codec
from nodes.wire.codec import Tensor

FAMILY = "vit_tiny"
FAMILIES = (FAMILY, "minilm_tiny", "mobilenet_tiny", "whisper_tiny", "gpt2_tiny", "llama_tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def loader(folder):
    return Numeric({family: ModelFile(family, weights.ensure(family, 1, folder)) for family in FAMILIES})


def received(loader, family, first, last):
    return {block: dict(loader.weights(family, block)) for block in range(first, last)}


def test_tensors_go_to_torch_and_back():
    for x in (torch.arange(6, dtype=torch.int64).view(2, 3), torch.zeros(3, dtype=torch.uint8)):
        assert torch.equal(view(raw(x)), x)
        assert codec.same(raw(view(raw(x))), raw(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_answers_as_the_whole_from_files_and_from_received_weights(family, loader, folder):
    whole = cut(family, weights.load(weights.ensure(family, 1, folder), family))
    x = torch.from_numpy(inputs.make(family, 1, 0))
    first = loader.load(family, 0, 1, None)
    second = loader.load(family, 1, whole.last, received(loader, family, 1, whole.last))
    assert codec.same(second.run(first.run(raw(x))), raw(whole(x)))
    assert second.digest == loader.load(family, 1, whole.last, None).digest


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loader_that_warms_up_gives_the_same_slices(family, loader, folder):
    warm = Numeric({family: ModelFile(family, weights.ensure(family, 1, folder))}, warm=True)
    x = raw(torch.from_numpy(inputs.make(family, 1, 0)))
    for first, last in ((0, 1), (1, 3)):
        before, after = loader.load(family, first, last, None), warm.load(family, first, last, None)
        assert before.digest == after.digest
        expected = before.run(x)
        assert codec.same(after.run(x), expected)
        x = expected


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("float32", (1,), bytes(4)),
        Tensor("float32", (), bytes(4)),
        Tensor("float32", (0,), b""),
        Tensor("uint8", (0, 32, 32, 3), b""),
        Tensor("uint8", (1, 32, 32, 3), bytes(5)),
        Tensor("int64", (1,), bytes(7)),
        Tensor("float64", (1,), bytes(8)),
        Tensor("uint8", (2**40, 2**40), bytes(3)),
    ],
    ids=str,
)
def test_what_a_slice_cannot_take_is_a_bad_tensor(loader, tensor):
    with pytest.raises(BadTensor):
        loader.load(FAMILY, 0, 1, None).run(tensor)


def test_a_token_outside_the_vocabulary_is_a_bad_tensor(loader):
    with pytest.raises(BadTensor, match="cannot take this"):
        loader.load("minilm_tiny", 0, 1, None).run(raw(torch.full((1, 2), 10**6)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda held, name: held.pop(name), "missing"),
        (lambda held, name: held.update(other=held[name]), "declared nowhere"),
        (lambda held, name: held.update({name: Tensor("float32", (1, 64), bytes(256))}), r"is \(1, 64\), declared"),
        (lambda held, name: held.update({name: Tensor("int64", (64,), bytes(512))}), r"int64, declared torch\.float32"),
        (lambda held, name: held.update({name: Tensor("float32", (0,), b"")}), "0 bytes are no float32"),
    ],
    ids=["missing", "further", "shape", "type", "empty"],
)
def test_weights_that_are_not_those_of_the_slice_are_refused(loader, change, why):
    held = received(loader, FAMILY, 1, 2)
    change(held[1], next(name for name, tensor in held[1].items() if tensor.shape == (64,)))
    with pytest.raises(LoadError, match=why):
        loader.load(FAMILY, 1, 2, held)


def test_files_and_ranges_that_are_none_are_load_errors(folder, tmp_path):
    other = Numeric({"m": ModelFile(FAMILY, weights.ensure("minilm_tiny", 1, folder))})
    gone = Numeric({"m": ModelFile(FAMILY, tmp_path / "gone")})
    for broken in (other, gone):
        with pytest.raises(LoadError):
            list(broken.weights("m", 0))
        with pytest.raises(LoadError):
            broken.load("m", 0, 1, None)
    with pytest.raises(LoadError, match=r"has 0\.\.6"):
        Numeric({"m": ModelFile(FAMILY, weights.ensure(FAMILY, 1, folder))}).load("m", 3, 9, None)
