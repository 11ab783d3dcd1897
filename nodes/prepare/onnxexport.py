"""The units of a family as ONNX graphs: made once, in the preparation outside, and kept in a folder of the cache.

Rules: a graph holds no weights. Its initialisers are called w0, w1, ... in the order of the unit's weights and are
given when a session begins (nodes.runtime.onnx), so equal layers share one graph and weights that are moved need no
other file. A folder is named by all that decides its bytes, and is there whole or not at all. A family that generates
is refused: what a unit keeps of a generation has no place in these graphs.
"""

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nodes.models import chain_of
from nodes.models.chain import Chain, Unit
from nodes.models.config import config_of
from nodes.models.shapes import Shape
from nodes.prepare.pretrained import NotInstalled
from nodes.runtime.onnx import INDEX

TOKENS = 5  # of the text that a graph is traced with; others fit too
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class CannotExport(ValueError):
    """The family has no ONNX graphs; the message says why."""


def ensure(family: str, cache_dir: Path) -> Path:
    """The folder of a family's graphs, made if it is not there yet; several may try at once.

    Raises UnknownFamily, CannotExport, NotInstalled, OSError.
    """
    chain = chain_of(family)
    if chain.enters is not None:
        raise CannotExport(f"{family} generates text, which has no ONNX graphs here; its runtime is torch")
    folder = cache_dir / f"{family}-onnx-{_key(family)}"
    if not folder.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=f".{folder.name}.") as made:
            draft = Path(made, "graphs")
            draft.mkdir()
            _write(chain, draft)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.exists():  # else somebody was faster
                    raise
    return folder


def graph(units: tuple[Unit, ...], shape: Shape, dtype: str, longest: int) -> bytes:
    """Some units in a row as one graph of one input `x` of this shape and one output `y`; -1 is 2..longest tokens."""
    return _converted(*_traced(units, shape, dtype, longest))


def _write(chain: Chain, folder: Path) -> None:
    shape, dtype, longest = chain.input_shape, chain.input_dtype, getattr(config_of(chain.family), "positions", 2)
    files: list[str] = []
    for unit in chain.units:
        program, shapes = _traced((unit,), shape, dtype, longest)
        what = f"{program.graph_module.code}{shapes}{shape}{dtype}{unit.output_shape}"
        file = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.onnx"
        if not file.exists():  # another unit of the same code has no other graph
            file.write_bytes(_converted(program, shapes))
        files.append(file.name)
        shape, dtype = unit.output_shape, "float32"
    (folder / INDEX).write_text(json.dumps(files, indent=1))


class _Row(torch.nn.Module):
    """Units in a row as a module of the tensor and the weights."""

    def __init__(self, units: tuple[Unit, ...]) -> None:
        super().__init__()
        self.units = units

    def forward(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
        begin = 0
        for unit in self.units:
            end = begin + len(unit.weights)
            x = unit(dict(zip(unit.weights, weights[begin:end], strict=True)), x)
            begin = end
        return x


def _traced(
    units: tuple[Unit, ...], shape: Shape, dtype: str, longest: int
) -> tuple[torch.export.ExportedProgram, tuple[Shape, ...]]:
    """The program and the shapes of its weights, in order."""
    shapes = tuple(shape for unit in units for shape in unit.weights.values())
    x = torch.zeros([TOKENS if size == -1 else size for size in shape], dtype=getattr(torch, dtype))
    held = tuple(torch.zeros(shape) for shape in shapes)
    tokens = {i: torch.export.Dim("tokens", min=2, max=longest) for i, size in enumerate(shape) if size == -1}
    dynamic: Any = (tokens, tuple({} for _ in held))
    with torch.no_grad(), _quiet():
        return torch.export.export(_Row(units).eval(), (x, held), dynamic_shapes=dynamic), shapes


def _converted(program: torch.export.ExportedProgram, shapes: tuple[Shape, ...]) -> bytes:
    names = [f"w{i}" for i in range(len(shapes))]
    with _quiet():
        made: Any = torch.onnx.export(
            program, dynamo=True, input_names=["x", *names], output_names=["y"], verbose=False
        )
    model = made.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the sources it comes from
    del model.graph.input[1:]  # the weights: what is constant can be folded and packed when a session begins
    for name, shape in zip(names, shapes, strict=True):
        held = model.graph.initializer.add(name=name, data_type=1, dims=shape, data_location=1)  # float32, external
        held.external_data.add(key="location", value="given to the session")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its warnings about packages and classes of its own."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _key(family: str) -> str:
    here = Path(__file__)
    code = b"".join(file.read_bytes() for file in (here, *sorted((here.parents[1] / "models").glob("*.py"))))
    facts = [family, torch.__version__, *map(_version, PACKAGES), hashlib.sha256(code).hexdigest()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise NotInstalled(f"the runtime onnxruntime needs the package {package}, which is missing") from None
