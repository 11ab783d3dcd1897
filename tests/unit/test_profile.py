"""The arithmetic of costs against what torch counts and what the tensors are."""

import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from nodes.costing.measure import measure
from nodes.costing.profile import NotGenerating, profile, step_profile
from nodes.models.config import CONFIGS, UnknownFamily, weight_shapes
from nodes.prepare import inputs
from nodes.runtime.slicing import cut, one_thread
from testbed.cli import app


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operators make and the most that was alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):  # inputs and weights are not made here
            if isinstance(leaf, torch.Tensor):
                self._seen.setdefault(leaf.untyped_storage().data_ptr(), 0)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in self._seen:
                self._follow(leaf.untyped_storage())
        return made

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        self._seen[address] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.now -= self._seen.pop(address)


class ReadWeights(TorchDispatchMode):
    """Bytes of weights that operators read: all of what they are given, of a table the rows that are looked up."""

    LOOKS = ("aten::slice", "aten::select", "aten::view", "aten::t", "aten::transpose", "aten::split", "aten::_unsafe")

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._held = {tensor.untyped_storage().data_ptr() for tensor in weights.values()}
        self.read = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.name().startswith(self.LOOKS):
            held = [
                leaf
                for leaf in tree_leaves((args, kwargs))
                if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() in self._held
            ]
            self.read += made.nbytes if "embedding" in func.name() else sum(leaf.nbytes for leaf in held)
        return made


FAMILIES = [
    *("vit_tiny", "vit_b16", "minilm_tiny", "bert_tiny", "mobilenet_tiny", "mobilenet_v2"),
    *("whisper_tiny", "gpt2_tiny", "llama_tiny"),
]


def blank(family: str) -> dict[str, torch.Tensor]:
    """Weights of the right shapes, at no cost."""
    return {name: torch.zeros(shape) for name, shape in weight_shapes(family).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_and_sizes_are_those_of_the_real_thing(family: str) -> None:
    one_thread()
    made = blank(family)
    x = torch.from_numpy(inputs.make(family, 0, 0))
    costs = profile(family, x.shape[1])  # the tokens; a picture has its own
    assert costs.input_bytes == x.nbytes
    for i, cost in enumerate(costs.units):
        piece = cut(family, made, i, i + 1)
        with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
            y = piece(x)
        assert counted.get_total_flops() == cost.flops, cost.name
        assert piece.weight_bytes == cost.weight_bytes, cost.name
        assert y.nbytes == cost.output_bytes, cost.name
        x = y


@pytest.mark.parametrize("family", FAMILIES)
def test_working_bytes_are_what_is_alive_at_once(family: str) -> None:
    one_thread()
    made = blank(family)
    x = torch.from_numpy(inputs.make(family, 0, 0)).clone()  # where torch puts it, no slice needs a copy
    for i, cost in enumerate(profile(family, x.shape[1]).units):
        piece = cut(family, made, i, i + 1)
        with LiveBytes() as live:
            y = piece(x)
        measured = live.peak + x.nbytes
        assert measured <= cost.working_bytes * 1.02, (cost.name, measured)
        assert measured >= cost.working_bytes * 0.6, (cost.name, measured)
        x = y


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "vit_b16"])
def test_weights_read_in_a_pass_are_those_that_operators_take(family: str) -> None:
    one_thread()
    made = blank(family)
    x = torch.from_numpy(inputs.make(family, 0, 0)).clone()
    tokens = CONFIGS[family].tokens if "whisper" in family else x.shape[1]
    for i, cost in enumerate(profile(family, tokens).units):
        piece = cut(family, made, i, i + 1)
        entering = x.nbytes
        with ReadWeights(piece.weights) as reading:
            x = piece(x)
        kept = tokens * cost.kv_bytes_per_token + cost.kept_bytes
        read = cost.work.read_bytes - entering - x.nbytes - kept
        twice = piece.weights.get("embeddings.token_type_embeddings.weight")  # the profile counts its second row, too
        assert read == reading.read + (0 if twice is None else twice[0].nbytes), cost.name


STEPS = [*((family, count) for family in ("gpt2_tiny", "llama_tiny", "whisper_tiny") for count in (1, 3)), ("gpt2", 1)]


@pytest.mark.parametrize(("family", "count"), STEPS)
def test_a_step_costs_what_torch_counts_and_the_caches_hold(family: str, count: int) -> None:
    one_thread()
    made = blank(family)
    x = torch.from_numpy(inputs.make(family, 0, 0)).clone()
    costs = profile(family, x.shape[1])
    pieces = [cut(family, made, i, i + 1) for i in range(len(costs.units))]
    caches = [piece.caches() for piece in pieces]
    for piece, kept in zip(pieces, caches, strict=True):
        x = piece(x, kept)
    length = next(cache.length for held in caches for cache in held.values())
    steps = step_profile(family, length, count)
    x = torch.ones(1, count, dtype=torch.int64)
    assert x.nbytes == steps.input_bytes
    for piece, held, cost in zip(pieces, caches, steps.units, strict=True):
        if not piece.generates:
            assert (cost.flops, cost.read_bytes, cost.output_bytes) == (0, 0, 0)
            continue
        with ReadWeights(piece.weights) as reading:
            entering = x.nbytes
            with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
                x = piece.step(x, held)
        caches_bytes = sum(t.nbytes for cache in held.values() for t in cache.tensors().values())
        assert counted.get_total_flops() == cost.flops, cost.name
        assert x.nbytes == cost.output_bytes, cost.name
        assert caches_bytes == (length + count) * cost.kv_bytes_per_token + cost.kept_bytes, cost.name
        assert cost.read_bytes == reading.read + entering + x.nbytes + caches_bytes, cost.name


