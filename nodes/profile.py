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

from nodes.models.config import MiniLmConfig, OutputClass, UnitShape, VitConfig, config_of

FLOAT_BYTES = 4
ITEM_BYTES = {"uint8": 1, "int64": 8, "float32": FLOAT_BYTES}


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
    """`tokens`: the length of a sentence (MiniLM; its default is the config's). Raises UnknownFamily."""
    config = config_of(family)
    count = config.tokens if tokens is None or isinstance(config, VitConfig) else tokens
    shapes = config.units()
    arithmetic = _vit(config) if isinstance(config, VitConfig) else _minilm(config, count)
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


def _layer(tokens: int, width: int, hidden: int) -> tuple[int, int]:
    """FLOPs and working bytes of an encoder layer."""
    projections = 4 * 2 * tokens * width * width  # q, k, v, o
    attention = 2 * 2 * tokens * tokens * width  # scores, and their mix of the values
    feed_forward = 2 * 2 * tokens * width * hidden
    attending = 6 * tokens * width  # input, its norm, q, k, v and the mix
    feeding = 3 * tokens * width + 2 * tokens * hidden  # input, residual, its norm; what goes into the GELU and out
    return projections + attention + feed_forward, FLOAT_BYTES * max(attending, feeding)


def _vit(c: VitConfig) -> list[tuple[int, int]]:
    patches, pixels = c.tokens - 1, 3 * c.image * c.image
    embed_flops = 2 * pixels * c.width  # each pixel value meets `width` weights once
    embed_working = pixels + FLOAT_BYTES * max(2 * pixels, pixels + (patches + c.tokens) * c.width)
    head_flops = 2 * c.width * c.classes
    head_working = FLOAT_BYTES * (c.tokens * c.width + c.width + c.classes)
    layers = [_layer(c.tokens, c.width, c.hidden)] * c.layers
    return [(embed_flops, embed_working), *layers, (head_flops, head_working)]


def _minilm(c: MiniLmConfig, tokens: int) -> list[tuple[int, int]]:
    embed_working = ITEM_BYTES["int64"] * tokens + FLOAT_BYTES * 2 * tokens * c.width
    pool_working = FLOAT_BYTES * (tokens + 2) * c.width
    layers = [_layer(tokens, c.width, c.hidden)] * c.layers
    return [(0, embed_working), *layers, (0, pool_working)]
