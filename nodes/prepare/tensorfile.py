"""Tensors in one file: the safetensors format, written whole or not at all, read where it lies. No torch.

Rules: a file appears under its name complete and synced; it is read by a shared read-only mapping, so that all
processes hold one copy; tensors begin at multiples of 64 bytes wherever their sizes let them, because a matrix
product may add in another order when its operands are aligned otherwise.
"""

import json
import mmap
import os
import struct
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ALIGNMENT = 64
PAGE = 4096
HEADER_LIMIT = 16 << 20
CODES = {"uint8": "U8", "int64": "I64", "float32": "F32"}
DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in CODES.items()}


class TensorFileError(ValueError):
    """The file is not a whole tensor file; `path` and `why` say which and what is wrong with it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; delete it, it is made anew")
        self.path, self.why = path, why


def write(path: Path, tensors: Mapping[str, Array], note: Mapping[str, str] | None = None) -> None:
    """Writes `tensors` (uint8, int64 or float32) under `path` by way of a synced temporary file and a rename."""
    # sizes that keep the alignment come first, so that only the last few tensors can lose it
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT != 0, name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(_header(tensors, order, note or {}))
            for name in order:
                file.write(np.ascontiguousarray(tensors[name]).data.cast("B"))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def read(path: Path) -> dict[str, Array]:
    """The tensors of a file, read-only views of its mapping. Raises TensorFileError, OSError."""
    header, start = _read_header(path)
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {name: _view(path, mapping, start, name, entry) for name, entry in header.items() if name != "__metadata__"}


def note(path: Path) -> dict[str, str]:
    """What was noted in the file when it was written. Raises TensorFileError, OSError."""
    found: dict[str, str] = _read_header(path)[0].get("__metadata__", {})
    return found


def _header(tensors: Mapping[str, Array], order: list[str], note: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(note)}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        code = CODES[tensors[name].dtype.name]
        entries[name] = {"dtype": code, "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % PAGE)  # the data begins at a page
    return struct.pack("<Q", len(text)) + text


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= HEADER_LIMIT:
            raise TensorFileError(path, "no header where a tensor file has one")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise TensorFileError(path, f"its header cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise TensorFileError(path, "its header is not a table of tensors")
    return header, 8 + length


def _view(path: Path, mapping: mmap.mmap, start: int, name: str, entry: dict[str, Any]) -> Array:
    try:
        dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise TensorFileError(path, f"the entry of {name!r} is malformed") from error
    if begin < 0 or end - begin != prod(shape) * dtype.itemsize or start + end > len(mapping):
        raise TensorFileError(path, f"the bytes of {name!r} are not all there")
    return np.frombuffer(mapping, dtype, prod(shape), start + begin).reshape(shape)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
