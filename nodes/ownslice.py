"""A slice of somebody's own module: it runs, knows what it costs, and goes into a file and comes out of it.

Rules: the file is safetensors, its note the description: operators of torch's own by their names, so it is data and
never code (nodes.models.program). The tensor that comes in has the shape of the example it was traced with.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch

from nodes.models.chain import Chain, Unit
from nodes.models.program import Program, constant, constant_raw, described, program_of
from nodes.models.shapes import Shape, UnitShape
from nodes.prepare import tensorfile
from nodes.runtime import slicing

FORMAT = "slice 1"
FIXED = "fixed/"  # before the names of constants, which are of any type


class NotASlice(ValueError):
    """The file holds no slice, or a damaged one; the message says what is wrong with it."""


@dataclass(frozen=True)
class Slice:
    """Part `index` of `count` of a module, with its own weights and no others."""

    model: str
    index: int
    count: int
    flops: int  # 2 a multiply-add, of matrix products and convolutions
    input_shape: Shape
    input_dtype: str
    output_shape: Shape  # float32
    program: Program
    weights: Mapping[str, torch.Tensor]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """One tensor in, one out. Raises nodes.runtime.slicing.SliceError if it does not fit."""
        return self._run(x)

    @property
    def input_bytes(self) -> int:
        """What crosses the cut before it."""
        return prod(self.input_shape) * getattr(torch, self.input_dtype).itemsize  # type: ignore[no-any-return]

    @property
    def output_bytes(self) -> int:
        """What crosses the cut behind it."""
        return prod(self.output_shape) * torch.float32.itemsize

    @property
    def weight_bytes(self) -> int:
        return self._run.weight_bytes

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the raw bytes of the weights in name order."""
        return self._run.digest

    @cached_property
    def _run(self) -> slicing.Slice:
        shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in self.weights.items()}
        unit = Unit(UnitShape(f"part{self.index}", shapes, self.output_shape), self.program)
        return slicing.Slice(Chain(self.model, (unit,), self.input_shape, self.input_dtype, None), 0, 1, self.weights)

    def save(self, path: str | Path) -> None:
        """Raises BadProgram when an operator cannot be written down, OSError."""
        tensors: dict[str, tensorfile.Array] = {name: tensor.numpy() for name, tensor in self.weights.items()}
        constants = {name: constant_raw(tensor) for name, tensor in self.program.fixed.items()}
        tensors |= {FIXED + name: raw for name, (_, _, raw) in constants.items()}
        description = {
            "part": [self.model, self.index, self.count, self.flops],
            "input": [self.input_dtype, self.input_shape],
            "output": self.output_shape,
            "weights": {name: tuple(tensor.shape) for name, tensor in self.weights.items()},
            "fixed": {name: [dtype, shape] for name, (dtype, shape, _) in constants.items()},
            "program": described(self.program),
        }
        tensorfile.write(Path(path), tensors, {"format": FORMAT, "description": json.dumps(description)})

    @classmethod
    def load(cls, path: str | Path) -> "Slice":
        """What `save` wrote; the weights stay where the mapped file has them. Raises NotASlice, OSError."""
        path = Path(path)
        try:
            note = tensorfile.note(path)
            if note.get("format") != FORMAT:
                raise NotASlice(f"{path}: it says of itself {note.get('format', 'nothing')!r}, not {FORMAT!r}")
            return cls._of(json.loads(note["description"]), tensorfile.read(path))
        except NotASlice:
            raise
        except tensorfile.TensorFileError as error:
            raise NotASlice(f"{path}: {error.why}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise NotASlice(f"{path}: its description and its tensors are not those of a slice: {error}") from error

    @classmethod
    def _of(cls, said: Mapping[str, Any], held: Mapping[str, tensorfile.Array]) -> "Slice":
        fixed = {name: constant(dtype, shape, held[FIXED + name]) for name, (dtype, shape) in said["fixed"].items()}
        weights = {name: _mapped(held[name]) for name in said["weights"]}
        for name, shape in said["weights"].items():
            if weights[name].shape != tuple(shape) or weights[name].dtype != torch.float32:
                raise ValueError(f"weight {name!r} is {weights[name].dtype} {tuple(weights[name].shape)}")
        dtype, shape = said["input"]
        program = program_of(said["program"], fixed)
        model, index, count, flops = said["part"]
        return cls(model, index, count, flops, tuple(shape), dtype, tuple(said["output"]), program, weights)


def _mapped(array: tensorfile.Array) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to a weight
        return torch.from_numpy(array)
