"""Tensors to frames and back: 4 bytes little-endian header length, the header, raw little-endian tensor bytes.

A frame without a header holds the acks of tensors, and with nothing in it asks for those that wait.

Rules: what arrives is believed only after its limits were checked, and nothing is allocated for what was announced,
only for what came; a tensor of one chunk stays where the frame lies, a longer one is copied once; one tensor is a run
of frames with chunk 0, 1, ... of the same request and step; chunk 0 begins a new tensor and drops an unfinished one,
because a sender may give up in the middle.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import TypeVar

from google.protobuf.message import DecodeError

from nodes.proto.data_pb2 import Header, WeightsHeader

Head = TypeVar("Head", Header, WeightsHeader)
HEADER_MAX_BYTES = 64 << 10
TENSOR_MAX_BYTES = 1 << 30
CHUNK_BYTES = 512 << 10  # twice as large gains no more, and half costs a third of a large tensor's time
CHUNK_MAX_BYTES = 1 << 20
DIMS_MAX = 8
ITEM_BYTES = {"uint8": 1, "int64": 8, "float32": 4}
WIRE_BYTES = {"fp16": 2, "int8": 1}  # of a float32 value with fewer bits (nodes/wire/quantise.py)
SCALE_BYTES = 4  # int8: each row has a float32 scale
LENGTH_BYTES = 4
ASK = bytes(LENGTH_BYTES)  # the acks that wait are wanted now
_ACK = struct.Struct("<QII")

Key = tuple[int, int, int]  # request, step, and lane: no two tensors on the way to the same node have the same


class FrameError(ValueError):
    """The sender's fault: `header` is there when it could be read, so that the request can be failed by name."""

    def __init__(self, why: str, header: Header | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.header = header


@dataclass(frozen=True, slots=True)
class Tensor:
    """Raw little-endian bytes and what they mean."""

    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview
    wire: str = ""  # a key of WIRE_BYTES: `data` holds the values with fewer bits

    @property
    def size_bytes(self) -> int:
        return len(self.data)


def same(a: Tensor, b: Tensor) -> bool:
    """Bitwise: type, shape and every byte."""
    return (a.dtype, a.shape, a.wire) == (b.dtype, b.shape, b.wire) and bytes(a.data) == bytes(b.data)


def wire_bytes(shape: tuple[int, ...], wire: str) -> int:
    """Of float32 values with fewer bits; a row is the last dimension."""
    items = prod(shape)
    scales = prod(shape[:-1]) if wire == "int8" and items else 0
    return items * WIRE_BYTES[wire] + scales * SCALE_BYTES


def check(dtype: str, shape: tuple[int, ...], size_bytes: int, wire: str = "") -> None:
    """Raises `FrameError` unless a tensor of this description is allowed and its size is what the shape says."""
    item_bytes = ITEM_BYTES.get(dtype)
    if item_bytes is None:
        raise FrameError(f"dtype {dtype!r:.40} is not one of {', '.join(ITEM_BYTES)}")
    if len(shape) > DIMS_MAX:
        raise FrameError(f"{len(shape)} dimensions, at most {DIMS_MAX} are allowed")
    if not 0 <= size_bytes <= TENSOR_MAX_BYTES:
        raise FrameError(f"a tensor of {size_bytes} bytes, at most {TENSOR_MAX_BYTES} are allowed")
    if wire and (wire not in WIRE_BYTES or dtype != "float32"):
        raise FrameError(f"{dtype} does not travel as {wire!r:.40}: only float32 does, as {' or '.join(WIRE_BYTES)}")
    expected_bytes = wire_bytes(shape, wire) if wire else prod(shape) * item_bytes
    if expected_bytes != size_bytes:
        raise FrameError(f"shape {list(shape)} of {wire or dtype} has {expected_bytes} bytes, not {size_bytes}")


def pack(header: Header | WeightsHeader, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """One frame."""
    head = header.SerializeToString()
    if len(head) > HEADER_MAX_BYTES:
        raise FrameError(f"a header of {len(head)} bytes, at most {HEADER_MAX_BYTES} are allowed")
    return b"".join((len(head).to_bytes(LENGTH_BYTES, "little"), head, payload))


def _cut(frame: bytes) -> tuple[bytes, memoryview]:
    if len(frame) < LENGTH_BYTES:
        raise FrameError(f"a frame of {len(frame)} bytes has no header length")
    length = int.from_bytes(frame[:LENGTH_BYTES], "little")
    if length > HEADER_MAX_BYTES:
        raise FrameError(f"a header of {length} bytes, at most {HEADER_MAX_BYTES} are allowed")
    begin = LENGTH_BYTES + length
    if len(frame) < begin:
        raise FrameError(f"a frame of {len(frame)} bytes is too short for a header of {length}")
    if len(frame) - begin > CHUNK_MAX_BYTES:
        raise FrameError(f"a chunk of {len(frame) - begin} bytes, at most {CHUNK_MAX_BYTES} are allowed")
    return frame[LENGTH_BYTES:begin], memoryview(frame)[begin:]


def unpack(frame: bytes) -> tuple[Header, memoryview]:
    """The inverse of `pack` for the data stream; raises `FrameError`."""
    return _parsed(Header, frame)


def unpack_weights(frame: bytes) -> tuple[WeightsHeader, memoryview]:
    """The inverse of `pack` for the weights stream; raises `FrameError`."""
    return _parsed(WeightsHeader, frame)


def _parsed(kind: type[Head], frame: bytes) -> tuple[Head, memoryview]:
    head, payload = _cut(frame)
    try:
        return kind.FromString(head), payload
    except DecodeError as error:
        raise FrameError("the header is not one") from error


def key_of(header: Header) -> Key:
    return header.request_id, header.step, header.lane


def acks(keys: Iterable[Key]) -> bytes:
    """The frame that says these tensors were accepted."""
    return b"".join((ASK, *(_ACK.pack(*key) for key in keys)))


def acked(frame: bytes) -> list[Key]:
    """What a frame says was accepted; empty when it is none that does. Raises `FrameError`."""
    if not frame.startswith(ASK) or frame == ASK:
        return []
    if (len(frame) - len(ASK)) % _ACK.size:
        raise FrameError(f"acks of {len(frame) - len(ASK)} bytes are not all whole")
    return list(_ACK.iter_unpack(memoryview(frame)[len(ASK) :]))


def chunks(data: bytes | bytearray | memoryview, chunk_bytes: int = CHUNK_BYTES) -> list[memoryview]:
    """Views of `data` in order; one empty view when there is nothing."""
    view = memoryview(data).cast("B")
    if len(view) <= chunk_bytes:
        return [view]
    return [view[i : i + chunk_bytes] for i in range(0, len(view), chunk_bytes)]


def frames(header: Header, tensor: Tensor | None, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The frames of one tensor (None: an error, header only), which the header is made to describe.

    Route and spans travel in chunk 0 alone.
    """
    data = b"" if tensor is None else tensor.data
    if len(data) <= chunk_bytes:
        return iter((_first(header, tensor, data, 1),))
    parts = chunks(data, chunk_bytes)
    first = _first(header, tensor, parts[0], len(parts))
    return chain((first,), (_further(header, i, parts) for i in range(1, len(parts))))


def _first(header: Header, tensor: Tensor | None, part: bytes | bytearray | memoryview, count: int) -> bytes:
    header.chunk, header.chunks = 0, count
    del header.shape[:]
    if tensor is not None:
        check(tensor.dtype, tensor.shape, len(tensor.data), tensor.wire)
        header.dtype, header.size_bytes, header.wire = tensor.dtype, len(tensor.data), tensor.wire
        header.shape.extend(tensor.shape)
    return pack(header, part)


def _further(header: Header, i: int, parts: Sequence[memoryview]) -> bytes:
    return pack(Header(request_id=header.request_id, step=header.step, chunk=i, chunks=len(parts)), parts[i])


def _announced(header: Header) -> tuple[int, tuple[int, ...], int]:
    """Size, shape and number of chunks, if they may be; raises `FrameError`."""
    size_bytes, shape, count = header.size_bytes, tuple(header.shape), header.chunks
    if header.error_code:
        if size_bytes or count != 1:
            raise FrameError("an error frame carries no tensor", header)
    else:
        try:
            check(header.dtype, shape, size_bytes, header.wire)
        except FrameError as error:
            raise FrameError(error.why, header) from error
    if not 1 <= count <= max(1, size_bytes):
        raise FrameError(f"{size_bytes} bytes in {count} chunks", header)
    return size_bytes, shape, count


class Assembler:
    """Puts the frames of one stream together again; holds at most one unfinished tensor."""

    def __init__(self) -> None:
        self._header: Header | None = None
        self._size_bytes = 0
        self._shape: tuple[int, ...] = ()
        self._parts: list[memoryview] = []
        self._filled = 0

    @property
    def idle(self) -> bool:
        """No tensor is unfinished."""
        return self._header is None

    def push(self, frame: bytes) -> tuple[Header, Tensor | None] | None:
        """The header of chunk 0 and the tensor (None for an error) once it is whole; raises `FrameError`."""
        header, payload = unpack(frame)
        if header.chunk == 0:
            self._drop()
            self._size_bytes, self._shape, count = _announced(header)
            if count == 1:
                return self._whole(header, payload)
            self._header = header
        first = self._continues(header)
        self._parts.append(payload)
        self._filled += len(payload)
        last = header.chunk + 1 == first.chunks
        if self._filled > self._size_bytes or (last and self._filled != self._size_bytes):
            why = f"{self._filled} bytes by chunk {header.chunk} of {first.chunks}, not {self._size_bytes}"
            self._drop()
            raise FrameError(why, first)
        if not last:
            return None
        data = b"".join(self._parts)
        self._drop()
        return self._whole(first, data)

    def _whole(self, header: Header, data: bytes | memoryview) -> tuple[Header, Tensor | None]:
        if len(data) != self._size_bytes:
            raise FrameError(f"{len(data)} bytes in one chunk, not {self._size_bytes}", header)
        return header, None if header.error_code else Tensor(header.dtype, self._shape, data, header.wire)

    def _drop(self) -> None:
        self._header, self._parts, self._filled = None, [], 0

    def _continues(self, header: Header) -> Header:
        first = self._header
        if first is header:
            return first
        if first is None or header.chunk != len(self._parts):
            self._drop()
            raise FrameError(f"chunk {header.chunk} of request {header.request_id} came out of order")
        if (header.request_id, header.step, header.chunks) != (first.request_id, first.step, first.chunks):
            self._drop()
            raise FrameError(f"chunk {header.chunk} belongs to another tensor", first)
        return first
