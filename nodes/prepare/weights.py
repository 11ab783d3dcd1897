"""The weights of a model: made once, kept in a file, mapped where they are used.

Rules: a file is made once per (family, seed, version) and never changed; weights are read where the mapping puts
them, never copied, and begin at multiples of 64 bytes (see tensorfile), else the same product could round
differently. All weights are float32.
"""

import ctypes
import errno
import hashlib
import math
import mmap
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from nodes.models.config import config_of, weight_shapes
from nodes.models.decoders import LlamaConfig
from nodes.models.shapes import Shape
from nodes.prepare import tensorfile
from nodes.prepare.pretrained import minilm_folder
from nodes.prepare.weightsfile import packaged, weights_path

MADV_POPULATE_READ = 22  # linux/mman.h, since Linux 5.14


class WeightsError(ValueError):
    """The weights are not what was declared, or are not there."""


def ensure(family: str, seed: int, cache_dir: Path) -> Path:
    """The weights file of a family, made if it is not there yet; several may try at once.

    Raises UnknownFamily, NotInstalled, OSError.
    """
    path = weights_path(family, seed, cache_dir)
    if not path.exists():
        weights = _packaged(family) if packaged(family) else make(family, seed)
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        tensorfile.write(path, arrays, {"family": family, "digest": digest(weights)})
    return path


def make(family: str, seed: int) -> dict[str, torch.Tensor]:
    """Weights from a seed: norms 1, biases 0, the rest normal, cut off at twice its standard deviation.

    That is the config's `spread`; of a convolution what keeps the size of its output, because without training the
    batch norms behind it do not.
    """
    generator, spread = torch.Generator().manual_seed(seed), config_of(family).spread

    def draw(name: str, shape: Shape) -> torch.Tensor:
        if name.endswith((".bias", ".running_mean")):
            return torch.zeros(shape)
        if name.endswith(".running_var") or (name.endswith(".weight") and _is_norm(name)):
            return torch.ones(shape)
        tensor = torch.empty(shape)
        wide = math.sqrt(2 / math.prod(shape[1:])) if name.endswith(".convolution.weight") else spread
        return torch.nn.init.trunc_normal_(tensor, 0.0, wide, -2 * wide, 2 * wide, generator=generator)

    return {name: draw(name, shape) for name, shape in weight_shapes(family).items()}


def _is_norm(name: str) -> bool:
    return "norm" in name.lower() or ".ln_" in name


def _packaged(family: str) -> dict[str, torch.Tensor]:
    config = config_of(family)
    if isinstance(config, LlamaConfig):
        from nodes.prepare import smollm  # its reader of files is for the preparation outside only

        found = smollm.weights(config)
    else:
        found = tensorfile.read(minilm_folder() / "model.safetensors")
    return {name: _tensor(found[name]) for name in weight_shapes(family)}


def load(path: Path, family: str) -> dict[str, torch.Tensor]:
    """The weights of a file, mapped read-only. Raises WeightsError unless they are those the family declares."""
    weights = {name: _tensor(array) for name, array in tensorfile.read(path).items()}
    check(weights, weight_shapes(family), str(path))
    return weights


def _tensor(array: tensorfile.Array) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # that they cannot be written is the point
        return torch.from_numpy(array)


def check(found: Mapping[str, torch.Tensor], declared: Mapping[str, Shape], where: str) -> None:
    """Raises WeightsError unless there are the declared weights and no others; `where` begins the message."""
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    for name in sorted(shapes.keys() | declared.keys()):
        if shapes.get(name) != declared.get(name):
            raise WeightsError(
                f"{where}: weight {name!r} is {shapes.get(name, 'missing')}, declared {declared.get(name, 'nowhere')}"
            )
        if found[name].dtype != torch.float32:
            raise WeightsError(f"{where}: weight {name!r} is {found[name].dtype}, declared torch.float32")


def populate(tensors: Iterable[torch.Tensor]) -> int:
    """Brings the pages of mapped tensors in, in few system calls; returns the bytes asked for.

    0 where the kernel does not know how (before Linux 5.14): the pages then come one by one as they are touched.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for begin, end in _page_runs(tensors):
        if libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_POPULATE_READ) == 0:
            total += end - begin
        elif ctypes.get_errno() == errno.EINVAL:
            return total
        else:
            raise OSError(ctypes.get_errno(), f"madvise: {os.strerror(ctypes.get_errno())}")
    return total


def _page_runs(tensors: Iterable[torch.Tensor]) -> list[tuple[int, int]]:
    """The pages the tensors lie in, neighbours joined: (first address, address behind the last)."""
    page = mmap.PAGESIZE
    runs: list[tuple[int, int]] = []
    for address, size in sorted((t.data_ptr(), t.nbytes) for t in tensors):
        begin, end = address // page * page, -(-(address + size) // page) * page
        if runs and begin <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
        else:
            runs.append((begin, end))
    return runs


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 in hex over the raw bytes of the weights in name order."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(weights[name].numpy().data.cast("B"))
    return sha.hexdigest()
