"""The loader of runs whose slices are run by ONNX Runtime. No torch, no `onnx`: the graphs were made outside.

Rules: one session a unit, whatever the cut, so a cut changes no bit of the answer; one thread; weights are read where
the mapped file has them, and given to the session by name (nodes.prepare.onnxexport), which packs its matrices into
memory of its own. The runtime reports to its makers unless it is told not to before it is imported: it is told, which
also leaves the process with one thread, so it can be imported before a fork.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nodes.models.config import Config, UnknownFamily, config_of
from nodes.models.shapes import Shape
from nodes.prepare import tensorfile
from nodes.prepare.pretrained import NotInstalled
from nodes.prepare.tensorfile import ALIGNMENT, Array, TensorFileError
from nodes.slices import BadTensor, Kept, Loaded, LoadedPart, LoadError, Run, Weights
from nodes.wire.codec import ITEM_BYTES, Tensor

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
INDEX = "index.json"  # of the graphs: the file of each unit, in order


@dataclass(frozen=True, slots=True)
class OnnxFiles:
    family: str
    weights_file: Path
    graphs_folder: Path


class Onnx:
    """A `Loader` whose slices compute in ONNX Runtime. Raises NotInstalled when that is missing."""

    def __init__(self, models: Mapping[str, OnnxFiles], *, warm: bool = False) -> None:
        runtime()
        self._models = models
        self._warm = warm
        self._mapped: dict[str, dict[str, Array]] = {}

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        """Raises LoadError when weights or graphs are missing or do not fit."""
        files = self._models[model]
        with _load_errors():
            config = config_of(files.family)
            units = config.units()
            if not 0 <= first < last <= len(units):
                raise LoadError(f"units {first}..{last}: {files.family} has 0..{len(units)}, and one at least")
            declared = {name: shape for unit in units[first:last] for name, shape in unit.weights.items()}
            there = self._here(model) if received is None else _arrived(received)
            held = _checked(there, declared, exact=received is not None)
            graphs = json.loads((files.graphs_folder / INDEX).read_text())[first:last]
            sessions = [
                _session((files.graphs_folder / graph).read_bytes(), [held[name] for name in unit.weights])
                for graph, unit in zip(graphs, units[first:last], strict=True)
            ]
        shape, dtype = (units[first - 1].output, "float32") if first else (config.input_shape, config.input_dtype)
        run = _runner(f"{files.family} {first}..{last}", sessions, shape, dtype)
        if self._warm:
            run(_any_input(config, shape, dtype))
        return Loaded(run, _digest(held))

    def weights(self, model: str, block: int, part: str = "") -> Iterable[tuple[str, Tensor]]:
        """Raises LoadError when they cannot be read."""
        if part:
            raise LoadError(f"{model} runs in ONNX Runtime, which has no {part} of block {block}")
        with _load_errors():
            unit = config_of(self._models[model].family).units()[block]
            held = _checked(self._here(model), unit.weights, exact=False)
        for name in sorted(held):
            yield name, _tensor(held[name])

    def load_part(self, model: str, block: int, part: str, received: Mapping[str, Tensor] | None) -> LoadedPart:
        """Raises LoadError: a graph is of whole blocks."""
        del received
        raise LoadError(f"{model} runs in ONNX Runtime, which has no {part} of block {block}")

    def keep(self, model: str) -> Kept:
        """Raises LoadError: what a generation keeps has no place in the graphs."""
        raise LoadError(f"{model} runs in ONNX Runtime, which generates nothing here")

    def _here(self, model: str) -> dict[str, Array]:
        if model not in self._mapped:
            self._mapped[model] = tensorfile.read(self._models[model].weights_file)
        return self._mapped[model]


@cache
def runtime() -> ModuleType:
    """Raises NotInstalled."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NotInstalled("ONNX Runtime is missing: install the package onnxruntime") from error
    found: ModuleType = onnxruntime
    return found


