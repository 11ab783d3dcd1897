"""How tensors and weights cross the emulated network: gRPC streams of raw frames, no protobuf on the payload.

    testbed.Data/Deliver   one persistent bidirectional stream an edge: frames one way, a small ack a whole tensor back
    testbed.Data/Weights   a request, then the raw tensors of blocks in chunks, then their sha256

Rules: frames of an edge keep their order; a tensor that is not acked is lost by name (PEER_LOST), never sent twice;
only the stream itself is opened again, with bounded backoff. A peer that makes no progress until the deadline of a
tensor has its stream cancelled; one that is slow keeps it, else what is behind the late tensor would be lost too.
"""

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import grpc

from nodes import codec
from nodes.clock import Alarm, Clock, Timer
from nodes.codec import FrameError, Tensor
from nodes.proto.data_pb2 import Header

MESSAGE_MAX_BYTES = codec.LENGTH_BYTES + codec.HEADER_MAX_BYTES + codec.CHUNK_MAX_BYTES
DELIVER = "/testbed.Data/Deliver"
WEIGHTS = "/testbed.Data/Weights"
ACK = struct.Struct("<QI")  # request, step
BACKOFF_US = (100_000, 200_000, 400_000, 800_000, 1_600_000, 2_000_000)
STREAMS_MAX = 48

# What is not written here is a default that differs from place to place or measures the network behind our back.
_BOTH: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),  # a fixed window instead: no probing traffic, the same bytes each run
    ("grpc.http2.lookahead_bytes", 4 << 20),
]
CLIENT_OPTIONS: list[tuple[str, Any]] = [
    *_BOTH,
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
SERVER_OPTIONS: list[tuple[str, Any]] = [
    *_BOTH,
    ("grpc.so_reuseport", 0),  # two servers on one port would share the requests in silence
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
]


def open_channel(address: str) -> grpc.Channel:
    """A channel to "10.0.0.4:5000", without name lookup or proxy."""
    return grpc.insecure_channel(f"ipv4:{address}", options=CLIENT_OPTIONS)


class PortTaken(Exception):
    """Another server has the address."""


class Refused(Exception):
    """This node cannot give what was asked for; the text says why."""


class Receiver(Protocol):
    """What a data server gives to; called on the stream's thread, must not block."""

    def deliver(self, header: Header, tensor: Tensor | None) -> bool:
        """A whole tensor, or an error (None). False: not accepted, no ack."""
        ...

    def refuse(self, error: FrameError) -> bool:
        """A bad frame with a readable header. False: not accepted, no ack."""
        ...

    def weights(self, request: bytes) -> Iterator[bytes]:
        """Messages of the Weights method; raises `Refused`."""
        ...


class DataServer:
    """Listens on the node's own address only."""

    def __init__(self, address: str, receiver: Receiver, pool: ThreadPoolExecutor) -> None:
        self._receiver = receiver
        handlers = {
            "Deliver": grpc.stream_stream_rpc_method_handler(self._deliver),
            "Weights": grpc.unary_stream_rpc_method_handler(self._weights),
        }
        self._server = grpc.server(
            pool,
            handlers=[grpc.method_handlers_generic_handler("testbed.Data", handlers)],
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=STREAMS_MAX,
        )
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortTaken(f"cannot listen on {address}: is another agent there?") from error
        self._server.start()

    def close(self) -> None:
        self._server.stop(grace=None).wait()

    def _deliver(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        assembler = codec.Assembler()
        for frame in frames:
            try:
                whole = assembler.push(frame)
                if whole is None:
                    continue
                header, accepted = whole[0], self._receiver.deliver(*whole)
            except FrameError as error:
                if error.header is None:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.why)
                    return
                header, accepted = error.header, self._receiver.refuse(error)
            if accepted:
                yield ACK.pack(header.request_id, header.step)

    def _weights(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from self._receiver.weights(request)
        except Refused as refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))


