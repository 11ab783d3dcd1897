"""Weights on their way between agents: raw tensors of whole blocks, in chunks, with a running sha256 at the end.

Rules: the receiver says what it expects (a range of blocks, a limit of bytes) and takes nothing else; bytes whose
digest does not agree are refused as a whole.
"""

import hashlib
from collections.abc import Iterable, Iterator

import grpc

from nodes.proto.data_pb2 import WeightsHeader, WeightsRequest
from nodes.slices import Weights
from nodes.wire import codec
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.sealing import Sealing, door
from nodes.wire.tls import told
from nodes.wire.transport import WEIGHTS, open_channel


class ShippingError(Exception):
    """The weights did not come, or not as they were sent."""


class Digest:
    """sha256 over block, name, type, shape and bytes of every tensor in order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def tensor(self, header: WeightsHeader) -> None:
        self._sha.update(f"{header.block} {header.name} {header.dtype} {list(header.shape)}\n".encode())

    def update(self, chunk: memoryview) -> None:
        self._sha.update(chunk)

    def value(self) -> bytes:
        return self._sha.digest()


def ship(blocks: Iterable[tuple[int, str, Tensor]]) -> Iterator[bytes]:
    """The messages of the Weights method."""
    digest = Digest()
    for block, name, tensor in blocks:
        parts = codec.chunks(tensor.data)
        for i, part in enumerate(parts):
            header = WeightsHeader(block=block, name=name, chunk=i, chunks=len(parts))
            if i == 0:
                header.dtype, header.size_bytes = tensor.dtype, tensor.size_bytes
                header.shape.extend(tensor.shape)
                digest.tensor(header)
            digest.update(part)
            yield codec.pack(header, part)
    yield codec.pack(WeightsHeader(sha256=digest.value()))


class Unpacking:
    """Puts shipped tensors together; raises `FrameError` for what was not asked for."""

    def __init__(self, first: int, last: int, limit_bytes: int) -> None:
        self._blocks: dict[int, dict[str, Tensor]] = {block: {} for block in range(first, last)}
        self._left_bytes = limit_bytes
        self._digest = Digest()
        self._header: WeightsHeader | None = None
        self._data = bytearray()
        self._filled = 0
        self._next = 0
        self.done = False

    @property
    def blocks(self) -> Weights:
        return self._blocks

    def push(self, frame: bytes) -> int:
        """The bytes of tensors in this frame."""
        header, part = codec.unpack_weights(frame)
        if self.done:
            raise FrameError("weights after the end")
        if not header.name:
            self._end(header)
            return 0
        if header.chunk == 0:
            self._begin(header)
        now = self._header
        if now is None or (header.block, header.name, header.chunk) != (now.block, now.name, self._next):
            raise FrameError(f"chunk {header.chunk} of {header.name!r} came out of order")
        end = self._filled + len(part)
        if end > now.size_bytes:
            raise FrameError(f"{header.name!r} is longer than {now.size_bytes} bytes")
        self._data[self._filled : end] = part
        self._filled, self._next = end, self._next + 1
        self._digest.update(part)
        if end == now.size_bytes:
            self._blocks[now.block][now.name] = Tensor(now.dtype, tuple(now.shape), self._data)
            self._header = None
        return len(part)

    def _begin(self, header: WeightsHeader) -> None:
        if self._header is not None:
            raise FrameError(f"{self._header.name!r} is not whole")
        if header.block not in self._blocks or header.name in self._blocks[header.block]:
            raise FrameError(f"{header.name!r} of block {header.block} was not asked for")
        codec.check(header.dtype, tuple(header.shape), header.size_bytes)
        self._left_bytes -= header.size_bytes
        if self._left_bytes < 0:
            raise FrameError(f"{header.name!r} is {-self._left_bytes} bytes more than the blocks have")
        self._digest.tensor(header)
        self._header, self._filled, self._next = header, 0, 0
        self._data = bytearray(header.size_bytes)

    def _end(self, header: WeightsHeader) -> None:
        if self._header is not None:
            raise FrameError(f"{self._header.name!r} is not whole")
        if header.sha256 != self._digest.value():
            raise FrameError("the digest of what arrived is not the sender's")
        self.done = True


def way(address: str, request: WeightsRequest, sealing: Sealing | None = None) -> grpc.Channel:
    """A connection for such requests, so that others do not wait behind weights in one window."""
    sealing = sealing or Sealing()
    sealed = sealing.seals_weights(request)
    return open_channel(door(address, sealed=sealed), sealing.who(sealed=sealed))


def fetch(
    address: str, request: WeightsRequest, *, limit_bytes: int, deadline_s: float, sealing: Sealing | None = None
) -> tuple[Weights, int]:
    """The blocks from the agent at `address`, and how many bytes they were; raises `ShippingError`."""
    with way(address, request, sealing) as channel:
        return fetch_over(channel, address, request, limit_bytes=limit_bytes, deadline_s=deadline_s, sealing=sealing)


def fetch_over(
    channel: grpc.Channel,
    address: str,
    request: WeightsRequest,
    *,
    limit_bytes: int,
    deadline_s: float,
    sealing: Sealing | None = None,
) -> tuple[Weights, int]:
    """The same over a `way` that stays open."""
    unpacking, moved_bytes = Unpacking(request.first, request.last, limit_bytes), 0
    sealing = sealing or Sealing()
    identity = sealing.who(sealed=sealing.seals_weights(request))
    try:
        for frame in channel.unary_stream(WEIGHTS)(request.SerializeToString(), timeout=deadline_s):
            moved_bytes += unpacking.push(frame)
    except FrameError as error:
        raise ShippingError(f"{address} sent bad weights: {error.why}") from error
    except grpc.RpcError as error:
        why = f"{error.code().name}: {told(error.details() or '', identity)}"
        raise ShippingError(f"{address} did not send the weights: {why}") from error
    if not unpacking.done:
        raise ShippingError(f"{address} ended before the digest came")
    return unpacking.blocks, moved_bytes
