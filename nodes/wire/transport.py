"""How tensors and weights cross the emulated network: gRPC streams of raw frames, no protobuf on the payload.

    testbed.Data/Deliver   one persistent bidirectional stream an edge: frames one way, a small ack a whole tensor back
    testbed.Data/Weights   a request, then the raw tensors of blocks in chunks, then their sha256

Rules: frames of an edge keep their order; a tensor that is not acked is lost by name (PEER_LOST), never sent twice;
only the stream itself is opened again, with bounded backoff. A peer that makes no progress until the deadline of a
tensor has its stream cancelled; one that is slow keeps it, else what is behind the late tensor would be lost too. What
an edge holds is bounded in bytes: a tensor beyond it is refused at once (BUSY), nothing waits outside the edge.
"""

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from nodes.clock import Alarm, Clock, Timer
from nodes.proto.data_pb2 import Header, WeightsRequest
from nodes.wire import codec
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.goodput import Goodput
from nodes.wire.sealing import Sealing, door
from nodes.wire.tls import Identity, refusal, told

MESSAGE_MAX_BYTES = codec.LENGTH_BYTES + codec.HEADER_MAX_BYTES + codec.CHUNK_MAX_BYTES
DELIVER = "/testbed.Data/Deliver"
WEIGHTS = "/testbed.Data/Weights"
ACK = struct.Struct("<QII")  # of the tensor: its key
BACKOFF_US = (100_000, 200_000, 400_000, 800_000, 1_600_000, 2_000_000)
STREAMS_MAX = 512  # two doors of each host of the largest network there may be
EDGE_MAX_BYTES = 64 << 20

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
    ("grpc.server_handshake_timeout_ms", 10_000),  # who connects and says nothing is not kept for two minutes
]


def open_channel(address: str, identity: Identity | None = None) -> grpc.Channel:
    """A channel to "10.0.0.4:5000", without name lookup or proxy; as somebody: encrypted, both sides proven."""
    if identity is None:
        return grpc.insecure_channel(f"ipv4:{address}", options=CLIENT_OPTIONS)
    return grpc.secure_channel(f"ipv4:{address}", identity.channel_credentials(), options=CLIENT_OPTIONS)


Key = tuple[int, int, int]  # request, step, and lane: no two tensors on the way to the same node have the same


class PortTaken(Exception):
    """Another server has the address."""


class Busy(Exception):
    """The edge holds as much as it may; the text says how much."""


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

    def turned_away(self, why: str) -> None:
        """A peer that may not do what it wanted."""
        ...


class DataServer:
    """Listens on the node's own address only, at the doors that the sealing has."""

    def __init__(
        self, address: str, receiver: Receiver, pool: ThreadPoolExecutor, sealing: Sealing | None = None
    ) -> None:
        self._receiver = receiver
        self._sealing = sealing or Sealing()
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
        self.ports = [self._listen(address, sealed=sealed) for sealed in self._sealing.doors]
        self._server.start()

    def _listen(self, address: str, *, sealed: bool) -> int:
        where, identity = door(address, sealed=sealed), self._sealing.who(sealed=sealed)
        try:
            if identity is None:
                return int(self._server.add_insecure_port(where))
            return int(self._server.add_secure_port(where, identity.server_credentials()))
        except RuntimeError as error:
            raise PortTaken(f"cannot listen on {where}: is another agent there?") from error

    def close(self) -> None:
        self._server.stop(grace=None).wait()

    def _deliver(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        plain = not self._admit("Deliver", context)
        assembler = codec.Assembler()
        for frame in frames:
            try:
                whole = assembler.push(frame)
                if whole is None:
                    continue
                if plain and self._sealing.seals(whole[0]):
                    raise FrameError("it must be encrypted, and came as anybody could read it", whole[0])
                header, accepted = whole[0], self._receiver.deliver(*whole)
            except FrameError as error:
                if error.header is None:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.why)
                    return
                header, accepted = error.header, self._receiver.refuse(error)
            if accepted:
                yield ACK.pack(*key_of(header))

    def _weights(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        sealed = self._admit("Weights", context)
        try:
            if not sealed and self._sealing.seals_weights(WeightsRequest.FromString(request)):
                raise Refused("keys and values leave encrypted only")
            yield from self._receiver.weights(request)
        except DecodeError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is none")
        except Refused as refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))

    def _admit(self, method: str, context: grpc.ServicerContext) -> bool:
        """Whether the peer came by the sealed door; one that may not do this is turned away, by name."""
        auth = context.auth_context()
        if b"ssl" not in auth.get("transport_security_type", ()):
            return False
        identity = self._sealing.identity
        why = refusal(method, auth, context.peer(), identity.run if identity else "")
        if why:
            self._receiver.turned_away(why)
            context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
        return True


