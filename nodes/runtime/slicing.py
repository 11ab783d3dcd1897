"""A slice: some units of a model in a row, with their weights, as one function of one tensor.

A family that generates runs once over the whole input, `slice(x, caches)`, then over the next tokens alone,
`slice.step(tokens, caches)`; the caches, one of each unit that keeps something, are the caller's.

Rules: cutting a model never changes its answers, bit for bit. Therefore float32, batch 1, one thread (`one_thread`),
and operands that lie as they would in the unsplit model: at a multiple of 64 bytes.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from nodes.models import chain_of
from nodes.models.cache import Cache
from nodes.models.chain import Chain, Unit
from nodes.models.shapes import Shape
from nodes.prepare.tensorfile import ALIGNMENT
from nodes.prepare.weights import digest


class SliceError(ValueError):
    """The units, the weights or the tensor do not fit; the message says what would."""


def one_thread() -> None:
    """Once in every process that computes: one thread, no threads waiting for work, one order of addition."""
    torch.set_num_threads(1)


class Slice:
    """The units first..last-1 of a model, ready to run; holds the weights of these units and no others."""

    def __init__(self, chain: Chain, first: int, last: int, weights: Mapping[str, torch.Tensor]) -> None:
        if not 0 <= first < last <= len(chain.units):
            raise SliceError(f"units {first}..{last}: {chain.family} has 0..{len(chain.units)}, and one at least")
        self.family, self.first, self.last = chain.family, first, last
        self._units = chain.units[first:last]
        names = [name for unit in self._units for name in unit.weights]
        missing = [name for name in names if name not in weights]
        if missing:
            raise SliceError(f"{len(missing)} weights of units {first}..{last} are missing, the first is {missing[0]}")
        self.weights = {name: weights[name] for name in names}
        before = chain.units[first - 1] if first else None
        self.input_shape: Shape = before.output_shape if before else chain.input_shape
        self.input_dtype = "float32" if before else chain.input_dtype
        self.output_shape: Shape = self._units[-1].output_shape
        enters = len(chain.units) if chain.enters is None else chain.enters
        self._stepping = chain.units[max(first, enters) : last]  # those that take part in generating
        self._step_dtype = "float32" if first > enters else "int64"
        self._step_shape: Shape = (chain.units[first - 1].shape.step if first > enters else None) or (1, -1)

    def __call__(self, x: torch.Tensor, caches: Mapping[str, Cache] | None = None) -> torch.Tensor:
        """One tensor in, one out; shapes as `input_shape` and `output_shape`. Raises SliceError if it does not fit.

        With `caches`, fresh ones, a generation begins.
        """
        self._check(x, self.input_dtype, self.input_shape)
        return self._run(self._units, x, caches or {})

    def step(self, x: torch.Tensor, caches: Mapping[str, Cache]) -> torch.Tensor:
        """The next tokens of a generation: int64 (1, T) where tokens enter the model, else as the slice before gives.

        Raises SliceError if it does not fit, or when these units have no part in generating.
        """
        if not self.generates:
            raise SliceError(f"{self.family} {self.first}..{self.last} has no part in generating")
        self._check(x, self._step_dtype, self._step_shape)
        return self._run(self._stepping, x, caches)

    @property
    def generates(self) -> bool:
        """Whether any of its units takes part when tokens are generated."""
        return bool(self._stepping)

    def caches(self) -> dict[str, Cache]:
        """Fresh ones for a generation, by the name of the unit."""
        return {unit.name: Cache() for unit in self._units if unit.shape.keeps is not None}

    def _run(self, units: Sequence[Unit], x: torch.Tensor, caches: Mapping[str, Cache]) -> torch.Tensor:
        with torch.inference_mode():
            if x.data_ptr() % ALIGNMENT:
                x = x.clone()
            try:
                for unit in units:
                    x = unit(self.weights, x, caches.get(unit.name))
            except (IndexError, RuntimeError) as error:  # a token outside the vocabulary, a sentence too long
                raise SliceError(f"{self.family} {self.first}..{self.last} cannot take this: {error}") from error
            return x.contiguous()

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex over the raw bytes of the weights in name order; touches every page of them."""
        return digest(self.weights)

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.weights.values())

    def _check(self, x: torch.Tensor, dtype: str, shape: Shape) -> None:
        fits = x.dim() == len(shape) and all(
            want in {got, -1} and got > 0 for want, got in zip(shape, x.shape, strict=True)
        )
        if not fits or x.dtype != getattr(torch, dtype) or not x.is_contiguous():
            raise SliceError(
                f"{self.family} {self.first}..{self.last} takes contiguous {dtype} {shape},"
                f" not {x.dtype} {tuple(x.shape)}"
            )


def cut(family: str, weights: Mapping[str, torch.Tensor], first: int = 0, last: int | None = None) -> Slice:
    """The slice of units first..last-1; the whole model when not told. Raises SliceError, UnknownFamily."""
    chain = chain_of(family)
    return Slice(chain, first, len(chain.units) if last is None else last, weights)
