"""The loader of runs with real numbers: slices of torch models from mapped or received weights.

The only file that joins the agent's bytes to torch. Operands are kept at multiples of 64 bytes, because a matrix
product may round differently when they lie otherwise: a moved slice answers as the unsplit model does, bit for bit.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from nodes import weights
from nodes.codec import Tensor
from nodes.models.config import UnknownFamily, weight_shapes
from nodes.slices import BadTensor, Loaded, LoadError, Run, Weights
from nodes.slicing import Slice, SliceError, cut, one_thread
from nodes.tensorfile import TensorFileError

DTYPES = {"uint8": torch.uint8, "int64": torch.int64, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class ModelFile:
    family: str
    weights_file: Path


class Numeric:
    """A `Loader` whose slices compute. `warm`: each runs once when it is loaded, so that no request pays for firsts."""

    def __init__(self, models: Mapping[str, ModelFile], *, warm: bool = False) -> None:
        one_thread()
        self._models = models
        self._warm = warm
        self._mapped: dict[str, dict[str, torch.Tensor]] = {}

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        """Raises LoadError when weights are missing or do not fit."""
        family = self._models[model].family
        with _load_errors():
            if received is None:
                piece = cut(family, self._here(model), first, last)
                weights.populate(piece.weights.values())
            else:
                piece = cut(family, _arrived(received, weight_shapes(family, first, last)), first, last)
            if self._warm:
                piece(_any_input(piece))
            return Loaded(_runner(piece), piece.digest)

    def weights(self, model: str, block: int) -> Iterable[tuple[str, Tensor]]:
        """Raises LoadError when they cannot be read."""
        with _load_errors():
            held = cut(self._models[model].family, self._here(model), block, block + 1).weights
        for name in sorted(held):
            yield name, _bytes_of(held[name])

    def _here(self, model: str) -> dict[str, torch.Tensor]:
        if model not in self._mapped:
            files = self._models[model]
            self._mapped[model] = weights.load(files.weights_file, files.family)
        return self._mapped[model]


@contextmanager
def _load_errors() -> Iterator[None]:
    try:
        yield
    except (SliceError, UnknownFamily, weights.WeightsError, TensorFileError, BadTensor, OSError) as error:
        raise LoadError(str(error)) from error


def _arrived(received: Weights, declared: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Raises WeightsError unless all are of the declared shapes; copies, which torch allocates and so aligns."""
    tensors = {name: _view(tensor) for block in received.values() for name, tensor in block.items()}
    weights.check(tensors, declared, "what arrived")
    return {name: torch.empty(tensor.shape).copy_(tensor) for name, tensor in tensors.items()}


def _any_input(piece: Slice) -> torch.Tensor:
    return torch.zeros([abs(size) for size in piece.input_shape], dtype=DTYPES[piece.input_dtype])


def _runner(piece: Slice) -> Run:
    def run(tensor: Tensor) -> Tensor:
        try:
            return _bytes_of(piece(_view(tensor)))
        except SliceError as error:
            raise BadTensor(str(error)) from error

    return run


def _view(tensor: Tensor) -> torch.Tensor:
    """The tensor where its bytes lie; a slice copies it if that is no multiple of 64. Raises BadTensor."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to an input
            return torch.frombuffer(tensor.data, dtype=DTYPES[tensor.dtype]).view(tensor.shape)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:  # no such type, no bytes, not as many
        raise BadTensor(f"{tensor.size_bytes} bytes are no {tensor.dtype} {tensor.shape}: {error}") from error


def _bytes_of(tensor: torch.Tensor) -> Tensor:
    array = tensor.detach().numpy()
    return Tensor(array.dtype.name, tuple(array.shape), array.data.cast("B"))
