"""The words in which a family says what it is made of: units, their weights, what they give and keep. No torch.

Rules: a model is a chain of units, each takes one tensor and gives one tensor, so whatever the cut, one tensor
crosses it; where two things must cross they lie behind one another in dimension 1 and `parts` names them. The batch
is always 1. -1 in a shape is the number of tokens, which a text brings with it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Shape = tuple[int, ...]
CUT = re.compile(r"(.+)\[(\d):(\d+)-(\d+)\]")
OutputClass = Literal["raw", "feature", "public"]


@dataclass(frozen=True, slots=True)
class UnitShape:
    name: str
    weights: Mapping[str, Shape]
    output: Shape  # float32, of the whole input
    step: Shape | None = None  # float32, of the next tokens alone; None: has no part in generating
    keeps: Mapping[str, Shape] | None = None  # of a generation, by name, float32; {}: its position only
    parts: Mapping[str, int] = field(default_factory=dict)  # of the output along dimension 1, in order; {}: one


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a weight: begin..end-1 of one dimension."""

    weight: str
    dim: int
    begin: int
    end: int

    def __str__(self) -> str:
        """What it is called on the way to another node; `cut_of` is the inverse."""
        return f"{self.weight}[{self.dim}:{self.begin}-{self.end}]"


def cut_of(name: str) -> Cut | None:
    """None: the name is that of a whole weight."""
    found = CUT.fullmatch(name)
    return Cut(found[1], int(found[2]), int(found[3]), int(found[4])) if found else None


def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> dict[str, Shape]:
    weight: dict[str, Shape] = {f"{name}.weight": (outputs, inputs)}
    return weight | {f"{name}.bias": (outputs,)} if bias else weight


def norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
