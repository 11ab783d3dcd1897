"""Tensors to frames and back: 4 bytes little-endian header length, the header, raw little-endian tensor bytes.

Rules: what arrives is believed only after its limits were checked, and nothing is allocated before that; one tensor
is a run of frames with chunk 0, 1, ... of the same request and step; chunk 0 begins a new tensor and drops an
unfinished one, because a sender may give up in the middle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from google.protobuf.message import DecodeError

from nodes.proto.data_pb2 import Header, WeightsHeader

HEADER_MAX_BYTES = 64 << 10
TENSOR_MAX_BYTES = 1 << 30
CHUNK_BYTES = 256 << 10
CHUNK_MAX_BYTES = 1 << 20
DIMS_MAX = 8
ITEM_BYTES = {"uint8": 1, "int64": 8, "float32": 4}
LENGTH_BYTES = 4


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

    @property
    def size_bytes(self) -> int:
        return len(self.data)


def same(a: Tensor, b: Tensor) -> bool:
    """Bitwise: type, shape and every byte."""
    return (a.dtype, a.shape) == (b.dtype, b.shape) and bytes(a.data) == bytes(b.data)


def check(dtype: str, shape: tuple[int, ...], size_bytes: int) -> None:
    """Raises `FrameError` unless a tensor of this description is allowed and its size is what the shape says."""
    item_bytes = ITEM_BYTES.get(dtype)
    if item_bytes is None:
        raise FrameError(f"dtype {dtype!r} is not one of {', '.join(ITEM_BYTES)}")
    if len(shape) > DIMS_MAX:
        raise FrameError(f"{len(shape)} dimensions, at most {DIMS_MAX} are allowed")
    if not 0 <= size_bytes <= TENSOR_MAX_BYTES:
        raise FrameError(f"a tensor of {size_bytes} bytes, at most {TENSOR_MAX_BYTES} are allowed")
    if prod(shape) * item_bytes != size_bytes:
        raise FrameError(f"shape {list(shape)} of {dtype} has {prod(shape) * item_bytes} bytes, not {size_bytes}")


def pack(header: Header | WeightsHeader, payload: memoryview | bytes = b"") -> bytes:
    """One frame."""
    head = header.SerializeToString()
    if len(head) > HEADER_MAX_BYTES:
        raise FrameError(f"a header of {len(head)} bytes, at most {HEADER_MAX_BYTES} are allowed")
    return b"".join((len(head).to_bytes(LENGTH_BYTES, "little"), head, payload))


def _cut(frame: bytes) -> tuple[memoryview, memoryview]:
    view = memoryview(frame)
    length = int.from_bytes(view[:LENGTH_BYTES], "little")
    if len(view) < LENGTH_BYTES:
        raise FrameError(f"a frame of {len(view)} bytes has no header length")
    if length > HEADER_MAX_BYTES:
        raise FrameError(f"a header of {length} bytes, at most {HEADER_MAX_BYTES} are allowed")
    if len(view) < LENGTH_BYTES + length:
        raise FrameError(f"a frame of {len(view)} bytes is too short for a header of {length}")
    payload = view[LENGTH_BYTES + length :]
    if len(payload) > CHUNK_MAX_BYTES:
        raise FrameError(f"a chunk of {len(payload)} bytes, at most {CHUNK_MAX_BYTES} are allowed")
    return view[LENGTH_BYTES : LENGTH_BYTES + length], payload


def unpack(frame: bytes) -> tuple[Header, memoryview]:
    """The inverse of `pack` for the data stream; raises `FrameError`."""
    head, payload = _cut(frame)
    try:
        return Header.FromString(bytes(head)), payload
    except DecodeError as error:
        raise FrameError("the header is not one") from error


def unpack_weights(frame: bytes) -> tuple[WeightsHeader, memoryview]:
    """The inverse of `pack` for the weights stream; raises `FrameError`."""
    head, payload = _cut(frame)
    try:
        return WeightsHeader.FromString(bytes(head)), payload
    except DecodeError as error:
        raise FrameError("the header is not one") from error


def chunks(data: bytes | bytearray | memoryview, chunk_bytes: int = CHUNK_BYTES) -> list[memoryview]:
    """Views of `data` in order; one empty view when there is nothing."""
    view = memoryview(data).cast("B")
    return [view[i : i + chunk_bytes] for i in range(0, max(1, len(view)), chunk_bytes)]


def frames(header: Header, tensor: Tensor | None, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The frames of one tensor (None: an error, header only). Route and spans travel in chunk 0 alone."""
    first = Header()
    first.CopyFrom(header)
    parts = chunks(b"" if tensor is None else tensor.data, chunk_bytes)
    first.chunk, first.chunks = 0, len(parts)
    del first.shape[:]
    if tensor is not None:
        check(tensor.dtype, tensor.shape, tensor.size_bytes)
        first.dtype, first.size_bytes = tensor.dtype, tensor.size_bytes
        first.shape.extend(tensor.shape)
    yield pack(first, parts[0])
    for i, part in enumerate(parts[1:], 1):
        yield pack(Header(request_id=header.request_id, step=header.step, chunk=i, chunks=len(parts)), part)


class Assembler:
    """Puts the frames of one stream together again; holds at most one unfinished tensor."""

    def __init__(self) -> None:
        self._header: Header | None = None
        self._data = bytearray()
        self._filled = 0
        self._next = 0

    def push(self, frame: bytes) -> tuple[Header, Tensor | None] | None:
        """The header of chunk 0 and the tensor (None for an error) once it is whole; raises `FrameError`."""
        header, payload = unpack(frame)
        if header.chunk == 0:
            self._begin(header)
        first = self._continues(header)
        end = self._filled + len(payload)
        if end > first.size_bytes or (header.chunk + 1 == first.chunks and end != first.size_bytes):
            self._header = None
            raise FrameError(f"{end} bytes by chunk {header.chunk} of {first.chunks}, not {first.size_bytes}", first)
        self._data[self._filled : end] = payload
        self._filled, self._next = end, header.chunk + 1
        if self._next < first.chunks:
            return None
        self._header = None
        return first, None if first.error_code else Tensor(first.dtype, tuple(first.shape), self._data)

    def _begin(self, header: Header) -> None:
        self._header = None
        if header.error_code:
            if header.size_bytes or header.chunks != 1:
                raise FrameError("an error frame carries no tensor", header)
        else:
            try:
                check(header.dtype, tuple(header.shape), header.size_bytes)
            except FrameError as error:
                raise FrameError(error.why, header) from error
        if not 1 <= header.chunks <= max(1, header.size_bytes):
            raise FrameError(f"{header.size_bytes} bytes in {header.chunks} chunks", header)
        self._data = bytearray(header.size_bytes)
        self._header, self._filled, self._next = header, 0, 0

    def _continues(self, header: Header) -> Header:
        first = self._header
        if first is None or header.chunk != self._next:
            self._header = None
            raise FrameError(f"chunk {header.chunk} of request {header.request_id} came out of order")
        if (header.request_id, header.step, header.chunks) != (first.request_id, first.step, first.chunks):
            self._header = None
            raise FrameError(f"chunk {header.chunk} belongs to another tensor", first)
        return first
