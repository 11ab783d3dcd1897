"""What each unit of a model costs, by arithmetic alone: no torch, no measurement, the same on every machine.

Rules: FLOPs are those of matrix products, 2 per multiply-add (look-ups, norms and means count nothing); bytes are
float32; the working bytes are the most that is alive at once inside a unit, its input and output included.
Privacy: the input is `raw`, what leaves the first unit or any layer is `feature`, the last output is what the
family says (class scores `public`, an embedding `feature`). `feature` is not secrecy: a patch embedding is a
linear map, whoever holds its weights can undo it.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from nodes.arithmetic import FLOAT_BYTES, ITEM_BYTES, costs
from nodes.models.config import config_of
from nodes.models.shapes import OutputClass, UnitShape


@dataclass(frozen=True, slots=True)
class UnitProfile:
    name: str
    flops: int
    weight_bytes: int
    output_bytes: int  # what crosses the cut behind this unit
    working_bytes: int
    output_class: OutputClass


@dataclass(frozen=True, slots=True)
class ModelProfile:
    family: str
    units: tuple[UnitProfile, ...]
    input_bytes: int
    input_class: OutputClass = "raw"


@lru_cache
def profile(family: str, tokens: int | None = None) -> ModelProfile:
    """`tokens`: the length of a text, where the input is one (not told: the config's). Raises UnknownFamily."""
    config = config_of(family)
    count = config.tokens if tokens is None else tokens
    shapes = config.units()
    arithmetic = costs(config, count)
    classes: list[OutputClass] = ["feature"] * (len(shapes) - 1)
    classes.append(config.answer_class)
    units = tuple(
        UnitProfile(shape.name, flops, _weight_bytes(shape), _bytes(shape.output, count), working, output_class)
        for shape, (flops, working), output_class in zip(shapes, arithmetic, classes, strict=True)
    )
    items = _bytes(config.input_shape, count) // FLOAT_BYTES
    return ModelProfile(family, units, items * ITEM_BYTES[config.input_dtype])


def _weight_bytes(shape: UnitShape) -> int:
    return FLOAT_BYTES * sum(prod(s) for s in shape.weights.values())


def _bytes(shape: tuple[int, ...], tokens: int) -> int:
    return FLOAT_BYTES * prod(tokens if size == -1 else size for size in shape)
