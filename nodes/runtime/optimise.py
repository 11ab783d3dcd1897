"""Slices made faster as the deployer of AMP4EC (paper 001) offers it: TorchScript, or linear layers of eight bits.

    torchscript  the slice, traced at its first input: the same operators in the same order, no Python between them
    int8         dynamic quantisation: of each linear layer the weights as int8 with a scale a row, made once; what
                 enters the layer as integers of 7 bits (8 overflow on older processors), with a range found each time

Rules: a level changes neither names nor bytes of the weights, so what travels, and its digest, stay. The right answers
are those of the unsplit model at the same level; `off_plain` says how far these are off. What enters a layer lies
whole on one node, so no cut changes its range, nor an answer by a bit.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from nodes.models import chain_of
from nodes.models.cache import Cache
from nodes.models.chain import Unit, Weights
from nodes.runtime.level import Level
from nodes.runtime.slicing import Slice, SliceError

STEPS = 127.0  # of int8, from 0 to the largest magnitude of a row


def cut_at(level: Level, family: str, weights: Weights, first: int = 0, last: int | None = None) -> Slice:
    """`nodes.runtime.slicing.cut` at a level. Raises SliceError where the level is not for the family, and as `cut`."""
    chain = chain_of(family)
    if level != "none" and chain.enters is not None:
        raise SliceError(f"{family} generates text: its slices run as they are, not as {level}")
    if level == "torchscript" and -1 in chain.input_shape:
        raise SliceError(f"{family} takes inputs of any length: a trace is of one")
    return _SLICES[level](chain, first, len(chain.units) if last is None else last, weights)


def off_plain(found: torch.Tensor, plain: torch.Tensor) -> float:
    """|found - plain| / |plain|, of the Euclidean norms."""
    return float((found.double() - plain.double()).norm() / plain.double().norm())


class _Traced(Slice):
    _traced: Callable[[torch.Tensor], torch.Tensor] | None = None

    def _run(self, units: Sequence[Unit], x: torch.Tensor, caches: Mapping[str, Cache]) -> torch.Tensor:
        return super()._run((Unit(units[-1].shape, self._whole),), x, caches)

    def _whole(self, weights: Weights, x: torch.Tensor) -> torch.Tensor:
        def plain(x: torch.Tensor) -> torch.Tensor:
            for unit in self._units:
                x = unit(weights, x)
            return x

        if self._traced is None:
            with _quiet():
                self._traced = torch.jit.trace(plain, (x,), check_trace=False)  # type: ignore[no-untyped-call]
        return self._traced(x)


class _Int8(Slice):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._packed: dict[int, Any] = {}

    def _run(self, units: Sequence[Unit], x: torch.Tensor, caches: Mapping[str, Cache]) -> torch.Tensor:
        with EightBits(self._packed):
            return super()._run(units, x, caches)


class EightBits(TorchFunctionMode):
    """Within the block every `F.linear` is one of eight bits; `packed`: by where the weights lie, made when missing."""

    def __init__(self, packed: dict[int, Any]) -> None:
        super().__init__()
        self._packed = packed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.linear:
            return func(*args, **(kwargs or {}))
        x, weight, bias = args
        at = weight.data_ptr()
        if at not in self._packed:
            self._packed[at] = _packed(weight, bias)
        return torch.ops.quantized.linear_dynamic(x, self._packed[at], reduce_range=True)


def _packed(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    scales = weight.abs().amax(dim=1).double().clamp_min(1e-30) / STEPS
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    with _quiet(), torch.inference_mode(False):
        rows = torch.quantize_per_channel(weight.clone(), scales.clone(), zeros.clone(), 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(rows, bias)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch wants to be rid of both, which the paper names; the shapes in a trace are constants, as they should."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*this value will be treated as a constant.*")
        warnings.filterwarnings("ignore", message=".*quantize_per_channel.*deprecated.*")
        yield


_SLICES: dict[Level, type[Slice]] = {"none": Slice, "torchscript": _Traced, "int8": _Int8}
