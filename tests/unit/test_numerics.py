import pytest
import torch

from nodes import codec, weights
from nodes.codec import Tensor
from nodes.numerics import ModelFile, Numeric, _bytes_of, _view
from nodes.slices import BadTensor, LoadError
from nodes.slicing import cut

FAMILY = "vit_tiny"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return weights.ensure(FAMILY, 1, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def loader(path):
    return Numeric({"m": ModelFile(FAMILY, path)})


def test_tensors_go_to_torch_and_back():
    for x in (torch.arange(6, dtype=torch.int64).view(2, 3), torch.zeros(3, dtype=torch.uint8)):
        assert torch.equal(_view(_bytes_of(x)), x)
        assert codec.same(_bytes_of(_view(_bytes_of(x))), _bytes_of(x))


def test_a_cut_model_answers_as_the_whole_from_files_and_from_received_weights(loader, path):
    whole = cut(FAMILY, weights.load(path, FAMILY))
    shape = [1 if size == -1 else size for size in whole.input_shape]
    x = torch.randint(0, 255, shape, dtype=getattr(torch, whole.input_dtype))
    received = {block: dict(loader.weights("m", block)) for block in range(1, whole.last)}
    first, second = loader.load("m", 0, 1, None), loader.load("m", 1, whole.last, received)
    assert codec.same(second.run(first.run(_bytes_of(x))), _bytes_of(whole(x)))
    assert second.digest == loader.load("m", 1, whole.last, None).digest
    with pytest.raises(BadTensor):
        second.run(Tensor("float32", (1,), bytes(4)))


def test_weights_that_are_missing_are_refused(loader):
    with pytest.raises(LoadError, match="missing"):
        loader.load("m", 1, 2, {1: {}})
