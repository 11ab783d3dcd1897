"""The loader of runs with real numbers: slices of torch models from mapped or received weights.

The only file that joins the agent's bytes to torch. Operands are kept at multiples of 64 bytes, because a matrix
product may round differently when they lie otherwise: a moved slice answers as the unsplit model does, bit for bit.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from nodes import weights
from nodes.codec import Tensor
from nodes.slices import BadTensor, Loaded, LoadError, Weights
from nodes.slicing import Slice, SliceError, cut, one_thread
from nodes.tensorfile import TensorFileError

DTYPES = {"uint8": torch.uint8, "int64": torch.int64, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class ModelFile:
    family: str
    weights_file: Path


class Numeric:
    """A `Loader` whose slices compute."""

    def __init__(self, models: Mapping[str, ModelFile]) -> None:
        one_thread()
        self._models = models
        self._mapped: dict[str, dict[str, torch.Tensor]] = {}

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        """Raises LoadError when weights are missing or do not fit."""
        family = self._models[model].family
        try:
            if received is None:
                piece = cut(family, self._here(model), first, last)
                weights.populate(piece.weights.values())
            else:
                arrived = {name: tensor for block in received.values() for name, tensor in block.items()}
                piece = cut(family, {name: _settled(tensor) for name, tensor in arrived.items()}, first, last)
            return Loaded(_runner(piece), piece.digest)
        except (SliceError, weights.WeightsError, TensorFileError, OSError) as error:
            raise LoadError(str(error)) from error

    def weights(self, model: str, block: int) -> Iterable[tuple[str, Tensor]]:
        piece = cut(self._models[model].family, self._here(model), block, block + 1)
        for name in sorted(piece.weights):
            yield name, _bytes_of(piece.weights[name])

    def _here(self, model: str) -> dict[str, torch.Tensor]:
        if model not in self._mapped:
            files = self._models[model]
            self._mapped[model] = weights.load(files.weights_file, files.family)
        return self._mapped[model]


def _runner(piece: Slice):  # type: ignore[no-untyped-def]
    def run(tensor: Tensor) -> Tensor:
        try:
            return _bytes_of(piece(_view(tensor)))
        except SliceError as error:
            raise BadTensor(str(error)) from error

    return run


def _view(tensor: Tensor) -> torch.Tensor:
    """The tensor where its bytes lie; a slice copies it if that is no multiple of 64."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to an input
        return torch.frombuffer(tensor.data, dtype=DTYPES[tensor.dtype]).view(tensor.shape)


def _settled(tensor: Tensor) -> torch.Tensor:
    """A copy in memory that torch has allocated, and so aligned."""
    return torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype]).copy_(_view(tensor))


def _bytes_of(tensor: torch.Tensor) -> Tensor:
    array = tensor.detach().numpy()
    return Tensor(array.dtype.name, tuple(array.shape), array.data.cast("B"))
