"""What an adapter gives: an ordered chain of units, each a function of the weights and one tensor.

Rules: a unit holds no weights, so those of a mapped file are used where they lie; a unit never writes into the
tensor it is given; the output of unit i is the input of unit i + 1. A unit that takes part in generating has a cache
of each generation, which it is given: with it, the same function takes the next tokens alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nodes.models.cache import Cache
from nodes.models.config import Config
from nodes.models.shapes import Shape, UnitShape

Weights = Mapping[str, torch.Tensor]
Step = Callable[..., torch.Tensor]  # of Weights, the tensor, and Cache | None if it keeps something


@dataclass(frozen=True, slots=True)
class Unit:
    shape: UnitShape
    run: Step

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def weights(self) -> Mapping[str, Shape]:
        return self.shape.weights

    @property
    def output_shape(self) -> Shape:
        return self.shape.output

    def __call__(self, weights: Weights, x: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        return self.run(weights, x) if self.shape.keeps is None else self.run(weights, x, cache)


@dataclass(frozen=True, slots=True)
class Chain:
    family: str
    units: tuple[Unit, ...]
    input_shape: Shape
    input_dtype: str
    enters: int | None  # the unit that takes the next tokens of a generation; None: the family generates nothing


def assemble(config: Config, steps: Sequence[Step]) -> Chain:
    """Joins the units a config declares with the functions that compute them, in order."""
    units = tuple(Unit(shape, step) for shape, step in zip(config.units(), steps, strict=True))
    return Chain(config.family, units, config.input_shape, config.input_dtype, getattr(config, "enters", None))
