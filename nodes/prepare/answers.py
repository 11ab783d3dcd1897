"""The answers of the unsplit model, computed once outside, against which every answer of a run is compared.

    python -m nodes.prepare.answers --family vit_b16 --inputs 8 --seed 0 --cache DIR  prints the files' names
    ... --runtime onnxruntime     prints {"graphs_folder"}, too (nodes.prepare.onnxanswers)

Rules: the file is named by all that decides its bytes (inputs, weights, code, torch, processor), so what is found is
right and what is stale is never found. It holds `input.<i>` and `answer.<i>`. What is there is found without torch,
which takes seconds to import.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nodes.models.config import CONFIGS
from nodes.prepare import tensorfile
from nodes.prepare.weightsfile import weights_path
from nodes.runtime.level import LEVELS, Level


def prepare(
    family: str,
    count: int,
    seed: int,
    cache_dir: Path,
    *,
    prompts: tuple[str, ...] = (),
    tokens: int = 0,
    optimise: Level = "none",
) -> tuple[Path, Path]:
    """(weights file, answers file) for `count` inputs, made if they are not there: torch is set to one thread then.

    `prompts` are the inputs then; `tokens` that follow each are generated greedily. An optimised model gives its own
    answers; the note of their file says under "off_plain" how far the worst is off the plain model's.

    Raises UnknownFamily, NotInstalled, SliceError, TensorFileError, WeightsError, OSError.
    """
    weights_file = weights_path(family, seed, cache_dir)
    if not weights_file.exists():
        from nodes.prepare import weights

        weights.ensure(family, seed, cache_dir)
    asked: list[object] = [family, count, seed, prompts, tokens, optimise]
    path = cache_dir / f"{family}-answers-{key(asked, weights_file)}.safetensors"
    if not path.exists():
        from nodes.prepare.answering import answered

        tensors, off = answered(family, count, seed, weights_file, prompts=prompts, tokens=tokens, optimise=optimise)
        tensorfile.write(path, tensors, {"off_plain": repr(off)})
    return weights_file, path


def key(request: Sequence[object], weights_file: Path) -> str:
    facts = {
        "request": request,
        "weights": tensorfile.note(weights_file).get("digest", ""),
        "torch": version("torch"),
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
    nodes = Path(__file__).parents[1]
    names = ("prepare/inputs.py", "prepare/answering.py", "runtime/slicing.py", "runtime/optimise.py")
    files = [*sorted((nodes / "models").glob("*.py")), *(nodes / name for name in names)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m nodes.prepare.answers", description="Answers of the unsplit model."
    )
    parser.add_argument("--family", required=True, choices=sorted(CONFIGS))
    parser.add_argument("--inputs", required=True, type=int)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--prompt", action="append", default=[], help="an input of one's own, where inputs are texts")
    parser.add_argument("--tokens", type=int, default=0, help="how many tokens to generate from each input")
    parser.add_argument("--runtime", choices=["torch", "onnxruntime"], default="torch")
    parser.add_argument("--optimise", choices=LEVELS, default="none", help="as the slices will be")
    asked = parser.parse_args()
    if asked.inputs < 1 or asked.seed < 0:
        parser.error("--inputs is at least 1, --seed at least 0")
    what = (asked.family, asked.inputs, asked.seed, asked.cache.resolve())
    if asked.runtime == "torch":
        found = prepare(*what, prompts=tuple(asked.prompt), tokens=asked.tokens, optimise=asked.optimise)
        made: dict[str, Any] = dict(zip(("weights_file", "answers_file"), map(str, found), strict=True))
        made["off_plain"] = float(tensorfile.note(found[1])["off_plain"])
    else:
        from nodes.prepare import onnxanswers

        names = ("weights_file", "answers_file", "graphs_folder")
        made = dict(zip(names, map(str, onnxanswers.prepare(*what)), strict=True))
    json.dump(made, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
