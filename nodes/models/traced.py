"""The chain of units of anybody's module, found by tracing: where one float32 tensor alone is alive, it can be cut.

Rules: the module takes one tensor and gives one; shapes are those of the example it is traced with. What does not
depend on the input (masks, positions) is computed again in every unit that needs it, so it never crosses a cut. A
unit ends at the last such place before the next matrix of weights. It calls the ops of torch.export one by one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node, map_arg

from nodes.models.chain import Chain, Unit, Weights
from nodes.models.shapes import Shape, UnitShape


class CannotTrace(ValueError):
    """The module is not one tensor in, one out, or has no order of units; the message says which."""


def traced(family: str, module: torch.nn.Module, example: torch.Tensor) -> tuple[Chain, dict[str, torch.Tensor]]:
    """The chain under a name of its own, and the module's weights. Raises CannotTrace."""
    try:
        program = torch.export.export(module.eval(), (example,)).run_decompositions({})
    except Exception as error:  # torch names no classes for what it cannot trace
        raise CannotTrace(f"{family}: torch.export cannot trace it: {error}") from error
    graph = _Graph.of(family, program)
    units: list[Unit] = []
    begin, entering = 0, graph.entry
    for end in graph.places():
        units.append(graph.unit(len(units), entering, begin, end))
        begin, entering = end + 1, graph.nodes[end]
    held = {name: tensor for name, tensor in graph.held.items() if tensor.dtype == torch.float32}
    chain = Chain(family, tuple(units), tuple(example.shape), str(example.dtype).removeprefix("torch."), None)
    return chain, {name: tensor.detach().contiguous() for name, tensor in held.items()}


@dataclass(frozen=True, slots=True)
class _Graph:
    nodes: list[Node]  # what is computed from the input, in order
    entry: Node
    leaving: Node
    names: Mapping[Node, str]  # of what the module holds: weights, buffers, constants
    held: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, family: str, program: ExportedProgram) -> "_Graph":
        signature = program.graph_signature
        inputs, outputs = signature.user_inputs, signature.user_outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise CannotTrace(f"{family}: {len(inputs)} inputs and {len(outputs)} outputs, one tensor each is due")
        named = {node.name: node for node in program.graph.nodes}
        entry, leaving = named[str(inputs[0])], named[str(outputs[0])]
        kept = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        kept |= signature.inputs_to_lifted_tensor_constants
        held = {name: {**program.state_dict, **program.constants}[name] for name in kept.values()}
        alive, nodes = {entry}, []
        for node in program.graph.nodes:
            if node.op == "call_function" and alive.intersection(node.all_input_nodes):
                alive.add(node)
                nodes.append(node)
        if leaving not in alive:
            raise CannotTrace(f"{family}: its output does not depend on its input")
        return cls(nodes, entry, leaving, {named[name]: target for name, target in kept.items()}, held)

    def places(self) -> Iterable[int]:
        """The index of the last node of each unit: the last before a matrix behind which one tensor alone is alive."""
        at = {node: i for i, node in enumerate(self.nodes)}
        last_use = {node: max((at.get(user, -1) for user in node.users), default=-1) for node in (self.entry, *at)}
        alive, weighed, found = {self.entry}, False, -1
        for i, node in enumerate(self.nodes[: at[self.leaving] + 1]):
            matrix = any(self._is_matrix(source) for source in node.all_input_nodes)
            if matrix and found >= 0:
                yield found
                found = -1
            weighed = weighed or matrix
            alive = {other for other in (*alive, node) if last_use[other] > i}
            if weighed and alive == {node} and _is_float(node):
                found = i
        yield at[self.leaving]

    def unit(self, i: int, entering: Node, begin: int, end: int) -> Unit:
        nodes = self._needed(self.nodes[begin : end + 1], entering)
        names = {node: self.names[node] for node in nodes if node in self.names}
        weights = {name: self.held[name] for name in names.values() if self.held[name].dtype == torch.float32}
        fixed = {name: self.held[name] for name in names.values() if name not in weights}
        shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        leaving = self.nodes[end]
        shape = UnitShape(f"unit{i}", shapes, tuple(leaving.meta["val"].shape))
        return Unit(shape, _Span(nodes, names, fixed, entering, leaving))

    def _needed(self, span: list[Node], entering: Node) -> list[Node]:
        """The span and all that it is computed from without the input, in order."""
        needed, open_ = set(span), list(span)
        while open_:
            for source in open_.pop().all_input_nodes:
                if source not in needed and source is not entering:
                    needed.add(source)
                    open_.append(source)
        return [node for node in span[0].graph.nodes if node in needed]

    def _is_matrix(self, node: Node) -> bool:
        return node in self.names and self.held[self.names[node]].dim() > 1


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


@dataclass(frozen=True, slots=True)
class _Span:
    """What a unit computes."""

    nodes: list[Node]
    names: Mapping[Node, str]  # of those that are weights or `fixed`
    fixed: Mapping[str, torch.Tensor]
    entering: Node
    leaving: Node

    def __call__(self, weights: Weights, x: torch.Tensor) -> torch.Tensor:
        values: dict[Node, Any] = {self.entering: x}
        for node in self.nodes:
            if node in self.names:
                name = self.names[node]
                values[node] = self.fixed[name] if name in self.fixed else weights[name]
            else:
                arguments, keywords = map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*arguments, **keywords)  # type: ignore[operator]
        answer: torch.Tensor = values[self.leaving]
        return answer
