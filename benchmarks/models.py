"""What cutting a model costs where nothing is emulated: whole beside four slices, in one process, on one thread.

    python -m benchmarks.models [--families minilm gpt2 ...]

Between slices every tensor becomes the frames of a message and is put together again. A family that generates is
timed by its tokens after the first, too. ONNX Runtime is timed where it runs the family. Whole and split take turns,
because the machine may be busy, and the median of each is told. What agents hold in memory: benchmarks.agents.
"""

import argparse
import gc
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.table import RESULTS, WIDTH
from nodes.models import chain_of
from nodes.models.config import config_of
from nodes.models.generate import next_token
from nodes.prepare import inputs, onnxexport, weights
from nodes.proto.data_pb2 import Header
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.onnx import Onnx, OnnxFiles
from nodes.runtime.rawtensors import raw, view
from nodes.runtime.slicing import Slice, cut, one_thread
from nodes.slices import Loader
from nodes.wire.codec import Assembler, Tensor, frames

FAMILIES = ("mobilenet_v2", "vit_b16", "minilm", "bert_large", "whisper_base", "gpt2", "smollm2")
SLICES, TURNS, TOKENS = 4, 5, 16
Row = dict[str, Any]


def sent(tensor: Tensor) -> Tensor:
    assembler = Assembler()
    whole = [assembler.push(frame) for frame in frames(Header(request_id=1), tensor)][-1]
    assert whole is not None
    assert whole[1] is not None
    return whole[1]


def places(family: str) -> list[int]:
    count = len(chain_of(family).units)
    return [round(i * count / SLICES) for i in range(SLICES + 1)]


def turns(*ways: Callable[[], None]) -> list[float]:
    """Median seconds of each, after one turn that counts nothing."""
    took: list[list[float]] = [[] for _ in ways]
    for turn in range(TURNS + 1):
        for way, seconds in zip(ways, took, strict=True):
            began = time.perf_counter()
            way()
            if turn:
                seconds.append(time.perf_counter() - began)
    return [median(seconds) for seconds in took]


def once(loader: Loader, family: str) -> Row:
    """Seconds to load the whole model and its slices, and to answer with each."""
    began = time.perf_counter()
    whole = [loader.load(family, 0, places(family)[-1], None).run]
    loaded_s = time.perf_counter() - began
    began = time.perf_counter()
    split = [loader.load(family, a, b, None).run for a, b in itertools.pairwise(places(family))]
    split_loaded_s = time.perf_counter() - began
    question = raw(torch.from_numpy(inputs.make(family, 0, 0)))
    answers: list[bytes] = []

    def answer(runs: Sequence[Any]) -> None:
        x = question
        for run in runs:
            x = run(sent(x) if len(runs) > 1 else x)
        answers.append(bytes(x.data))

    whole_s, split_s = turns(lambda: answer(whole), lambda: answer(split))
    assert len(set(answers)) == 1, "a cut has changed the answer"
    return {"load_s": loaded_s, "split_load_s": split_loaded_s, "whole_s": whole_s, "split_s": split_s}


def tokens(family: str, held: dict[str, torch.Tensor]) -> Row:
    """Tokens a second, whole and split, the first left out."""
    whole = [cut(family, held)]
    split = [cut(family, held, a, b) for a, b in itertools.pairwise(places(family))]
    x = torch.from_numpy(inputs.make(family, 0, 0))
    told: list[tuple[int, ...]] = []
    rates: list[list[float]] = [[], []]
    for turn in range(3):
        for slices, rate in zip((whole, split), rates, strict=True):
            seconds, found = _generated(slices, x)
            told.append(found)
            if turn:
                rate.append((TOKENS - 1) / seconds)
    assert len(set(told)) == 1, "a cut has changed the tokens"
    return {"whole_tokens_per_s": median(rates[0]), "split_tokens_per_s": median(rates[1])}


def _generated(slices: Sequence[Slice], x: torch.Tensor) -> tuple[float, tuple[int, ...]]:
    caches = [piece.caches() for piece in slices]
    for piece, kept in zip(slices, caches, strict=True):
        x = piece(x, kept)
    found = [next_token(x)]
    began = time.perf_counter()
    while len(found) < TOKENS:
        x = torch.tensor([found[-1:]])
        for piece, kept in zip(slices, caches, strict=True):
            if piece.generates:
                x = piece.step(view(sent(raw(x))) if len(slices) > 1 else x, kept)
        found.append(next_token(x))
    return time.perf_counter() - began, tuple(found)


def measure(family: str, folder: Path) -> list[Row]:
    path = weights.ensure(family, 0, folder)
    shared = {"family": family, "weights_bytes": path.stat().st_size}
    rows = [{**shared, "runtime": "torch", **once(Numeric({family: ModelFile(family, path)}), family)}]
    if getattr(config_of(family), "enters", None) is not None:
        rows[0] |= tokens(family, weights.load(path, family))
    else:
        files = OnnxFiles(family, path, onnxexport.ensure(family, folder))
        rows.append({**shared, "runtime": "onnxruntime", **once(Onnx({family: files}), family)})
    path.unlink()
    gc.collect()
    return rows


def bench(families: Sequence[str]) -> None:
    one_thread()
    table = Table("family", "runtime", "weights MB", "load s", "whole ms", "split ms", "tokens/s", "split", width=WIDTH)
    found: list[Row] = []
    for family in families:
        with tempfile.TemporaryDirectory(prefix="models-") as folder:
            found += measure(family, Path(folder))
        for row in (row for row in found if row["family"] == family):
            rates = [row.get(f"{way}_tokens_per_s") for way in ("whole", "split")]
            table.add_row(
                *(family, row["runtime"], f"{row['weights_bytes'] / 1e6:.0f}", f"{row['load_s']:.2f}"),
                *(f"{row[way] * 1e3:.1f}" for way in ("whole_s", "split_s")),
                *("" if rate is None else f"{rate:.1f}" for rate in rates),
            )
        RESULTS.mkdir(exist_ok=True)  # after each, for the large ones take their time
        (RESULTS / "models.json").write_text(json.dumps({"slices": SLICES, "models": found}, indent=1))
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="load, answers and tokens: whole and split")
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    bench(parser.parse_args().families)
