"""The loader of runs with real numbers: slices of torch models from mapped or received weights.

Operands are kept at multiples of 64 bytes, because a matrix product may round differently when they lie otherwise: a
moved slice answers as the unsplit model does, bit for bit.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from nodes.inlayer.numericparts import cut_out, load_part, put_together
from nodes.inlayer.parts import whole_again
from nodes.models.config import UnknownFamily, config_of, weight_shapes
from nodes.models.generate import next_token
from nodes.models.shares import ShareError
from nodes.prepare import weights
from nodes.prepare.tensorfile import TensorFileError
from nodes.runtime.level import Level
from nodes.runtime.optimise import cut_at
from nodes.runtime.rawtensors import DTYPES, raw, view
from nodes.runtime.slicing import Slice, SliceError, cut, one_thread
from nodes.session.caches import Caches
from nodes.slices import BadTensor, GoOn, Kept, Loaded, LoadedPart, LoadError, Run, Weights
from nodes.wire.codec import Tensor

WARM_RUNS = 3  # the first bring code and weights in, and show how much memory is worth keeping


@dataclass(frozen=True, slots=True)
class ModelFile:
    family: str
    weights_file: Path
    optimise: Level = "none"


class Numeric:
    """A `Loader` whose slices compute. `warm`: each runs when it is loaded, so that no request pays for firsts."""

    def __init__(self, models: Mapping[str, ModelFile], *, warm: bool = False) -> None:
        one_thread()
        self._models = models
        self._warm = warm
        self._mapped: dict[str, dict[str, torch.Tensor]] = {}

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        """Raises LoadError when weights are missing or do not fit."""
        family, level = self._models[model].family, self._models[model].optimise
        with _load_errors():
            if received is None:
                piece = cut_at(level, family, self._here(model), first, last)
                weights.populate(piece.weights.values())
            else:
                arrived = _arrived(received, weight_shapes(family, first, last))
                piece = cut_at(level, family, arrived, first, last)
            if self._warm:
                _warm_up(piece, config_of(family).tokens)
            generator = _generator(piece, last == len(config_of(family).units()))
            generates = getattr(config_of(family), "enters", None) is not None
            return Loaded(_runner(piece), piece.digest, generator if generates else None)

    def load_part(self, model: str, block: int, part: str, received: Mapping[str, Tensor] | None) -> LoadedPart:
        """Raises LoadError when there is no such part, or something of it is missing."""
        family = self._models[model].family
        with _load_errors():
            if received is None:
                return load_part(family, cut_out(family, self._here(model), block, part), block, part)
            return load_part(family, put_together(family, received, block, part), block, part)

    def weights(self, model: str, block: int, part: str = "") -> Iterable[tuple[str, Tensor]]:
        """Raises LoadError when they cannot be read."""
        with _load_errors():
            if part:
                found = cut_out(self._models[model].family, self._here(model), block, part)
                yield from ((str(need), raw(tensor.contiguous())) for need, tensor in found.items())
                return
            held = cut(self._models[model].family, self._here(model), block, block + 1).weights
        for name in sorted(held):
            yield name, raw(held[name])

    def keep(self, model: str) -> Kept:
        return Caches(config_of(self._models[model].family).units())

    def _here(self, model: str) -> dict[str, torch.Tensor]:
        if model not in self._mapped:
            files = self._models[model]
            self._mapped[model] = weights.load(files.weights_file, files.family)
        return self._mapped[model]


@contextmanager
def _load_errors() -> Iterator[None]:
    try:
        yield
    except (SliceError, ShareError, UnknownFamily, weights.WeightsError, TensorFileError, BadTensor, OSError) as error:
        raise LoadError(str(error)) from error


def _arrived(received: Weights, declared: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Raises WeightsError unless all are of the declared shapes; copies, which torch allocates and so aligns."""
    found = {name: view(tensor) for block in received.values() for name, tensor in block.items()}
    tensors = whole_again(found)
    weights.check(tensors, declared, "what arrived")
    return {name: torch.empty(tensor.shape).copy_(tensor) for name, tensor in tensors.items()}


def _warm_up(piece: Slice, tokens: int) -> None:
    sizes = [tokens if size == -1 else size for size in piece.input_shape]
    for _ in range(WARM_RUNS):
        piece(torch.zeros(sizes, dtype=DTYPES[piece.input_dtype]))


def _runner(piece: Slice) -> Run:
    def run(tensor: Tensor) -> Tensor:
        try:
            return raw(piece(view(tensor)))
        except SliceError as error:
            raise BadTensor(str(error)) from error

    return run


def _generator(piece: Slice, ends: bool) -> GoOn:
    def go_on(tensor: Tensor, kept: Kept, position: int, tokens: int) -> Tensor:
        assert isinstance(kept, Caches)
        caches = kept.of(piece, position)
        try:
            scores = piece.step(view(tensor), caches) if position else piece(view(tensor), caches)
        except SliceError as error:
            raise BadTensor(str(error)) from error
        if (length := kept.length(piece)) not in {None, position + tokens}:
            raise BadTensor(f"{length} tokens so far, not {position} and {tokens}")
        return raw(torch.tensor([[next_token(scores)]]) if ends else scores)

    return go_on
