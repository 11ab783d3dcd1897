"""A model of one's own in slices: `from nodes import slice_model`.

    first, second = slice_model(module, example, parts=2)
    assert torch.equal(second(first(example)), module(example))

Rules: the module takes one tensor and gives one, of the example's shape every time; torch.export finds what it
computes, and where it can be cut (nodes.models.traced). What is cut is compared with the module once, bit for bit,
before it is given out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.utils.flop_counter import FlopCounterMode

from nodes.models.program import Program
from nodes.models.shapes import Shape
from nodes.models.traced import CannotTrace, Trace
from nodes.ownslice import Slice


def _attention(q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    """FLOPs of scores and their mix of the values, by the shapes (B, h, T, d), which torch counts on other devices."""
    batch, heads, tokens, wide = q
    return 2 * batch * heads * tokens * k[2] * (wide + v[3])


ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


class CannotCut(ValueError):
    """The module cannot be cut so; the message says where and why."""


@dataclass(frozen=True, slots=True)
class CutPoint:
    """Between two units of a module; `number` of them lie before it."""

    number: int
    flops: int  # of all before it, 2 a multiply-add, of matrix products and convolutions
    size_bytes: int  # of what crosses
    shape: tuple[int, ...]


def cut_points(module: torch.nn.Module, example: torch.Tensor) -> list[CutPoint]:
    """Where a module can be cut, in order. Raises CannotCut."""
    trace = _trace(module, example)
    slices = _slices(trace, trace.places(), example)
    before = accumulate(part.flops for part in slices)
    return [
        CutPoint(i, flops, part.output_bytes, part.output_shape)
        for i, (part, flops) in enumerate(zip(slices[:-1], before, strict=False), start=1)
    ]


def slice_model(
    module: torch.nn.Module,
    example: torch.Tensor,
    *,
    cuts: Sequence[int] | None = None,
    parts: int | None = None,
    at: str | Sequence[str] | None = None,
) -> list[Slice]:
    """Slices that in a row give the bits of the module; the module is put into eval mode.

    `cuts`: numbers of `cut_points`; `parts`: so many, the largest with as few FLOPs as can be; `at`: before these
    submodules, "layers.3"; nothing: everywhere. Raises CannotCut.
    """
    if sum(asked is not None for asked in (cuts, parts, at)) > 1:
        raise CannotCut("cuts, parts and at exclude each other; give one of them")
    trace = _trace(module, example)
    if at is not None:
        ends = [*sorted({_before(trace, name) for name in ([at] if isinstance(at, str) else at)}), trace.last]
    else:
        places = trace.places()
        ends = _chosen(trace, places, cuts, parts, example)
    slices = _slices(trace, ends, example)
    with torch.inference_mode():
        expected, x = module(example), example
        for part in slices:
            x = part(x)
    if not torch.equal(x, expected):
        raise CannotCut(f"{trace.family}: its slices give other bits than itself: is there chance in it, or a state?")
    return slices


def balanced(weights: Sequence[int], parts: int) -> list[int]:
    """Where to cut a row of weights, so that the heaviest of so many parts is as light as can be. Pure.

    By the least limit under which filling the parts from the left needs no more of them.
    """
    low, high = max(weights), sum(weights)
    while low < high:
        limit = (low + high) // 2
        low, high = (low, limit) if len(_filled(weights, limit)) < parts else (limit + 1, high)
    cuts = _filled(weights, low)
    free = [i for i in range(1, len(weights)) if i not in cuts]
    return sorted([*cuts, *free[: parts - 1 - len(cuts)]])


def _filled(weights: Sequence[int], limit: int) -> list[int]:
    cuts, held = [], 0
    for i, weight in enumerate(weights):
        if i and held + weight > limit:
            cuts.append(i)
            held = 0
        held += weight
    return cuts


def _trace(module: torch.nn.Module, example: torch.Tensor) -> Trace:
    try:
        return Trace.of(type(module).__name__, module, example)
    except CannotTrace as error:
        raise CannotCut(str(error)) from error


def _before(trace: Trace, name: str) -> int:
    try:
        return trace.before(name)
    except CannotTrace as error:
        raise CannotCut(str(error)) from error


def _chosen(
    trace: Trace, places: list[int], cuts: Sequence[int] | None, parts: int | None, example: torch.Tensor
) -> list[int]:
    """The ends of the slices among the places."""
    if len(places) < 2 and (cuts or (parts or 0) > 1):
        raise CannotCut(f"{trace.family} cannot be cut anywhere: {trace.uncut()}")
    if cuts is None and parts is None:
        return places
    if parts is not None:
        if not 1 <= parts <= len(places):
            raise CannotCut(f"{trace.family}: {parts} parts of {len(places)} units; 1 to {len(places)} are right")
        cuts = balanced([part.flops for part in _slices(trace, places, example)], parts)
    wrong = [cut for cut in cuts or () if not 1 <= cut < len(places)]
    if wrong:
        raise CannotCut(f"{trace.family}: cut {wrong[0]} of {len(places)} units; 1 to {len(places) - 1} are right")
    return [*(places[cut - 1] for cut in sorted(set(cuts or ()))), places[-1]]


def _slices(trace: Trace, ends: Sequence[int], example: torch.Tensor) -> list[Slice]:
    try:
        chain = trace.chain(ends)
    except CannotTrace as error:
        raise CannotCut(str(error)) from error
    held, found, x = trace.weights(), [], example
    shape, dtype = chain.input_shape, chain.input_dtype
    for i, unit in enumerate(chain.units):
        assert isinstance(unit.run, Program)
        weights = {name: held[name] for name in unit.weights}
        with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            x = unit(weights, x)
        flops = counter.get_total_flops()
        found.append(
            Slice(chain.family, i, len(chain.units), flops, shape, dtype, unit.output_shape, unit.run, weights)
        )
        shape, dtype = unit.output_shape, "float32"
    return found
