"""What a traced unit computes: operators of torch one after another, plain enough to be written down as JSON.

Rules: an operator is known by its name, and only those of torch's own `aten` can be read back, so a description is
data, never code; what stands for a value is its name. Constants of other types than float32 belong to the program.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nodes.models.chain import Weights

GETITEM = "getitem"  # of an operator that gives several tensors
KINDS: Mapping[type, str] = {
    torch.dtype: "dtype",
    torch.device: "device",
    torch.layout: "layout",
    torch.memory_format: "memory_format",
}


class BadProgram(ValueError):
    """The description is none, or names what may not be named; or a program has what cannot be written down."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of a name."""

    name: str


@dataclass(frozen=True, slots=True)
class Op:
    name: str  # of what it gives
    target: str  # "aten.linear.default"
    args: tuple[Any, ...]  # Ref, number, text, list, dtype, ...
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """`held`: value -> name of a weight or of one of the `fixed`."""

    ops: tuple[Op, ...]
    held: Mapping[str, str]
    fixed: Mapping[str, torch.Tensor]
    entering: str
    leaving: str

    def __call__(self, weights: Weights, x: torch.Tensor) -> torch.Tensor:
        values = self._begun(weights, x)
        for _ in self._computed(values):
            pass
        answer: torch.Tensor = values[self.leaving]
        return answer

    def working_bytes(self, weights: Weights, x: torch.Tensor) -> int:
        """The most that is alive at once of what is computed, input and output included."""
        last_use = {ref.name: i for i, op in enumerate(self.ops) for ref in _refs([*op.args, *op.kwargs.values()])}
        last_use[self.leaving] = len(self.ops)
        values = self._begun(weights, x)
        there = {storage for value in self.held for storage in _storages(values[value])}
        alive, most = {self.entering: _storages(x)}, x.nbytes
        for i, op in enumerate(self._computed(values)):
            alive[op.name] = _storages(values[op.name])
            held = {storage: size for one in alive.values() for storage, size in one.items() if storage not in there}
            most = max(most, sum(held.values()))
            alive = {name: one for name, one in alive.items() if last_use.get(name, -1) > i}
        return most

    def _begun(self, weights: Weights, x: torch.Tensor) -> dict[str, Any]:
        held = {value: self.fixed[name] if name in self.fixed else weights[name] for value, name in self.held.items()}
        return {self.entering: x, **held}

    def _computed(self, values: dict[str, Any]) -> Iterator[Op]:
        """Each operator when its value has come to the others."""
        for op, call in zip(self.ops, self._calls, strict=True):
            arguments = [_filled(argument, values) for argument in op.args]
            values[op.name] = call(*arguments, **{key: _filled(value, values) for key, value in op.kwargs.items()})
            yield op

    @cached_property
    def _calls(self) -> list[Callable[..., Any]]:
        return [operation(op.target) for op in self.ops]


def operation(target: str) -> Callable[..., Any]:
    """The operator of a name. Raises BadProgram unless it is one of `aten`."""
    if target == GETITEM:
        return operator.getitem
    space, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    packet = getattr(torch.ops.aten, name, None) if space == "aten" and name.isidentifier() else None
    found = getattr(packet, overload, None) if overload.isidentifier() else None
    if not isinstance(found, torch._ops.OpOverload):
        raise BadProgram(f"{target!r} is no operator of torch's aten")
    return found


def name_of(target: object) -> str:
    """The name of an operator. Raises BadProgram for one that `operation` does not find."""
    if target is operator.getitem:
        return GETITEM
    name = str(target)
    operation(name)
    return name


def described(program: Program) -> dict[str, Any]:
    """As JSON has it, without the `fixed` tensors. Raises BadProgram."""
    ops = [
        [op.name, op.target, [_plain(a) for a in op.args], {key: _plain(value) for key, value in op.kwargs.items()}]
        for op in program.ops
    ]
    return {"ops": ops, "held": dict(program.held), "entering": program.entering, "leaving": program.leaving}


def program_of(description: Mapping[str, Any], fixed: Mapping[str, torch.Tensor]) -> Program:
    """The inverse of `described`. Raises BadProgram."""
    try:
        ops = tuple(
            Op(name, target, tuple(_value(a) for a in args), {key: _value(value) for key, value in kwargs.items()})
            for name, target, args, kwargs in description["ops"]
        )
        program = Program(ops, description["held"], fixed, description["entering"], description["leaving"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadProgram(f"the description of what to compute is malformed: {error}") from error
    known = {program.entering, *program.held}
    for op in program.ops:
        operation(op.target)
        lacking = {ref.name for ref in _refs([*op.args, *op.kwargs.values()])} - known
        if lacking:
            raise BadProgram(f"{op.name} is computed from {min(lacking)}, which nothing before it gives")
        known.add(op.name)
    if program.leaving not in known:
        raise BadProgram(f"nothing gives {program.leaving}, which it ends with")
    return program


def constant_raw(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], npt.NDArray[np.uint8]]:
    """A constant of any type to its type's name, shape and bytes; `constant` is the inverse."""
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), raw


def constant(dtype: str, shape: Sequence[int], raw: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Raises ValueError for a type that is none."""
    kind = getattr(torch, dtype)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{dtype!r} is no type")
    return torch.from_numpy(raw.copy()).view(kind).reshape(tuple(shape))


def _refs(arguments: Iterable[Any]) -> Iterator[Ref]:
    for argument in arguments:
        if isinstance(argument, Ref):
            yield argument
        elif isinstance(argument, list):
            yield from _refs(argument)


def _storages(value: Any) -> dict[int, int]:
    """Address and bytes of the memory behind a value; two views of one tensor have the same."""
    tensors = value if isinstance(value, list | tuple) else [value]
    found = [tensor.untyped_storage() for tensor in tensors if isinstance(tensor, torch.Tensor)]
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Ref):
        return values[argument.name]
    return [_filled(one, values) for one in argument] if isinstance(argument, list | tuple) else argument


def _plain(argument: Any) -> Any:
    if isinstance(argument, Ref):
        return {"of": argument.name}
    if isinstance(argument, list | tuple):
        return [_plain(one) for one in argument]
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"float": str(argument)}
    if argument is None or isinstance(argument, bool | int | float | str):
        return argument
    kind = KINDS.get(type(argument))
    if kind is None:
        raise BadProgram(f"an argument of type {type(argument).__name__} cannot be written down")
    return {kind: str(argument).removeprefix("torch.")}


def _value(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_value(one) for one in argument]
    if not isinstance(argument, dict):
        return argument
    ((kind, text),) = argument.items()
    if kind == "of":
        return Ref(text)
    if kind == "float":
        return float(text)
    if kind == "device":
        return torch.device(text)
    found = getattr(torch, text)
    if KINDS.get(type(found)) != kind:
        raise ValueError(f"{text!r} is no {kind}")
    return found
