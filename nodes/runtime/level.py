"""How a slice is made faster before it runs (nodes/runtime/optimise.py). No torch."""

from typing import Literal, get_args

Level = Literal["none", "torchscript", "int8"]
LEVELS: tuple[Level, ...] = get_args(Level)
