"""What each unit of a model costs, by arithmetic alone: no torch, no measurement, the same on every machine.

    profile("vit_b16").units[1].flops                    one pass over the whole input
    step_profile("gpt2", 100).units[1].work.read_bytes   the next token after 100 others

Rules: FLOPs are those of matrix products, 2 per multiply-add (look-ups, norms and means count nothing); bytes are
float32; the working bytes are the most that is alive at once inside a unit, its input and output included. What a
unit moves from and to memory (`Work`) is its weights once, of a table of words a row a token, its input, its output
and the keys and values it keeps; what stays inside a unit is taken to stay in its caches.
Privacy: the input is `raw`, what leaves the first unit or any layer is `feature`, the last output is what the
family says (class scores `public`, an embedding `feature`). `feature` is not secrecy: a patch embedding is a
linear map, whoever holds its weights can undo it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from nodes.costing.arithmetic import FLOAT_BYTES, ITEM_BYTES, Growth, costs, growth
from nodes.models.config import Config, config_of
from nodes.models.encoders import BertConfig
from nodes.models.shapes import OutputClass, Shape, UnitShape
from nodes.slices import StepCost, Work

# Whisper's, which meet only what was heard: when the next tokens come, their work is done
PAST = ("encoder_attn.k_proj", "encoder_attn.v_proj", "model.encoder.layer_norm")


class NotGenerating(ValueError):
    """The family gives one answer in one pass."""

    def __init__(self, family: str) -> None:
        super().__init__(f"{family} generates nothing: it gives one answer in one pass")


@dataclass(frozen=True, slots=True)
class UnitProfile:
    """One pass over the whole input; of a family that generates, the pass that begins a generation."""

    name: str
    flops: int
    weight_bytes: int
    output_bytes: int  # what crosses the cut behind this unit
    working_bytes: int
    output_class: OutputClass
    work: Work
    kv_bytes_per_token: int = 0  # what it keeps of each token of a generation
    kept_bytes: int = 0  # and of a generation as a whole: Whisper's keys and values of what was heard


@dataclass(frozen=True, slots=True)
class ModelProfile:
    family: str
    units: tuple[UnitProfile, ...]
    input_bytes: int
    input_class: OutputClass = "raw"


@dataclass(frozen=True, slots=True)
class UnitStep:
    """The next tokens in one unit; all zeros where the unit has no part in generating."""

    name: str
    work: Work
    output_bytes: int
    kv_bytes_per_token: int
    kept_bytes: int

    @property
    def flops(self) -> int:
        return self.work.flops

    @property
    def read_bytes(self) -> int:
        """Weights, keys and values of all tokens so far, input and output."""
        return self.work.read_bytes


@dataclass(frozen=True, slots=True)
class StepProfile:
    family: str
    units: tuple[UnitStep, ...]  # of the whole model, so that a unit has the same place as in `profile`
    input_bytes: int


@lru_cache
def profile(family: str, tokens: int | None = None) -> ModelProfile:
    """`tokens`: the length of a text, where the input is one (not told: the config's). Raises UnknownFamily."""
    config = config_of(family)
    count = config.tokens if tokens is None or config.input_dtype != "int64" else tokens
    shapes = config.units()
    arithmetic = costs(config, count)
    classes: list[OutputClass] = ["feature"] * (len(shapes) - 1)
    classes.append(config.answer_class)
    input_bytes = _bytes(config.input_shape, count) // FLOAT_BYTES * ITEM_BYTES[config.input_dtype]
    units, entering = list[UnitProfile](), input_bytes
    for i, (shape, (flops, working), output_class) in enumerate(zip(shapes, arithmetic, classes, strict=True)):
        leaving, (per_token, kept) = _bytes(shape.output, count), _kept(shape)
        shared, looked_up = _read(shape.weights, takes_words=i == _words(config))
        work = Work(flops, shared, entering + leaving + _rows(looked_up, count) + count * per_token + kept)
        weights = _weight_bytes(shape)
        units.append(UnitProfile(shape.name, flops, weights, leaving, working, output_class, work, per_token, kept))
        entering = leaving
    return ModelProfile(family, tuple(units), input_bytes)


@lru_cache(maxsize=4096)
def step_profile(family: str, length: int, tokens: int = 1) -> StepProfile:
    """The next `tokens` of a generation of `length` tokens so far. Raises UnknownFamily, NotGenerating."""
    config = config_of(family)
    if not any(growth(config)):
        raise NotGenerating(family)
    units = tuple(
        UnitStep(
            shape.name,
            cost.work(length, tokens) if cost else Work(0, 0, 0),
            _bytes(shape.step, tokens) if shape.step else 0,
            *_kept(shape),
        )
        for shape, cost in zip(config.units(), step_costs(family), strict=True)
    )
    return StepProfile(family, units, tokens * ITEM_BYTES["int64"])


@lru_cache
def step_costs(family: str) -> tuple[StepCost | None, ...]:
    """What the next tokens cost in each unit, however many there are and come before; None: it has no part in them."""
    config = config_of(family)
    found: list[StepCost | None] = []
    entering: Shape = (1, -1)
    for i, (shape, grown) in enumerate(zip(config.units(), growth(config), strict=True)):
        if grown is None or shape.step is None:
            found.append(None)
            continue
        item_bytes = ITEM_BYTES["int64"] if i == _words(config) else FLOAT_BYTES
        found.append(_step_cost(shape, grown, entering, item_bytes, takes_words=i == _words(config)))
        entering = shape.step
    return tuple(found)


def _step_cost(shape: UnitShape, grown: Growth, entering: Shape, item_bytes: int, *, takes_words: bool) -> StepCost:
    assert shape.step is not None
    present = {name: weight for name, weight in shape.weights.items() if not any(past in name for past in PAST)}
    shared, tables = _read(present, takes_words=takes_words)
    per_token, kept = _kept(shape)
    each = item_bytes * prod(size for size in entering if size != -1) + sum(row for _, row in tables)
    scores = -1 not in shape.step
    leaving = _bytes(shape.step, 1)
    return StepCost(
        once_flops=grown.once,
        token_flops=grown.token,
        pair_flops=grown.pair,
        shared_bytes=shared,
        once_bytes=kept + (leaving if scores else 0),
        token_bytes=each + (0 if scores else leaving),
        kv_bytes_per_token=per_token,
    )


def _words(config: Config) -> int | None:
    """The unit that looks words up."""
    enters: int | None = getattr(config, "enters", None)
    return 0 if isinstance(config, BertConfig) else enters


def _read(weights: Mapping[str, Shape], *, takes_words: bool) -> tuple[int, list[tuple[int, int]]]:
    """Bytes of the weights that are read whole; rows and bytes of a row of each table that words are looked up in."""
    tables = [shape for shape in weights.values() if takes_words and len(shape) == 2]
    whole = sum(prod(shape) for shape in weights.values() if shape not in tables)
    return FLOAT_BYTES * whole, [(rows, FLOAT_BYTES * width) for rows, width in tables]


def _rows(tables: list[tuple[int, int]], tokens: int) -> int:
    return sum(min(rows, tokens) * row_bytes for rows, row_bytes in tables)


def _kept(shape: UnitShape) -> tuple[int, int]:
    """Bytes that a generation keeps in a unit: of each token, and of the whole."""
    kept = (shape.keeps or {}).values()
    grows = sum(prod(size for size in held if size != -1) for held in kept if -1 in held)
    return FLOAT_BYTES * grows, FLOAT_BYTES * sum(prod(held) for held in kept if -1 not in held)


def _weight_bytes(shape: UnitShape) -> int:
    return FLOAT_BYTES * sum(prod(s) for s in shape.weights.values())


def _bytes(shape: tuple[int, ...], tokens: int) -> int:
    return FLOAT_BYTES * prod(tokens if size == -1 else size for size in shape)
