"""A module of somebody's own, made ready for a run: its description, its weights, its inputs and right answers.

    python -m nodes.prepare.own --module net.py:make --cache DIR      prints the files' names

`make` takes nothing and gives the module and its inputs, one tensor or a list of them, all of one shape and type:
float32, int64 or uint8. It is run here, outside, and nowhere else: what runs on the emulated nodes is the description.

Rules: the module is cut everywhere where one float32 tensor crosses (nodes.models.traced), in at most UNITS units;
what is cut answers each input with the bits of the module, or there are no files. They are named by what they hold.
"""

import argparse
import hashlib
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from nodes.models.config import declare
from nodes.models.program import BadProgram, constant_raw, described
from nodes.ownslice import Slice
from nodes.prepare import tensorfile
from nodes.prepare.answers import key
from nodes.prepare.weights import digest, load
from nodes.runtime.slicing import cut, one_thread
from nodes.sdk import CannotCut, slice_model

UNITS = 64
TYPES = (torch.float32, torch.int64, torch.uint8)
FIXED_BYTES = 1 << 20  # of constants that are no weights: they travel with the plan


class BadModule(ValueError):
    """No model can be made of it; the message says why and what would be right."""


def prepare(place: str, cache_dir: Path) -> dict[str, Any]:
    """{"description", "weights_file", "answers_file", "inputs"}. Raises BadModule, OSError."""
    one_thread()
    module, inputs = made(place)
    slices = _slices(module, inputs[0])
    text = json.dumps({"input": [slices[0].input_dtype, slices[0].input_shape], "units": _units(slices, inputs[0])})
    family = declare(text).family
    weights = {name: tensor for part in slices for name, tensor in part.weights.items()}
    weights_file = cache_dir / f"{family}-weights-{digest(weights)[:16]}.safetensors"
    cache_dir.mkdir(parents=True, exist_ok=True)
    if not weights_file.exists():
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        tensorfile.write(weights_file, arrays, {"family": family, "digest": digest(weights)})
    asked = [family, *(hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in inputs)]
    answers_file = cache_dir / f"{family}-answers-{key(asked, weights_file)}.safetensors"
    if not answers_file.exists():
        tensorfile.write(answers_file, _answers(family, weights_file, module, inputs), {"off_plain": "0.0"})
    found = {"weights_file": str(weights_file), "answers_file": str(answers_file)}
    return {"description": text, **found, "inputs": len(inputs)}


def made(place: str) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """What the function of `FILE.py:NAME` gives, looked over. Raises BadModule."""
    try:
        with redirect_stdout(sys.stderr):  # ours is for the files' names
            given = _function(place)()
    except BadModule:
        raise
    except Exception as error:  # whatever is in the file
        raise BadModule(f"{place} cannot be run: {type(error).__name__}: {error}") from error
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], torch.nn.Module)):
        raise BadModule(
            f"{place} gives {type(given).__name__}: a module and its inputs are right, `return net, inputs`"
        )
    module, inputs = given
    inputs = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    if not isinstance(inputs, list | tuple) or not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise BadModule(f"{place}: its inputs are a tensor, or a list of at least one")
    kinds = {(x.dtype, tuple(x.shape)) for x in inputs}
    if len(kinds) > 1 or inputs[0].dtype not in TYPES or 0 in inputs[0].shape:
        told = ", ".join(sorted(f"{dtype} {shape}" for dtype, shape in kinds))
        raise BadModule(f"{place}: inputs of one shape and of float32, int64 or uint8 are right, not {told}")
    return module, [x.detach().contiguous() for x in inputs]


def _function(place: str) -> Callable[[], Any]:
    file, _, name = place.rpartition(":")
    path = Path(file).resolve()
    spec = spec_from_file_location(f"own_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise BadModule(f"{place}: there is no such file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))  # what lies beside it can be imported, as in a script
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise BadModule(f"{place}: there is no function {name} in it")
    return found  # type: ignore[no-any-return]


def _slices(module: torch.nn.Module, example: torch.Tensor) -> list[Slice]:
    try:
        slices = slice_model(module, example)
        return slices if len(slices) <= UNITS else slice_model(module, example, parts=UNITS)
    except CannotCut as error:
        raise BadModule(str(error)) from error


def _units(slices: Sequence[Slice], example: torch.Tensor) -> list[dict[str, Any]]:
    units, x = list[dict[str, Any]](), example
    for part in slices:
        try:
            program = described(part.program)
        except BadProgram as error:
            raise BadModule(f"{part.model}: {error}") from error
        with torch.inference_mode():
            working_bytes, x = part.program.working_bytes(part.weights, x), part(x)
        units.append(
            {
                "name": f"unit{part.index}",
                "weights": {name: tuple(tensor.shape) for name, tensor in part.weights.items()},
                "output": part.output_shape,
                "flops": part.flops,
                "working_bytes": working_bytes,
                "program": program,
                "fixed": {name: _fixed(tensor) for name, tensor in part.program.fixed.items()},
            }
        )
    held = sum(len(raw) for unit in units for _, _, raw in unit["fixed"].values())
    if held > FIXED_BYTES:
        raise BadModule(f"{slices[0].model}: {held} bytes of constants that are no float32, at most {FIXED_BYTES}")
    return units


def _fixed(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], str]:
    dtype, shape, raw = constant_raw(tensor)
    return dtype, shape, b64encode(raw.tobytes()).decode()


def _answers(
    family: str, weights_file: Path, module: torch.nn.Module, inputs: Sequence[torch.Tensor]
) -> dict[str, tensorfile.Array]:
    whole, tensors = cut(family, load(weights_file, family)), dict[str, tensorfile.Array]()
    for i, x in enumerate(inputs):
        answer = whole(x)
        with torch.inference_mode():
            if not torch.equal(answer, module(x)):
                raise BadModule(f"{type(module).__name__}: cut, it answers input {i} with other bits than itself")
        tensors |= {f"input.{i}": x.numpy(), f"answer.{i}": answer.numpy()}
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nodes.prepare.own", description="A module made ready for a run.")
    parser.add_argument("--module", required=True, metavar="FILE.py:NAME")
    parser.add_argument("--cache", required=True, type=Path)
    asked = parser.parse_args()
    try:
        found = prepare(asked.module, asked.cache.resolve())
    except BadModule as error:
        sys.exit(str(error))
    json.dump(found, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
