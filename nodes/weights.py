"""The weights of a model: made once, kept in a file, mapped where they are used, sent and received as raw bytes.

Rules: a file is made once per (family, seed, version) and never changed; weights are read where the mapping puts
them, never copied; received weights are believed only after their names, shapes and digest were checked. Both
kinds begin at multiples of 64 bytes (see tensorfile), else the same product could round differently.
"""

import ctypes
import errno
import hashlib
import mmap
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nodes import tensorfile
from nodes.models.config import MiniLmConfig, Shape, config_of, weight_shapes
from nodes.pretrained import minilm_folder

VERSION = 1  # of what `ensure` writes; a change of names, order or distribution needs a new one
SPREAD = 0.02  # standard deviation of made weights, cut off at twice that
ITEM_BYTES = 4  # all weights are float32
MADV_POPULATE_READ = 22  # linux/mman.h, since Linux 5.14


class WeightsError(ValueError):
    """The weights are not what was declared, or are not there."""


class Part(NamedTuple):
    """One weight on its way between two nodes."""

    name: str
    dtype: str
    shape: Shape
    data: memoryview  # raw little-endian bytes


def ensure(family: str, seed: int, cache_dir: Path) -> Path:
    """The weights file of a family, made if it is not there yet; several may try at once.

    Raises UnknownFamily, NotInstalled, OSError.
    """
    config = config_of(family)
    pretrained = isinstance(config, MiniLmConfig) and config.pretrained
    path = cache_dir / (f"{family}-v{VERSION}" + ("" if pretrained else f"-seed{seed}") + ".safetensors")
    if not path.exists():
        weights = _packaged(family) if pretrained else make(family, seed)
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        tensorfile.write(path, arrays, {"family": family, "digest": digest(weights)})
    return path


def make(family: str, seed: int) -> dict[str, torch.Tensor]:
    """Weights from a seed: norms 1, biases 0, the rest normal, cut off."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: Shape) -> torch.Tensor:
        if name.endswith(".bias"):
            return torch.zeros(shape)
        if name.endswith(".weight") and "norm" in name.lower():
            return torch.ones(shape)
        tensor = torch.empty(shape)
        return torch.nn.init.trunc_normal_(tensor, 0.0, SPREAD, -2 * SPREAD, 2 * SPREAD, generator=generator)

    return {name: draw(name, shape) for name, shape in weight_shapes(family).items()}


def _packaged(family: str) -> dict[str, torch.Tensor]:
    found = tensorfile.read(minilm_folder() / "model.safetensors")
    return {name: _tensor(found[name]) for name in weight_shapes(family)}


def load(path: Path, family: str) -> dict[str, torch.Tensor]:
    """The weights of a file, mapped read-only. Raises WeightsError unless they are those the family declares."""
    weights = {name: _tensor(array) for name, array in tensorfile.read(path).items()}
    _check({name: tuple(tensor.shape) for name, tensor in weights.items()}, weight_shapes(family), str(path))
    return weights


def _tensor(array: tensorfile.Array) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # that they cannot be written is the point
        return torch.from_numpy(array)


def _check(found: Mapping[str, Shape], declared: Mapping[str, Shape], where: str) -> None:
    for name in sorted(found.keys() | declared.keys()):
        if found.get(name) != declared.get(name):
            raise WeightsError(
                f"{where}: weight {name!r} is {found.get(name, 'missing')}, declared {declared.get(name, 'nowhere')}"
            )


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


def parts(weights: Mapping[str, torch.Tensor]) -> Iterator[Part]:
    """The raw bytes of weights in name order, not copied."""
    for name in sorted(weights):
        array = weights[name].numpy()
        yield Part(name, array.dtype.name, array.shape, array.data.cast("B"))


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 in hex over the raw bytes of the weights in name order."""
    sha = hashlib.sha256()
    for part in parts(weights):
        sha.update(part.data)
    return sha.hexdigest()


class Landing:
    """Where the declared weights of a slice arrive: one block of memory, filled in any order, chunk by chunk."""

    def __init__(self, declared: Mapping[str, Shape]) -> None:
        self._declared = dict(declared)
        self._places: dict[str, tuple[int, int]] = {}
        size = 0
        for name, shape in sorted(self._declared.items()):
            self._places[name] = (size, prod(shape) * ITEM_BYTES)
            size += -(-self._places[name][1] // tensorfile.ALIGNMENT) * tensorfile.ALIGNMENT
        self._missing = {name: place[1] for name, place in self._places.items()}
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE  # all pages at once: faults are dear
        self._memory = mmap.mmap(-1, max(size, 1), flags=flags)

    def declare(self, name: str, dtype: str, shape: Shape) -> None:
        """Raises WeightsError unless the sender speaks of a weight as it was declared here."""
        if name not in self._declared or shape != self._declared[name] or dtype != "float32":
            raise WeightsError(f"{name!r} of {dtype} {shape} was sent, declared {self._declared.get(name, 'nowhere')}")

    def write(self, name: str, offset: int, data: memoryview | bytes) -> None:
        """Puts bytes at `offset` of a weight; each byte is to be sent once. Raises WeightsError out of bounds."""
        begin, size = self._places.get(name, (0, -1))
        if not 0 <= offset <= offset + len(data) <= size:
            raise WeightsError(f"bytes {offset}..{offset + len(data)} of {name!r}, which has {max(size, 0)}")
        self._memory[begin + offset : begin + offset + len(data)] = data
        self._missing[name] -= len(data)

    def weights(self, expected_digest: str) -> dict[str, torch.Tensor]:
        """The weights, once all bytes are there and their digest is the expected one; else raises WeightsError."""
        short = [name for name, missing in self._missing.items() if missing]
        if short:
            raise WeightsError(f"{len(short)} weights are not whole, the first is {short[0]!r}")
        weights = {
            name: torch.from_numpy(np.frombuffer(self._memory, np.float32, size // ITEM_BYTES, begin)).view(
                self._declared[name]
            )
            for name, (begin, size) in self._places.items()
        }
        found = digest(weights)
        if found != expected_digest:
            raise WeightsError(f"the weights have digest {found}, expected {expected_digest}")
        return weights


def rebuild(arrived: Iterable[Part], declared: Mapping[str, Shape], expected_digest: str) -> dict[str, torch.Tensor]:
    """The inverse of `parts`. Raises WeightsError if names, shapes or bytes are not those declared."""
    landing = Landing(declared)
    for part in arrived:
        landing.declare(part.name, part.dtype, part.shape)
        landing.write(part.name, 0, part.data)
    return landing.weights(expected_digest)