def test_a_step_is_bound_by_memory_and_grows_by_its_keys_and_values() -> None:
    step, later = step_profile("smollm2", 100), step_profile("smollm2", 1100)
    weights = sum(unit.work.shared_bytes for unit in step.units)
    assert 0.53e9 < weights < 0.54e9  # 134.5 million weights, the table of words once
    assert sum(unit.flops for unit in step.units) / weights < 1  # a processor does ten or more for a byte that it reads
    more = sum(b.read_bytes - a.read_bytes for a, b in zip(step.units, later.units, strict=True))
    assert more == 1000 * 30 * 2 * 3 * 64 * 4  # layers, keys and values, groups, their width, bytes


def test_what_generates_nothing_has_no_step() -> None:
    with pytest.raises(NotGenerating, match="vit_b16 generates nothing"):
        step_profile("vit_b16", 1)


def test_the_full_model_has_its_known_size() -> None:
    costs = profile("vit_b16")
    assert [unit.name for unit in costs.units] == ["embed", *(f"layer{i}" for i in range(12)), "head"]
    assert sum(unit.weight_bytes for unit in costs.units) == 4 * 86_567_656
    assert 35.0e9 < sum(unit.flops for unit in costs.units) < 35.2e9  # 17.6 billion multiply-adds
    assert costs.input_bytes == 150_528
    assert [unit.output_bytes for unit in costs.units] == [197 * 768 * 4] * 13 + [4000]


def test_privacy_classes() -> None:
    for family in CONFIGS:
        costs = profile(family)
        assert costs.input_class == "raw"
        assert {unit.output_class for unit in costs.units[:-1]} == {"feature"}
    assert profile("vit_b16").units[-1].output_class == "public"
    assert profile("minilm").units[-1].output_class == "feature"


def test_unknown_family() -> None:
    with pytest.raises(UnknownFamily, match="no model family 'resnet'"):
        profile("resnet")


def test_torch_stays_out() -> None:
    code = "import sys, nodes.prepare.tensorfile, nodes.prepare.inputs as i; from nodes.costing import profile\n"
    code += "profile.profile('vit_b16');"
    code += "i.make('vit_tiny', 0, 0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def told(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["profile", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_command_tells_and_saves_what_the_profile_says(tmp_path: Path) -> None:
    said = told("gpt2", "--tokens", "100", "--save", str(tmp_path / "gpt2.json"))
    assert json.loads((tmp_path / "gpt2.json").read_text()) == said
    costs, step = profile("gpt2", 100), step_profile("gpt2", 100)
    assert [unit["flops"] for unit in said["units"]] == [unit.flops for unit in costs.units]
    assert [unit["output_bytes"] for unit in said["units"]] == [unit.output_bytes for unit in costs.units]
    assert [unit["read_bytes"] for unit in said["step"]["units"]] == [unit.read_bytes for unit in step.units]
    assert said["step"]["total"]["kv_bytes_per_token"] == 12 * 2 * 768 * 4
    assert "step" not in told("vit_b16")


def test_the_command_prints_a_row_a_unit() -> None:
    done = CliRunner().invoke(app, ["profile", "whisper_tiny"])
    assert done.exit_code == 0
    for unit in profile("whisper_tiny").units:
        assert f" {unit.name} " in done.stdout
    assert "The next token" in done.stdout


def test_each_unit_is_measured_and_the_rate_is_flops_over_time() -> None:
    measured, costs = measure("llama_tiny", runs=3), profile("llama_tiny")
    assert measured.tokens == measured.length == CONFIGS["llama_tiny"].tokens
    assert len(measured.pass_ns) == len(measured.step_ns) == len(costs.units) and min(measured.pass_ns) > 0
    assert measure("vit_tiny", runs=1).step_ns == (None,) * len(profile("vit_tiny").units)
    for unit in told("llama_tiny", "--measure")["units"]:
        assert unit["gflops_per_s"] == pytest.approx(unit["flops"] / unit["median_ms"] / 1e6)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["resnet"], "no model family 'resnet'"),
        (["gpt2", "--tokens", "1024"], "gpt2 has positions for 1024"),
    ],
)
def test_wrong_input_ends_with_2_and_says_why(words: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["profile", *words])
    assert done.exit_code == 2 and why in done.output