class Parcel:
    """One tensor (or error) on its way over an edge."""

    __slots__ = ("acks_before", "alarm", "deadline_us", "header", "live", "tensor")

    def __init__(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        self.header = header
        self.tensor = tensor
        self.deadline_us = deadline_us
        self.live = True
        self.alarm: Alarm | None = None
        self.acks_before = 0

    @property
    def key(self) -> tuple[int, int]:
        return self.header.request_id, self.header.step


class Edge:
    """The way to one peer: an ordered queue and the thread that keeps its stream open.

    `lost(header, why)` is called for every tensor that was not acked, from any thread.
    """

    def __init__(self, address: str, clock: Clock, timer: Timer, lost: Callable[[Header, str], None]) -> None:
        self.address = address
        self._clock = clock
        self._timer = timer
        self._lost = lost
        self._condition = threading.Condition()
        self._waiting: deque[Parcel] = deque()
        self._unacked: dict[tuple[int, int], Parcel] = {}
        self._acks = 0
        self._failures = 0  # in a row
        self._taken = False  # something for the stream of now
        self._stream = 0  # frames of an earlier stream's iterator go nowhere
        self._call: Any = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"edge {address}", daemon=True)
        self._thread.start()

    def send(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        """Returns at once; the edge owns both arguments from here on."""
        parcel = Parcel(header, tensor, deadline_us)
        with self._condition:
            self._waiting.append(parcel)
            self._condition.notify_all()
            parcel.alarm = self._timer.at(deadline_us, lambda: self._expire(parcel))

    def await_end(self, header: Header, limit_us: int) -> None:
        """Waits until what was sent with this header was acked or lost."""
        key = header.request_id, header.step
        with self._condition:
            self._condition.wait_for(
                lambda: key not in self._unacked and all(parcel.key != key for parcel in self._waiting), limit_us / 1e6
            )

    def drain(self, limit_us: int) -> None:
        """Waits until everything was acked or lost."""
        with self._condition:
            self._condition.wait_for(lambda: not self._waiting and not self._unacked, limit_us / 1e6)

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            if self._call is not None:
                self._call.cancel()
        self._thread.join()

    def _run(self) -> None:
        while self._await_work():
            # a channel of its own for each stream: a kept one would be in a backoff that hides that the peer is back
            with open_channel(self.address) as channel:
                why = self._stream_over(channel)
            self._break(why)
        self._break("this node ends")

    def _stream_over(self, channel: grpc.Channel) -> str:
        """Sends and takes acks until the stream ends; why it did."""
        try:
            with self._condition:
                self._stream += 1
                self._taken = False
                self._call = call = channel.stream_stream(DELIVER)(self._frames(self._stream))
            for ack in call:
                self._acked(ACK.unpack(ack))
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "the peer ended the stream"

    def _await_work(self) -> bool:
        """Waits until there is something to send and the backoff is over; False: closed."""
        with self._condition:
            if self._failures:
                pause_us = BACKOFF_US[min(self._failures, len(BACKOFF_US)) - 1]
                self._condition.wait_for(lambda: self._closed, pause_us / 1e6)
            self._condition.wait_for(lambda: self._closed or self._waiting)
            return not self._closed

    def _frames(self, stream: int) -> Iterator[bytes]:
        while (parcel := self._take(stream)) is not None:
            for frame in codec.frames(parcel.header, parcel.tensor):
                if not parcel.live:
                    break
                yield frame

    def _take(self, stream: int) -> Parcel | None:
        with self._condition:
            self._condition.wait_for(lambda: self._closed or stream != self._stream or self._waiting)
            if self._closed or stream != self._stream:
                return None
            parcel = self._waiting.popleft()
            parcel.acks_before, self._taken = self._acks, True
            self._unacked[parcel.key] = parcel
            return parcel

    def _acked(self, key: tuple[int, int]) -> None:
        with self._condition:
            self._acks += 1
            self._failures = 0
            parcel = self._unacked.pop(key, None)
            self._condition.notify_all()
        if parcel is not None and parcel.alarm is not None:
            parcel.alarm.cancel()

    def _break(self, why: str) -> None:
        """The stream is gone and what was not acked with it; what waits goes over the next one."""
        with self._condition:
            self._stream += 1
            self._call = None
            self._failures += 1
            gone = list(self._unacked.values())
            self._unacked.clear()
            if self._closed:
                gone += self._waiting
                self._waiting.clear()
            elif self._waiting and not self._taken:
                gone.append(self._waiting.popleft())  # it was for this one that the stream was opened in vain
            self._condition.notify_all()
        for parcel in gone:
            self._lose(parcel, why)

    def _expire(self, parcel: Parcel) -> None:
        with self._condition:
            if parcel in self._waiting:
                self._waiting.remove(parcel)
                why = "not sent by the deadline"
            elif self._unacked.pop(parcel.key, None) is parcel:
                why = "not acked by the deadline"
                if self._call is not None and self._acks == parcel.acks_before:
                    self._stream += 1  # so that nothing more is taken for the stream that ends
                    self._condition.notify_all()
                    self._call.cancel()
            else:
                return
        self._lose(parcel, why)

    def _lose(self, parcel: Parcel, why: str) -> None:
        parcel.live = False
        if parcel.alarm is not None:
            parcel.alarm.cancel()
        self._lost(parcel.header, f"{self.address}: {why}")
