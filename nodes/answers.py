"""The answers of the unsplit model, computed once outside, against which every answer of a run is compared.

    python -m nodes.answers --family vit_b16 --inputs 8 --seed 0 --cache DIR     prints {"weights_file", "answers_file"}

Rules: the file is named by all that decides its bytes (inputs, weights, code, torch, processor), so what is found is
right and what is stale is never found. It holds `input.<i>` and `answer.<i>`.
"""

import argparse
import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from nodes import inputs, tensorfile, weights
from nodes.models.config import CONFIGS
from nodes.slicing import cut, one_thread


def prepare(family: str, count: int, seed: int, cache_dir: Path) -> tuple[Path, Path]:
    """(weights file, answers file) for `count` inputs, made if they are not there. Sets torch to one thread.

    Raises UnknownFamily, NotInstalled, TensorFileError, WeightsError, OSError.
    """
    weights_file = weights.ensure(family, seed, cache_dir)
    path = cache_dir / f"{family}-answers-{_key(family, count, seed, weights_file)}.safetensors"
    if not path.exists():
        one_thread()
        model = cut(family, weights.load(weights_file, family))
        tensors: dict[str, tensorfile.Array] = {}
        for i in range(count):
            tensors[f"input.{i}"] = inputs.make(family, seed, i)
            tensors[f"answer.{i}"] = model(torch.from_numpy(tensors[f"input.{i}"])).numpy()
        tensorfile.write(path, tensors)
    return weights_file, path


def _key(family: str, count: int, seed: int, weights_file: Path) -> str:
    facts = {
        "request": [family, count, seed],
        "weights": tensorfile.note(weights_file).get("digest", ""),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "processor": _processor(),
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _processor() -> str:
    """Which instructions there are decides how a product rounds."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _code() -> str:
    here = Path(__file__).parent
    files = [*sorted((here / "models").glob("*.py")), here / "inputs.py", here / "slicing.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nodes.answers", description="Answers of the unsplit model.")
    parser.add_argument("--family", required=True, choices=sorted(CONFIGS))
    parser.add_argument("--inputs", required=True, type=int)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--cache", required=True, type=Path)
    asked = parser.parse_args()
    if asked.inputs < 1 or asked.seed < 0:
        parser.error("--inputs is at least 1, --seed at least 0")
    weights_file, answers_file = prepare(asked.family, asked.inputs, asked.seed, asked.cache.resolve())
    json.dump({"weights_file": str(weights_file), "answers_file": str(answers_file)}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
