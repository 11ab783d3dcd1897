"""A module of one's own in slices: the bits of the module, wherever it is cut, saved or not; and why it is not cut."""

import itertools
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import nodes
from nodes import CannotCut, NotASlice, Slice, cut_points, slice_model
from nodes.costing.profile import profile
from nodes.models.config import config_of
from nodes.models.encoders import MobileNetConfig, VitConfig
from nodes.models.program import BadProgram, operation
from nodes.prepare import inputs, tensorfile
from nodes.runtime.slicing import SliceError, one_thread
from nodes.sdk import balanced
from tests.scenarios.test_models_traced import Residual, Transformers
from tests.unit.oracles import lively

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()
    torch.manual_seed(0)


def run(slices, x):
    for part in slices:
        x = part(x)
    return x


class Attentive(nn.Module):
    """What is hard to write down: attention, a mask of booleans, a chunk, a constant of float64, infinity, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 24)
        self.norm = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)
        self.register_buffer("scale", torch.tensor([1.5], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.inner(x).chunk(3, dim=-1)
        hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
        y = torch.softmax((q @ k.transpose(1, 2)).masked_fill(hidden, float("-inf")), dim=-1) @ v
        x = self.dropout(self.norm(x + y)) * self.scale.to(torch.float32)
        return self.head(x)


MODULES = {
    "residual": (Residual, (1, 8)),
    "attentive": (Attentive, (1, 5, 8)),
    "convolutional": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7)),
        (1, 3, 8, 8),
    ),
    "recurrent": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), (6, 4)),
}


@pytest.mark.parametrize("name", MODULES)
def test_slices_in_a_row_give_the_bits_of_the_module_before_and_after_a_file(name, tmp_path):
    make, shape = MODULES[name]
    module, example = make(), torch.randn(shape)
    slices = slice_model(module, example)
    assert len(slices) == len(cut_points(module, example)) + 1 > 1
    for part in slices:
        part.save(tmp_path / f"{part.index}.safetensors")
    loaded = [Slice.load(tmp_path / f"{part.index}.safetensors") for part in slices]
    for _ in range(3):
        x = torch.randn(shape)
        assert torch.equal(run(slices, x), module(x))
        assert torch.equal(run(loaded, x), module(x))
    for part, again in zip(slices, loaded, strict=True):
        assert (part.model, part.index, part.count, part.flops) == (again.model, again.index, again.count, again.flops)
        assert (part.input_bytes, part.output_bytes, part.digest) == (
            again.input_bytes,
            again.output_bytes,
            again.digest,
        )
        assert load_file(tmp_path / f"{part.index}.safetensors").keys() >= part.weights.keys()  # as others read it


def test_every_choice_of_cuts_gives_the_same_bits():
    module, x = Residual(), torch.randn(1, 8)
    for cuts in itertools.chain.from_iterable(itertools.combinations((1, 2), n) for n in range(3)):
        slices = slice_model(module, x, cuts=cuts)
        assert [part.count for part in slices] == [len(cuts) + 1] * len(slices)
        assert torch.equal(run(slices, x), module(x))
    held = [{name.split(".")[0] for name in part.weights} for part in slice_model(module, x, at=["inner.1", "head"])]
    assert held == [{"inner"}, {"inner"}, {"head"}]
    assert {name for name in slice_model(module, x, at="inner.1")[0].weights} == {
        f"inner.0.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }  # fmt: skip


@pytest.mark.parametrize("family", ["vit_tiny", "gpt2_tiny"])
def test_flops_and_bytes_are_those_of_the_profile(family):
    x = torch.from_numpy(inputs.make(family, 0, 0))
    pictures = isinstance(config_of(family), VitConfig | MobileNetConfig)
    y = torch.randn(1, 3, *x.shape[1:3]) if pictures else x
    slices = slice_model(Transformers(family, lively(family)), y, parts=3)
    known = profile(family, None if pictures else x.shape[1])
    all_tokens = 0
    if family == "gpt2_tiny":  # transformers scores every token, the profile's model the last
        all_tokens = (x.shape[1] - 1) * known.units[-1].flops
    assert sum(part.flops for part in slices) == sum(unit.flops for unit in known.units) + all_tokens
    crossing = {unit.output_bytes for unit in known.units}
    assert {part.output_bytes for part in slices[:-1]} & crossing
    assert [part.input_bytes for part in slices[1:]] == [part.output_bytes for part in slices[:-1]]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.data())
def test_parts_are_as_even_as_can_be(weights, data):
    parts = data.draw(st.integers(1, len(weights)))
    cuts = balanced(weights, parts)
    assert cuts == sorted({*cuts})
    assert len(cuts) == parts - 1

    def heaviest(where):
        return max(sum(weights[a:b]) for a, b in itertools.pairwise((0, *where, len(weights))))

    every = itertools.combinations(range(1, len(weights)), parts - 1)
    assert heaviest(cuts) == min(map(heaviest, every))


def test_cuts_that_are_none_are_refused_by_what_would_be_right():
    module, x = Residual(), torch.randn(1, 8)
    for asked, why in (
        ({"parts": 4}, "4 parts of 3 units; 1 to 3 are right"),
        ({"parts": 0}, "0 parts of 3 units"),
        ({"cuts": [1, 3]}, "cut 3 of 3 units; 1 to 2 are right"),
        ({"cuts": [1], "parts": 2}, "give one of them"),
        ({"at": "tail"}, r"no submodule 'tail' computes anything; there are head, inner\.0\.0"),
        ({"at": "inner.0"}, r"2 tensors are alive: \(1, 8\), the input; \(1, 8\)"),
        ({"at": "inner.1.1"}, r"2 tensors are alive: .*\(1, 16\) of 'inner\.1\.0' \(test_models_traced\.py:\d+\)"),
    ):
        with pytest.raises(CannotCut, match=why):
            slice_model(module, x, **asked)


class Branching(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y + 1 if y.sum() > 0 else y


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.ModuleList(nn.Linear(3, 3) for _ in range(2)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x, x
        for left, right in zip(self.left, self.right, strict=True):
            a, b = left(a), right(b)
        return a + b


class Chancy(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(super().forward(x) + torch.rand(3))


def test_a_module_that_cannot_be_cut_says_where_and_why():
    x = torch.ones(1, 3)
    with pytest.raises(CannotCut, match=r"\(test_sdk\.py:\d+: `return y \+ 1 if y\.sum\(\) > 0 else y`\)"):
        slice_model(Branching(3, 3), x)
    with pytest.raises(
        CannotCut, match=r"cannot be cut anywhere: behind .* 2 tensors are alive: .*'right\.0'.*'left\.1'"
    ):
        slice_model(Parallel(), x, parts=2)
    assert len(slice_model(Parallel(), x)) == 1
    with pytest.raises(CannotCut, match="other bits than itself: is there chance in it"):
        slice_model(Chancy(3, 3), x)


def test_what_does_not_fit_a_slice_is_refused():
    _, head = slice_model(Residual(), torch.randn(1, 8), at="head")
    for x in (torch.zeros(2, 8), torch.zeros(1, 8, dtype=torch.int64), torch.zeros(8)):
        with pytest.raises(SliceError, match=r"takes contiguous float32 \(1, 8\)"):
            head(x)


def test_files_that_are_no_slices_are_refused(tmp_path):
    path, other = tmp_path / "slice.safetensors", tmp_path / "other.safetensors"
    slice_model(Residual(), torch.randn(1, 8), cuts=[1])[0].save(path)
    held, note = {**tensorfile.read(path)}, tensorfile.note(path)

    def spoilt(tensors, **changed):
        tensorfile.write(other, tensors, {**note, **changed})
        return other

    fewer = {name: tensor for name, tensor in held.items() if not name.endswith("weight")}
    turned = {name: tensor.T.copy() for name, tensor in held.items()}
    said = note["description"]
    for tensors, changed in (
        (held, {"format": "slice 0"}),
        (fewer, {}),
        (turned, {}),
        (held, {"description": "{"}),
        (held, {"description": "[]"}),
        (held, {"description": said.replace("aten.linear.default", "aten.system.default")}),
        (held, {"description": said.replace("aten.linear.default", "os.system.default")}),
        (held, {"description": said.replace("aten.linear.default", "aten.linear.__class__")}),
        (held, {"description": said.replace('["gelu"', '["relu"')}),
        (held, {"description": said.replace('"leaving": "add"', '"leaving": "sub"')}),
        (held, {"description": said.replace('"device": "cpu"', '"device": "nowhere"')}),
    ):
        with pytest.raises(NotASlice, match=r"other\.safetensors: "):
            Slice.load(spoilt(tensors, **changed))
    other.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(NotASlice, match="not all there"):
        Slice.load(other)
    with pytest.raises(FileNotFoundError):
        Slice.load(tmp_path / "gone")


@pytest.mark.parametrize(
    "target", ["aten.linear", "aten..default", "builtins.eval", "aten.linear.default.x", "getattr"]
)
def test_only_operators_of_aten_can_be_named(target):
    with pytest.raises(BadProgram):
        operation(target)


def test_the_example_runs(capsys):
    runpy.run_path(str(ROOT / "examples" / "own_model.py"), run_name="__main__")
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "the same bits: True"
    assert sum(line.startswith("slice ") for line in told) == 2


def test_names_are_brought_in_when_they_are_asked_for():
    assert {name for name in nodes.__all__ if getattr(nodes, name).__name__ == name} == set(nodes.__all__)
    with pytest.raises(AttributeError, match="no attribute 'slices_of'"):
        nodes.slices_of  # noqa: B018
    code = "import sys, nodes; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False"]
