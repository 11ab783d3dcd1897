"""What an agent needs of the models: costs of blocks, and something that makes slices runnable and reads weights.

`Loader` is the border to torch: an agent sees tensors as bytes only. `Sized` is the loader of runs without numerics:
right sizes, no values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Protocol

from nodes.codec import ITEM_BYTES, Tensor

Weights = Mapping[int, Mapping[str, Tensor]]  # block -> name -> tensor


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What the modelled device needs to know of a block."""

    flops: int
    weight_bytes: int
    working_bytes: int
    output_dtype: str
    output_shape: tuple[int, ...]


Costs = Mapping[str, tuple[BlockCost, ...]]  # by model


class Run(Protocol):
    def __call__(self, tensor: Tensor) -> Tensor:
        """Raises `BadTensor` for an input that is not what the slice takes."""
        ...


class BadTensor(Exception):
    """The input of a slice has the wrong type, shape or values."""


class LoadError(Exception):
    """A slice could not be made from its weights."""


@dataclass(frozen=True, slots=True)
class Loaded:
    run: Run
    digest: str  # of the weights and the blocks: the same slice has the same digest on every node


class Loader(Protocol):
    """Both raise `LoadError`."""

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        """A runnable slice, from weights that came over the network or (None) from those that lie on the node."""
        ...

    def weights(self, model: str, block: int) -> Iterable[tuple[str, Tensor]]:
        """The raw tensors of one block by name, for another node."""
        ...


class Sized:
    """Zeros of the right size."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        del received  # values do not matter
        end = self._costs[model][last - 1]
        size_bytes = prod(end.output_shape) * ITEM_BYTES[end.output_dtype]
        answer = Tensor(end.output_dtype, end.output_shape, bytes(size_bytes))

        def run(tensor: Tensor) -> Tensor:
            del tensor
            return answer

        return Loaded(run, sha256(f"{model}[{first}:{last}]".encode()).hexdigest())

    def weights(self, model: str, block: int) -> Iterable[tuple[str, Tensor]]:
        size_bytes = self._costs[model][block].weight_bytes
        yield "zeros", Tensor("uint8", (size_bytes,), bytes(size_bytes))
