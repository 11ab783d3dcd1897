"""What an adapter gives: an ordered chain of units, each a function of the weights and one tensor.

Rules: a unit holds no weights, so those of a mapped file are used where they lie; a unit never writes into the
tensor it is given; the output of unit i is the input of unit i + 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nodes.models.config import Config, Shape

Weights = Mapping[str, torch.Tensor]
Step = Callable[[Weights, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    weights: Mapping[str, Shape]
    run: Step
    output_shape: Shape  # float32; -1: the number of tokens


@dataclass(frozen=True, slots=True)
class Chain:
    family: str
    units: tuple[Unit, ...]
    input_shape: Shape
    input_dtype: str


def assemble(config: Config, steps: Sequence[Step]) -> Chain:
    """Joins the units a config declares with the functions that compute them, in order."""
    units = tuple(
        Unit(shape.name, shape.weights, step, shape.output) for shape, step in zip(config.units(), steps, strict=True)
    )
    return Chain(config.family, units, config.input_shape, config.input_dtype)
