"""A model of somebody's own as data: what each unit holds, gives, costs and computes. No torch.

`nodes.prepare.own` makes the description, a text of JSON; `nodes.models.own` runs it. A process knows the model once
it was told of it (`nodes.models.config.declare`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodes.models.shapes import OutputClass, Shape, UnitShape


@dataclass(frozen=True, slots=True)
class DescribedUnit:
    shape: UnitShape
    flops: int  # 2 a multiply-add, of matrix products, convolutions and attention
    working_bytes: int  # the most that is alive at once, input and output included
    program: Mapping[str, Any]  # nodes.models.program.described
    fixed: Mapping[str, tuple[str, list[int], str]]  # constants: type, shape, raw bytes as base64


@dataclass(frozen=True, slots=True)
class DescribedConfig:
    """What `nodes.models.config` has of every family; its answers are taken to tell of the inputs: `feature`."""

    family: str
    input_shape: Shape
    input_dtype: str
    made: tuple[DescribedUnit, ...]
    spread: float = 0.0  # none: its weights are its own
    tokens: int = 1
    answer_class: OutputClass = "feature"

    def units(self) -> tuple[UnitShape, ...]:
        return tuple(unit.shape for unit in self.made)


def described_config(text: str) -> DescribedConfig:
    """The same description has the same family name everywhere. Trusts its input, which the project has written."""
    said = json.loads(text)
    dtype, shape = said["input"]
    family = f"own-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return DescribedConfig(family, tuple(shape), dtype, tuple(map(_unit, said["units"])))


def _unit(said: Mapping[str, Any]) -> DescribedUnit:
    weights: dict[str, Shape] = {name: tuple(shape) for name, shape in said["weights"].items()}
    shape = UnitShape(said["name"], weights, tuple(said["output"]))
    return DescribedUnit(shape, said["flops"], said["working_bytes"], said["program"], said["fixed"])
