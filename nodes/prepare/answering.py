"""What the unsplit model answers, computed: the part of `nodes.prepare.answers` that needs torch."""

from pathlib import Path

import numpy as np
import torch

from nodes.models.generate import generate
from nodes.prepare import inputs, tensorfile, weights
from nodes.runtime.level import Level
from nodes.runtime.optimise import cut_at, off_plain
from nodes.runtime.slicing import one_thread


def answered(
    family: str, count: int, seed: int, weights_file: Path, *, prompts: tuple[str, ...], tokens: int, optimise: Level
) -> tuple[dict[str, tensorfile.Array], float]:
    """Inputs and answers by name, and how far the worst answer of an optimised model is off the plain one's."""
    one_thread()
    held = weights.load(weights_file, family)
    model, plain = cut_at(optimise, family, held), cut_at("none", family, held)
    tensors: dict[str, tensorfile.Array] = {}
    off = [0.0]
    for i in range(count):
        tensors[f"input.{i}"] = inputs.text(family, prompts[i]) if prompts else inputs.make(family, seed, i)
        x = torch.from_numpy(tensors[f"input.{i}"])
        answer = model(x)
        tensors[f"answer.{i}"] = answer.numpy()
        if optimise != "none":
            off.append(off_plain(answer, plain(x)))
        if tokens:
            tensors[f"tokens.{i}"] = np.array(generate([model], x, tokens), dtype=np.int64)
    return tensors, max(off)
