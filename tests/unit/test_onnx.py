"""ONNX Runtime as the runtime of a model: torch's answers but for rounding, its own bits wherever it is cut."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nodes.models import chain_of
from nodes.models.config import CONFIGS
from nodes.prepare import inputs, onnxanswers, onnxexport, tensorfile, weights
from nodes.prepare.pretrained import NotInstalled
from nodes.proto.data_pb2 import Header
from nodes.runtime import onnx
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.onnx import Onnx, OnnxFiles
from nodes.runtime.slicing import one_thread
from nodes.slices import BadTensor, ByModel, LoadError
from nodes.wire import codec
from nodes.wire.codec import Assembler, Tensor, frames
from testbed.experiment import ExperimentError, load_experiment
from tests.unit.exporting import one_table  # noqa: F401
from tests.unit.oracles import lively

FAMILY = "minilm_tiny"
UNITS = len(chain_of(FAMILY).units)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def files(folder, one_table):  # noqa: F811
    """With weights none of which is 0 or 1."""
    one_thread()
    path = folder / "lively.safetensors"
    tensorfile.write(path, {name: tensor.numpy() for name, tensor in lively(FAMILY).items()})
    return OnnxFiles(FAMILY, path, onnxexport.ensure(FAMILY, folder))


@pytest.fixture(scope="module")
def loader(files):
    return Onnx({FAMILY: files})


def tensor_of(array):
    return Tensor(array.dtype.name, tuple(array.shape), np.ascontiguousarray(array).data.cast("B"))


def question(index):
    return tensor_of(inputs.make(FAMILY, 0, index))


def sent(tensor):
    """As it comes out of the frames of a message."""
    assembler = Assembler()
    (whole,) = filter(None, (assembler.push(frame) for frame in frames(Header(request_id=1), tensor, 1000)))
    return whole[1]


def test_every_cut_gives_the_bits_of_the_uncut_model(loader):
    for i in range(3):
        whole = loader.load(FAMILY, 0, UNITS, None).run(question(i))
        for at in range(1, UNITS):
            crossing = sent(loader.load(FAMILY, 0, at, None).run(sent(question(i))))
            assert codec.same(loader.load(FAMILY, at, UNITS, None).run(crossing), whole), at


def test_answers_are_those_of_torch_but_for_rounding_at_every_length(files, loader):
    theirs = Numeric({FAMILY: ModelFile(FAMILY, files.weights_file)}).load(FAMILY, 0, UNITS, None)
    ours = loader.load(FAMILY, 0, UNITS, None)
    for tokens in (1, 2, 5, 23, 64):
        x = tensor_of(np.arange(tokens, dtype=np.int64)[None] * 7 % 128)
        right, found = (np.frombuffer(piece.run(x).data, np.float32) for piece in (theirs, ours))
        assert np.abs(found - right).max() < 1e-5 * np.abs(right).max(), tokens


def test_weights_that_came_over_the_network_give_the_same_slice(files, loader):
    received = {block: {n: sent(t) for n, t in loader.weights(FAMILY, block)} for block in range(1, 4)}
    here, there = loader.load(FAMILY, 1, 4, None), loader.load(FAMILY, 1, 4, received)
    x = loader.load(FAMILY, 0, 1, None).run(question(0))
    assert codec.same(here.run(x), there.run(x))
    in_torch = Numeric({FAMILY: ModelFile(FAMILY, files.weights_file)})
    assert here.digest == there.digest == in_torch.load(FAMILY, 1, 4, None).digest
    assert all(
        codec.same(a[1], b[1])
        for block in range(UNITS)
        for a, b in zip(loader.weights(FAMILY, block), in_torch.weights(FAMILY, block), strict=True)
    )


def test_both_runtimes_serve_side_by_side_and_warm(files):
    runs = ByModel(
        {
            "a": Numeric({"a": ModelFile(FAMILY, files.weights_file)}, warm=True),
            "b": Onnx({"b": files}, warm=True),
        }
    )
    half = {name: runs.load(name, 0, 2, None).run(question(0)) for name in "ab"}
    assert half["a"].shape == half["b"].shape
    assert [name for name, _ in runs.weights("a", 1)] == [name for name, _ in runs.weights("b", 1)]
    with pytest.raises(LoadError, match="generates nothing"):
        runs.keep("b")


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("float32", (1, 3), bytes(12)),
        Tensor("int64", (1, 0), b""),
        Tensor("int64", (2, 3), bytes(48)),
        Tensor("int64", (1, 3), bytes(23)),
        Tensor("float16", (1, 3), bytes(6)),
        Tensor("object", (1,), bytes(8)),
        Tensor("int64", (2**40, 2**40), bytes(8)),
        tensor_of(np.full((1, 4), 128)),  # the vocabulary ends at 127
        tensor_of(np.zeros((1, 65), np.int64)),  # 64 positions
    ],
    ids=lambda tensor: f"{tensor.dtype} {tensor.shape}",
)
def test_what_a_slice_cannot_take_is_a_bad_tensor(loader, tensor):
    with pytest.raises(BadTensor):
        loader.load(FAMILY, 0, UNITS, None).run(tensor)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda held, name: held.pop(name), "missing"),
        (lambda held, name: held.update(other=held[name]), "declared nowhere"),
        (lambda held, name: held.update({name: Tensor("float32", (1, 64), bytes(256))}), r"is \(1, 64\), declared"),
        (lambda held, name: held.update({name: Tensor("int64", (64,), bytes(512))}), "int64, declared float32"),
        (lambda held, name: held.update({name: Tensor("float32", (64,), bytes(3))}), "3 bytes are no float32"),
    ],
    ids=["missing", "further", "shape", "type", "bytes"],
)
def test_weights_that_are_not_those_of_the_slice_are_refused(loader, change, why):
    held = {1: dict(loader.weights(FAMILY, 1))}
    change(held[1], next(name for name, tensor in held[1].items() if tensor.shape == (64,)))
    with pytest.raises(LoadError, match=why):
        loader.load(FAMILY, 1, 2, held)


def test_files_and_ranges_that_are_none_are_load_errors(files, loader, tmp_path):
    (tmp_path / "index.json").write_text("[")
    for broken in (
        OnnxFiles(FAMILY, tmp_path / "gone", files.graphs_folder),
        OnnxFiles(FAMILY, files.weights_file, tmp_path / "gone"),
        OnnxFiles(FAMILY, files.weights_file, tmp_path),
    ):
        with pytest.raises(LoadError):
            Onnx({"m": broken}).load("m", 0, 1, None)
    with pytest.raises(LoadError, match=r"has 0\.\.5"):
        loader.load(FAMILY, 3, 9, None)


def test_graphs_hold_no_weights_and_equal_layers_share_one(files, folder):
    graphs = json.loads((files.graphs_folder / "index.json").read_text())
    assert len(graphs) == UNITS
    assert graphs[1] == graphs[2] == graphs[3]
    held = list(files.graphs_folder.glob("*.onnx"))
    assert {path.name for path in held} == set(graphs)
    assert all(str(ROOT).encode() not in path.read_bytes() for path in held)
    assert sum(path.stat().st_size for path in held) < 64 << 10 < files.weights_file.stat().st_size
    before = held[0].stat().st_mtime_ns
    assert onnxexport.ensure(FAMILY, folder) == files.graphs_folder
    assert held[0].stat().st_mtime_ns == before


def test_right_answers_are_its_own_confirmed_by_torch(folder, files, monkeypatch):
    weights_file, answers_file, graphs = onnxanswers.prepare(FAMILY, 2, 0, folder)
    assert (weights_file, graphs) == (weights.ensure(FAMILY, 0, folder), files.graphs_folder)
    held = tensorfile.read(answers_file)
    run = Onnx({FAMILY: OnnxFiles(FAMILY, weights_file, graphs)}).load(FAMILY, 0, UNITS, None).run
    for i in range(2):
        assert codec.same(run(question(i)), tensor_of(held[f"answer.{i}"]))
    assert 0 <= float(tensorfile.note(answers_file)["off_torch"]) < 1e-5
    assert onnxanswers.prepare(FAMILY, 2, 0, folder)[1] == answers_file
    monkeypatch.setattr(onnxanswers, "TOLERANCE", -1.0)
    with pytest.raises(onnxanswers.AnswersDiffer, match=r"off torch, at most -1\.0 is right"):
        onnxanswers.prepare(FAMILY, 3, 0, folder)


@pytest.mark.parametrize("family", [family for family in CONFIGS if chain_of(family).enters is not None])
def test_a_family_that_generates_is_refused_by_name(family, tmp_path):
    with pytest.raises(onnxexport.CannotExport, match=f"{family} generates text"):
        onnxexport.ensure(family, tmp_path)
    sets = (f"models.text.family={family}", "models.text.runtime=onnxruntime")
    with pytest.raises(ExperimentError, match=f"'{family}' generates text, which onnxruntime does not"):
        load_experiment(ROOT / "topologies" / "minimal.yaml", sets=sets, families=sorted(CONFIGS))


def test_an_experiment_names_its_runtime():
    path = ROOT / "topologies" / "minimal.yaml"
    assert load_experiment(path).models["text"].runtime == "torch"
    assert load_experiment(path, sets=("models.text.runtime=onnxruntime",)).models["text"].runtime == "onnxruntime"
    with pytest.raises(ExperimentError, match="did you mean 'onnxruntime'"):
        load_experiment(path, sets=("models.text.runtime=onxruntime",))


def test_what_is_missing_is_named(files, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    onnx.runtime.cache_clear()
    with pytest.raises(NotInstalled, match="install the package onnxruntime"):
        Onnx({FAMILY: files})
    monkeypatch.setattr(onnxexport, "PACKAGES", ("onnx", "onnx-that-is-not-there"))
    with pytest.raises(NotInstalled, match="needs the package onnx-that-is-not-there"):
        onnxexport.ensure(FAMILY, tmp_path)
    monkeypatch.undo()
    onnx.runtime.cache_clear()


def test_a_process_that_has_imported_it_has_one_thread_and_no_torch():
    """Else it could not be forked; the thread would be the one that reports to the makers of ONNX Runtime."""
    code = "import nodes.runtime.onnx, onnxruntime, sys, os\n"
    code += "print(len(os.listdir('/proc/self/task')), 'torch' in sys.modules)"
    env = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == ["1", "False"]
