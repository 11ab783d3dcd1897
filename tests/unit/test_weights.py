"""The file of weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from nodes.prepare import answers, tensorfile, weights
from nodes.prepare.tensorfile import TensorFileError
from nodes.prepare.weights import WeightsError
from nodes.runtime.slicing import cut, one_thread


def test_file_is_made_once_and_read_by_the_library_too(tmp_path: Path) -> None:
    path = weights.ensure("vit_tiny", 3, tmp_path)
    made_at = path.stat().st_mtime_ns
    assert weights.ensure("vit_tiny", 3, tmp_path) == path
    assert path.stat().st_mtime_ns == made_at
    assert [p.name for p in tmp_path.iterdir()] == ["vit_tiny-v1-seed3.safetensors"]  # no temporary file stays
    library, made = load_file(path), weights.make("vit_tiny", 3)
    assert library.keys() == made.keys()
    assert all((library[name] == made[name].numpy()).all() for name in made)
    assert tensorfile.note(path)["digest"] == weights.digest(made)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        tensorfile.write(tmp_path / "a.safetensors", {"x": np.zeros(3, np.complex64)})
    assert list(tmp_path.iterdir()) == []


def test_loaded_weights_are_mapped_aligned_and_equal(tmp_path: Path) -> None:
    loaded, made = weights.load(weights.ensure("vit_tiny", 0, tmp_path), "vit_tiny"), weights.make("vit_tiny", 0)
    assert all(torch.equal(loaded[name], made[name]) for name in made)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in loaded.values())
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert maps
    assert all(line[1] == "r--s" for line in maps)  # shared between processes, and nobody can write
    lows, highs = zip(*(map(lambda x: int(x, 16), line[0].split("-")) for line in maps), strict=True)
    assert all(any(lo <= t.data_ptr() < hi for lo, hi in zip(lows, highs, strict=True)) for t in loaded.values())


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    path = weights.ensure("vit_tiny", 0, tmp_path)
    whole = path.read_bytes()
    with pytest.raises(WeightsError, match=r"'classifier.bias' is \(10,\), declared nowhere"):
        weights.load(path, "minilm_tiny")
    for broken, why in ((whole[:-1], "not all there"), (b"", "no header"), (b"\xff" * 64, "no header")):
        path.write_bytes(broken)
        with pytest.raises(TensorFileError, match=why):
            weights.load(path, "vit_tiny")
    path.write_bytes((16).to_bytes(8, "little") + b"{" * 16)
    with pytest.raises(TensorFileError, match="header cannot be read"):
        weights.load(path, "vit_tiny")
    save_file({"x": np.zeros(3, np.float16)}, path)
    with pytest.raises(TensorFileError, match="malformed"):
        tensorfile.read(path)
    made = weights.make("vit_tiny", 0)
    tensorfile.write(path, {**{name: t.numpy() for name, t in made.items()}, "classifier.bias": np.zeros(10, np.int64)})
    with pytest.raises(WeightsError, match=r"'classifier.bias' is torch.int64, declared torch.float32"):
        weights.load(path, "vit_tiny")


def test_populate_brings_pages_in(tmp_path: Path) -> None:
    loaded = weights.load(weights.ensure("vit_tiny", 0, tmp_path), "vit_tiny")
    size = sum(tensor.nbytes for tensor in loaded.values())
    assert weights.populate([]) == 0
    asked = weights.populate(loaded.values())
    assert asked == 0 or size <= asked <= size + 2 * 4096  # 0: a kernel before 5.14


def test_digest_is_of_all_bytes_in_name_order() -> None:
    made = weights.make("vit_tiny", 0)
    known = weights.digest(made)
    assert weights.digest(dict(reversed(made.items()))) == known
    changed = {**made, "classifier.bias": torch.full((10,), 1e-45)}  # one bit
    assert weights.digest(changed) != known


def test_answers_are_those_of_the_unsplit_model_and_kept(tmp_path: Path) -> None:
    one_thread()
    for family in ("vit_tiny", "minilm_tiny"):
        weights_file, answers_file = answers.prepare(family, 3, 5, tmp_path)
        kept = tensorfile.read(answers_file)
        assert sorted(kept) == sorted(f"{kind}.{i}" for kind in ("input", "answer") for i in range(3))
        model = cut(family, weights.load(weights_file, family))
        for i in range(3):
            assert (model(torch.tensor(kept[f"input.{i}"])).numpy() == kept[f"answer.{i}"]).all()
        made_at = answers_file.stat().st_mtime_ns
        assert answers.prepare(family, 3, 5, tmp_path) == (weights_file, answers_file)
        assert answers_file.stat().st_mtime_ns == made_at
        assert answers.prepare(family, 4, 5, tmp_path)[1] != answers_file
