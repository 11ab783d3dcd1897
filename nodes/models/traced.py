"""The chain of units of anybody's module, found by tracing: where one float32 tensor alone is alive, it can be cut.

Rules: the module takes one tensor and gives one; shapes are those of the example it is traced with. What does not
depend on the input (masks, positions) is computed again in every unit that needs it, so it never crosses a cut. A
unit ends at the last such place before the next matrix of weights, or where it is told. It calls the ops of
torch.export one by one.
"""

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node, map_arg

from nodes.models.chain import Chain, Unit
from nodes.models.program import BadProgram, Op, Program, Ref, name_of
from nodes.models.shapes import Shape, UnitShape

TORCH = Path(torch.__file__).parent


class CannotTrace(ValueError):
    """The module is not one tensor in, one out, or has no order of units; the message says which, and where."""


def traced(family: str, module: torch.nn.Module, example: torch.Tensor) -> tuple[Chain, dict[str, torch.Tensor]]:
    """The chain under a name of its own, and the module's weights. Raises CannotTrace."""
    trace = Trace.of(family, module, example)
    return trace.chain(trace.places()), trace.weights()


@dataclass(frozen=True, slots=True)
class Trace:
    family: str
    nodes: Sequence[Node]  # what is computed from the input, in order
    entry: Node
    leaving: Node
    names: Mapping[Node, str]  # of what the module holds: weights, buffers, constants
    held: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, family: str, module: torch.nn.Module, example: torch.Tensor) -> "Trace":
        """Raises CannotTrace."""
        try:
            program = torch.export.export(module.eval(), (example,)).run_decompositions({})
        except Exception as error:  # torch names no classes for what it cannot trace
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise CannotTrace(f"{family}: torch.export cannot trace it{_blamed(error)}: {why}") from error
        return cls._of(family, program)

    @classmethod
    def _of(cls, family: str, program: ExportedProgram) -> "Trace":
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
        nodes = nodes[: nodes.index(leaving) + 1] if leaving in nodes else nodes
        return cls(family, nodes, entry, leaving, {named[name]: target for name, target in kept.items()}, held)

    def places(self) -> list[int]:
        """The index of the last node of each unit: the last before a matrix behind which one tensor alone is alive."""
        weighed, found, places, single = False, -1, [], set(self.everywhere())
        for i, node in enumerate(self.nodes):
            matrix = any(self._is_matrix(source) for source in node.all_input_nodes)
            if matrix and found >= 0:
                places.append(found)
                found = -1
            weighed = weighed or matrix
            if weighed and i in single:
                found = i
        return [*places, self.last]

    def everywhere(self) -> list[int]:
        """The index of each node behind which one float32 tensor alone is alive, and of the last."""
        inner = zip(self.nodes[:-1], self.alive(), strict=False)
        return [*(i for i, (node, alive) in enumerate(inner) if alive == [node] and _is_float(node)), self.last]

    @property
    def last(self) -> int:
        """The index of the last node."""
        return len(self.nodes) - 1

    def before(self, name: str) -> int:
        """The index of the last node before a submodule; what has no weights may come with it. Raises CannotTrace."""
        paths = [_path(node) for node in self.nodes]
        begin = next((i for i, path in enumerate(paths) if f"{path}.".startswith(f"{name}.")), None)
        if begin is None:
            known = sorted({path for path in paths if path})
            raise CannotTrace(f"{self.family}: no submodule {name!r} computes anything; there are {', '.join(known)}")
        if begin == 0:
            raise CannotTrace(f"{self.family}: {name!r} is where it begins, nothing would lie before the cut")
        alive = list(self.alive())
        for i in range(begin - 1, -1, -1):
            if alive[i] == [self.nodes[i]] and _is_float(self.nodes[i]):
                return i
            if any(source in self.names for source in self.nodes[i].all_input_nodes):
                break  # another's weights would come behind the cut
        raise CannotTrace(f"{self.family}: before {name!r} it cannot be cut: {self._told(alive[begin - 1])}")

    def uncut(self) -> str:
        """Why no two units were found: what is alive where the fewest are, half way if there are several such."""
        inner = list(self.alive())[:-1]
        if not inner:
            return "it is one operator"
        fewest = min(map(len, inner))
        places = [i for i, alive in enumerate(inner) if len(alive) == fewest]
        i = places[len(places) // 2]
        return f"behind {_told(self.nodes[i])} {self._told(inner[i])}"

    def chain(self, ends: Iterable[int]) -> Chain:
        """Units that end behind these nodes, the last of which is the last there is. Raises CannotTrace."""
        units: list[Unit] = []
        begin, entering = 0, self.entry
        for end in ends:
            units.append(self.unit(len(units), entering, begin, end))
            begin, entering = end + 1, self.nodes[end]
        example = self.entry.meta["val"]
        dtype = str(example.dtype).removeprefix("torch.")
        return Chain(self.family, tuple(units), tuple(example.shape), dtype, None)

    def weights(self) -> dict[str, torch.Tensor]:
        held = {name: tensor for name, tensor in self.held.items() if tensor.dtype == torch.float32}
        return {name: tensor.detach().contiguous() for name, tensor in held.items()}

    def alive(self) -> Iterable[list[Node]]:
        """Behind each node, what is still needed of all that depends on the input; itself comes last."""
        at = {node: i for i, node in enumerate(self.nodes)}
        last_use = {node: max((at.get(user, -1) for user in node.users), default=-1) for node in (self.entry, *at)}
        last_use[self.leaving] = len(self.nodes)
        alive = [self.entry]
        for i, node in enumerate(self.nodes):
            alive = [other for other in (*alive, node) if last_use[other] > i]
            yield alive

    def unit(self, i: int, entering: Node, begin: int, end: int) -> Unit:
        """What nodes begin..end compute from what enters. Raises CannotTrace."""
        nodes = self._needed(self.nodes[begin : end + 1], entering)
        names = {node.name: self.names[node] for node in nodes if node in self.names}
        weights = {name: self.held[name] for name in names.values() if self.held[name].dtype == torch.float32}
        fixed = {name: self.held[name] for name in names.values() if name not in weights}
        shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        leaving = self.nodes[end]
        ops = tuple(self._op(node) for node in nodes if node not in self.names)
        program = Program(ops, names, fixed, entering.name, leaving.name)
        return Unit(UnitShape(f"unit{i}", shapes, tuple(leaving.meta["val"].shape)), program)

    def _op(self, node: Node) -> Op:
        try:
            target = name_of(node.target)
        except BadProgram as error:
            raise CannotTrace(f"{self.family}: {_told(node)}: {error}") from error
        written: Any = map_arg((node.args, node.kwargs), _ref)  # type: ignore[arg-type]
        return Op(node.name, target, tuple(written[0]), written[1])

    def _needed(self, span: Sequence[Node], entering: Node) -> list[Node]:
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

    def _told(self, alive: Sequence[Node]) -> str:
        if len(alive) > 1:
            return f"{len(alive)} tensors are alive: {'; '.join(_told(node) for node in alive)}"
        return f"what is alive is no float32 tensor of its own: {'; '.join(_told(node) for node in alive)}"


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _ref(node: Node) -> Ref:
    return Ref(node.name)


def _path(node: Node) -> str:
    """The submodule that a node belongs to: "layers.0.linear", nothing for the module itself."""
    stack = node.meta.get("nn_module_stack") or {}
    path: str = list(stack.values())[-1][0] if stack else ""
    return path


def _told(node: Node) -> str:
    """ "(1, 8) of 'layers.0' (model.py:12)"."""
    value = node.meta.get("val")
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else node.name
    if node.op == "placeholder":
        return f"{shape}, the input"
    path = f" of {_path(node)!r}" if _path(node) else ""
    return f"{shape}{path}{_line(str(node.meta.get('stack_trace', '')))}"


def _line(trace: str) -> str:
    """The last line of the author's own in a stack trace: " (model.py:12)"."""
    found = ""
    for line in trace.splitlines():
        words = line.strip().split('"')
        if len(words) == 3 and words[0] == "File " and not words[1].startswith(str(TORCH)):
            found = f" ({Path(words[1]).name}:{words[2].removeprefix(', line ').split(',')[0]})"
    return found


def _blamed(error: BaseException) -> str:
    """Where in the author's own code it arose."""
    frames: Any = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((str(TORCH), __file__, "<"))]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno}: `{own[-1].line}`)" if own else ""