def key_of(header: Header) -> Key:
    return header.request_id, header.step, header.lane


class Parcel:
    """One tensor (or error) on its way over an edge."""

    __slots__ = ("acks_before", "alarm", "deadline_us", "header", "live", "size_bytes", "taken_us", "tensor")

    def __init__(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        self.header = header
        self.tensor = tensor
        self.deadline_us = deadline_us
        self.size_bytes = header.ByteSize() + (0 if tensor is None else tensor.size_bytes)
        self.live = True
        self.alarm: Alarm | None = None
        self.acks_before = 0
        self.taken_us = 0

    @property
    def key(self) -> Key:
        return key_of(self.header)


class Edge:
    """The way to one peer: an ordered queue and the thread that keeps its stream open.

    `lost(header, why)` is called for every tensor that was not acked, from any thread. With an identity: encrypted.
    """

    def __init__(
        self,
        address: str,
        clock: Clock,
        timer: Timer,
        lost: Callable[[Header, str], None],
        *,
        identity: Identity | None = None,
        limit_bytes: int = EDGE_MAX_BYTES,
    ) -> None:
        self.address = address
        self._identity = identity
        self._limit_bytes = limit_bytes
        self._held_bytes = 0  # waiting or not acked
        self._goodput = Goodput()
        self._clock = clock
        self._timer = timer
        self._lost = lost
        # two, so that an ack wakes nobody who waits for work; both have the one lock
        lock = threading.RLock()
        self._work, self._ends = threading.Condition(lock), threading.Condition(lock)
        self._waiting: deque[Parcel] = deque()
        self._unacked: dict[Key, Parcel] = {}
        self._acks = 0
        self._failures = 0  # in a row
        self._taken = False  # something for the stream of now
        self._stream = 0  # frames of an earlier stream's iterator go nowhere
        self._call: Any = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"edge {address}", daemon=True)
        self._thread.start()

    def send(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        """Returns at once; the edge owns both arguments from here on.

        Raises `Busy`; an idle edge takes any size, and every edge an error: it is small, and the phone waits for it.
        """
        parcel = Parcel(header, tensor, deadline_us)
        with self._work:
            if tensor and self._held_bytes and self._held_bytes + parcel.size_bytes > self._limit_bytes:
                raise Busy(f"{self.address}: {self._held_bytes} bytes are on their way, at most {self._limit_bytes}")
            self._held_bytes += parcel.size_bytes
            self._waiting.append(parcel)
            parcel.alarm = self._timer.at(deadline_us, lambda: self._expire(parcel))
            self._work.notify_all()

    @property
    def rate_bps(self) -> int:
        """What the way to the peer was last seen to carry; 0: not known."""
        with self._work:
            return self._goodput.rate_bps

    def await_end(self, header: Header, limit_us: int) -> None:
        """Waits until what was sent with this header was acked or lost."""
        key = key_of(header)
        with self._work:
            self._ends.wait_for(
                lambda: key not in self._unacked and all(parcel.key != key for parcel in self._waiting), limit_us / 1e6
            )

    def drain(self, limit_us: int) -> None:
        """Waits until everything was acked or lost."""
        with self._work:
            self._ends.wait_for(lambda: not self._waiting and not self._unacked, limit_us / 1e6)

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify_all()
            if self._call is not None:
                self._call.cancel()
        self._thread.join()

    def _run(self) -> None:
        while self._await_work():
            # a channel of its own for each stream: a kept one would be in a backoff that hides that the peer is back
            with open_channel(self.address, self._identity) as channel:
                why = self._stream_over(channel)
            self._break(why)
        self._break("this node ends")

    def _stream_over(self, channel: grpc.Channel) -> str:
        """Sends and takes acks until the stream ends; why it did."""
        try:
            with self._work:
                self._stream += 1
                self._taken = False
                self._call = call = channel.stream_stream(DELIVER)(self._frames(self._stream))
            for ack in call:
                self._acked(ACK.unpack(ack))
        except grpc.RpcError as error:
            return f"{error.code().name}: {told(error.details() or '', self._identity)}"
        return "the peer ended the stream"

    def _await_work(self) -> bool:
        """Waits until there is something to send and the backoff is over; False: closed."""
        with self._work:
            if self._failures:
                pause_us = BACKOFF_US[min(self._failures, len(BACKOFF_US)) - 1]
                self._work.wait_for(lambda: self._closed, pause_us / 1e6)
            self._work.wait_for(lambda: self._closed or self._waiting)
            return not self._closed

    def _frames(self, stream: int) -> Iterator[bytes]:
        while (parcel := self._take(stream)) is not None:
            for frame in codec.frames(parcel.header, parcel.tensor):
                if not parcel.live:
                    break
                yield frame

    def _take(self, stream: int) -> Parcel | None:
        with self._work:
            self._work.wait_for(lambda: self._closed or stream != self._stream or self._waiting)
            if self._closed or stream != self._stream:
                return None
            parcel = self._waiting.popleft()
            parcel.acks_before, self._taken = self._acks, True
            if (same := self._unacked.get(parcel.key)) is not None:
                self._held_bytes -= same.size_bytes
            self._unacked[parcel.key] = parcel
            parcel.taken_us = self._clock.now_us()
            return parcel

    def _acked(self, key: Key) -> None:
        with self._work:
            self._acks += 1
            self._failures = 0
            parcel = self._unacked.pop(key, None)
            if parcel is not None:
                self._held_bytes -= parcel.size_bytes
                self._goodput.acked(parcel.size_bytes, parcel.taken_us, self._clock.now_us())
            self._ends.notify_all()
        if parcel is not None and parcel.alarm is not None:
            parcel.alarm.cancel()

    def _break(self, why: str) -> None:
        """The stream is gone and what was not acked with it; what waits goes over the next one."""
        with self._work:
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
            self._held_bytes -= sum(parcel.size_bytes for parcel in gone)
            self._goodput.broken()
            self._work.notify_all()
            self._ends.notify_all()
        for parcel in gone:
            self._lose(parcel, why)

    def _expire(self, parcel: Parcel) -> None:
        with self._work:
            if parcel in self._waiting:
                self._waiting.remove(parcel)
                why = "not sent by the deadline"
            elif self._unacked.pop(parcel.key, None) is parcel:
                why = "not acked by the deadline"
                if self._call is not None and self._acks == parcel.acks_before:
                    self._stream += 1  # so that nothing more is taken for the stream that ends
                    self._work.notify_all()
                    self._call.cancel()
            else:
                return
            self._held_bytes -= parcel.size_bytes
            self._ends.notify_all()
        self._lose(parcel, why)

    def _lose(self, parcel: Parcel, why: str) -> None:
        parcel.live = False
        if parcel.alarm is not None:
            parcel.alarm.cancel()
        self._lost(parcel.header, f"{self.address}: {why}")
