"""float32 values with fewer bits on the wire: fp16, or int8 with a scale a row, and what that costs in exactness.

    sent = quantise(tensor, choose("auto", tensor.size_bytes, rate_bps))
    sent.tensor.wire, sent.relative_error        restore(sent.tensor) is what the receiver computes with

Rules: only float32 tensors change; one that fp16 cannot hold, that is not finite, or that would not get smaller goes as
it is; the error is measured on every tensor, never estimated. A row is the last dimension; int8 takes the nearest of
255 steps from minus to plus the row's largest magnitude; a row below 1e-36 may arrive as zeros. The bytes: for int8 the
scales of all rows, then the values. Pure; NumPy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nodes.wire.codec import SCALE_BYTES, FrameError, Tensor, wire_bytes

Wire = Literal["fp32", "fp16", "int8"]
Wish = Literal["fp32", "fp16", "int8", "auto"]
WIRES: tuple[Wire, ...] = get_args(Wire)
LARGEST: Mapping[Wire, float] = MappingProxyType({"fp16": 65504.0, "int8": 3e38})  # 127 steps of a row stay finite
STEPS = np.float32(127)
SLOWEST_BPS = 8_000  # a rate that is not known is 0: nothing is chosen on it
# Of both ends together, nanoseconds a byte of float32, measured at 512 KiB (benchmarks/transport.py).
TIMES_NS: Mapping[Wire, float] = MappingProxyType({"fp32": 0.0, "fp16": 1.8, "int8": 0.6})

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Quantised:
    tensor: Tensor
    relative_error: float  # |x - restored| / |x| over the tensor; 0 for what goes as it is


def choose(wish: Wish, size_bytes: int, rate_bps: int) -> Wire:
    """What arrives first over a way of `rate_bps` (0: unknown), the time to quantise and restore included."""
    if wish != "auto":
        return wish
    if rate_bps < SLOWEST_BPS:
        return "fp32"
    shares = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}
    return min(WIRES, key=lambda wire: size_bytes * (shares[wire] * 8e9 / rate_bps + TIMES_NS[wire]))


def quantise(tensor: Tensor, wire: Wire) -> Quantised:
    """The tensor as it travels."""
    smaller = wire != "fp32" and tensor.dtype == "float32" and wire_bytes(tensor.shape, wire) < tensor.size_bytes
    if not smaller or tensor.wire:
        return Quantised(tensor, 0.0)
    values = _rows(np.frombuffer(tensor.data, "<f4"), tensor.shape)
    largest = np.maximum(values.max(-1, keepdims=True), -values.min(-1, keepdims=True))  # NaN stays NaN
    highest = float(largest.max())
    if not highest <= LARGEST[wire]:  # NaN neither
        return Quantised(tensor, 0.0)
    packed, restored = _fp16(values) if wire == "fp16" else _int8(values, largest)
    restored -= values
    return Quantised(Tensor("float32", tensor.shape, packed, wire), _ratio(restored, values))


def restore(tensor: Tensor) -> Tensor:
    """The inverse, but for the error; raises `FrameError` for scales that are none."""
    if not tensor.wire:
        return tensor
    if tensor.wire == "fp16":
        return _tensor(np.frombuffer(tensor.data, "<f2").astype("<f4"), tensor.shape)
    rows = prod(tensor.shape[:-1])
    scales = np.frombuffer(tensor.data, "<f4", rows)
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise FrameError("a scale of the rows is not a finite number of 0 or more")
    values = _rows(np.frombuffer(tensor.data, "i1", offset=rows * SCALE_BYTES), tensor.shape)
    return _tensor(values * scales[:, None], tensor.shape)


def relative_error(found: Tensor, right: Tensor) -> float | None:
    """|found - right| / |right| of two float32 tensors; None where there is none: other shapes, or not finite."""
    if (found.dtype, found.shape) != (right.dtype, right.shape) or found.dtype != "float32":
        return None
    a, b = (np.frombuffer(one.data, "<f4").astype(np.float64) for one in (found, right))
    with np.errstate(all="ignore"):
        error = _ratio(a - b, b)
    return error if np.isfinite(error) else None


def _fp16(values: Floats) -> tuple[memoryview, Floats]:
    """The bytes, and what the receiver will make of them."""
    halves = values.astype("<f2")
    return halves.data.cast("B"), halves.astype("<f4")


def _int8(values: Floats, largest: Floats) -> tuple[bytes, Floats]:
    scales = (largest / STEPS).astype("<f4")
    divisors = np.where(scales > 0, scales, np.float32(1))
    steps = np.divide(values, divisors)
    np.rint(steps, out=steps)
    np.clip(steps, -STEPS, STEPS, out=steps)  # of a scale that is subnormal
    small = steps.astype("i1")
    steps *= scales
    return b"".join((scales.tobytes(), small.data.cast("B"))), steps


def _rows(flat: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return flat.reshape(prod(shape[:-1]), -1)


def _tensor(values: Floats, shape: tuple[int, ...]) -> Tensor:
    return Tensor("float32", shape, np.ascontiguousarray(values, "<f4").reshape(-1).data.cast("B"))


def _ratio(difference: npt.NDArray[Any], values: npt.NDArray[Any]) -> float:
    """Of the Euclidean norms; 0 of nothing by nothing."""
    top, bottom = _norm(difference), _norm(values)
    if bottom == 0.0:
        return 0.0 if top == 0.0 else float("inf")
    return top / bottom


def _norm(values: npt.NDArray[Any]) -> float:
    square = float(np.vdot(values, values))
    if not 1e-30 < square < 1e38:  # the squares do not fit into float32
        square = float(np.square(values, dtype=np.float64).sum())
    return sqrt(square)
