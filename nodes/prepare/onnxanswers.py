"""The right answers of a model that ONNX Runtime runs: those of its own unsplit model, which torch's have confirmed.

Rules: a run compares bit for bit, and two libraries do not round alike; so the answers are ONNX Runtime's, and there
are none at all unless each is within `TOLERANCE` of torch's.
"""

import hashlib
from pathlib import Path

import numpy as np

from nodes.models.config import config_of
from nodes.prepare import answers, onnxexport, tensorfile
from nodes.runtime import onnx
from nodes.wire.codec import Tensor

TOLERANCE = 1e-4  # the largest difference, over the largest value


class AnswersDiffer(ValueError):
    """ONNX Runtime does not compute what torch does; the message says by how much."""


def prepare(family: str, count: int, seed: int, cache_dir: Path) -> tuple[Path, Path, Path]:
    """(weights file, answers file, folder of graphs) for `count` inputs, made if they are not there.

    Raises UnknownFamily, CannotExport, NotInstalled, AnswersDiffer, TensorFileError, LoadError, OSError.
    """
    onnx.runtime()
    graphs = onnxexport.ensure(family, cache_dir)
    weights_file, torch_answers = answers.prepare(family, count, seed, cache_dir)
    code = Path(onnx.__file__).read_bytes()
    key = hashlib.sha256(f"{torch_answers.name} {graphs.name}".encode() + code).hexdigest()[:16]
    path = cache_dir / f"{family}-onnx-answers-{key}.safetensors"
    if not path.exists():
        files = onnx.OnnxFiles(family, weights_file, graphs)
        run = onnx.Onnx({family: files}).load(family, 0, len(config_of(family).units()), None).run
        held = tensorfile.read(torch_answers)
        found, errors = {}, []
        for i in range(count):
            x, right = held[f"input.{i}"], held[f"answer.{i}"]
            answer = run(Tensor(x.dtype.name, tuple(x.shape), x.data.cast("B")))
            found[f"input.{i}"] = x
            found[f"answer.{i}"] = np.frombuffer(answer.data, answer.dtype).reshape(answer.shape)
            errors.append(float(np.abs(found[f"answer.{i}"] - right).max() / np.abs(right).max()))
        if max(errors) > TOLERANCE:
            raise AnswersDiffer(f"{family}: ONNX Runtime is {max(errors):.1e} off torch, at most {TOLERANCE} is right")
        tensorfile.write(path, found, {"off_torch": f"{max(errors):.2e}"})
    return weights_file, path, graphs