def _session(graph: bytes, weights: Sequence[Array]) -> Any:
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # no fusions: those across units would round otherwise than a cut model does, and so would other layouts
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_cpu_mem_arena = False  # it would keep the largest of what it ever needed, in every process
    options.log_severity_level = 3
    if weights:
        given = [ort.OrtValue.ortvalue_from_numpy(weight) for weight in weights]
        options.add_external_initializers([f"w{i}" for i in range(len(weights))], given)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _runner(name: str, sessions: Sequence[Any], shape: Shape, dtype: str) -> Run:
    refused = _refusals()

    def run(tensor: Tensor) -> Tensor:
        x = _array(tensor)
        fits = x.ndim == len(shape) and all(
            want in {got, -1} and got > 0 for want, got in zip(shape, x.shape, strict=True)
        )
        if not fits or x.dtype.name != dtype:
            raise BadTensor(f"{name} takes {dtype} {shape}, not {x.dtype.name} {x.shape}")
        try:
            for session in sessions:
                x = session.run(None, {"x": x})[0]
        except refused as error:  # a token outside the vocabulary, a sentence too long
            raise BadTensor(f"{name} cannot take this: {error}") from error
        return _tensor(x)

    return run


def _refusals() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for an input it cannot compute with."""
    state = runtime().capi.onnxruntime_pybind11_state
    return (state.InvalidArgument, state.RuntimeException, state.Fail)


def _array(tensor: Tensor) -> Array:
    """The tensor at a multiple of 64 bytes. Raises BadTensor."""
    try:
        if tensor.dtype not in ITEM_BYTES:
            raise ValueError("there is no such type")
        found = np.frombuffer(tensor.data, dtype=tensor.dtype).reshape(tensor.shape)
    except ValueError as error:
        raise BadTensor(f"{tensor.size_bytes} bytes are no {tensor.dtype} {tensor.shape}: {error}") from error
    return found if found.ctypes.data % ALIGNMENT == 0 else _aligned(found)


def _aligned(array: Array) -> Array:
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _tensor(array: Array) -> Tensor:
    array = np.ascontiguousarray(array)
    return Tensor(array.dtype.name, tuple(array.shape), array.data.cast("B"))


def _arrived(received: Weights) -> dict[str, Array]:
    return {name: _array(tensor) for block in received.values() for name, tensor in block.items()}


def _checked(found: Mapping[str, Array], declared: Mapping[str, Shape], *, exact: bool) -> dict[str, Array]:
    """Those that are declared; raises LoadError unless they are there, float32 and of their shapes.

    `exact`: nothing else may be there.
    """
    for name in (found.keys() | declared.keys()) if exact else declared:
        shape = found[name].shape if name in found else "missing"
        if shape != declared.get(name):
            raise LoadError(f"weight {name!r} is {shape}, declared {declared.get(name, 'nowhere')}")
        if found[name].dtype != np.float32:
            raise LoadError(f"weight {name!r} is {found[name].dtype}, declared float32")
    return {name: found[name] for name in declared}


def _digest(weights: Mapping[str, Array]) -> str:
    """SHA-256 in hex over the raw bytes of the weights in name order: that of the same slice in torch."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(weights[name].data.cast("B"))
    return sha.hexdigest()


def _any_input(config: Config, shape: Shape, dtype: str) -> Tensor:
    sizes = tuple(config.tokens if size == -1 else size for size in shape)
    return _tensor(np.zeros(sizes, dtype))


@contextmanager
def _load_errors() -> Iterator[None]:
    """All that can be wrong with files and weights as LoadError, the runtime's own refusals included."""
    wrong: tuple[type[Exception], ...] = (UnknownFamily, TensorFileError, BadTensor, OSError, ValueError, IndexError)
    wrong += _refusals()
    try:
        yield
    except wrong as error:
        raise LoadError(str(error)) from error
