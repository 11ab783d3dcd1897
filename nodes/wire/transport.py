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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from nodes.proto.data_pb2 import Header, WeightsRequest
from nodes.wire import codec
from nodes.wire.accepted import Accepted
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.sealing import Sealing, door
from nodes.wire.tls import Identity, refusal

MESSAGE_MAX_BYTES = codec.LENGTH_BYTES + codec.HEADER_MAX_BYTES + codec.CHUNK_MAX_BYTES
DELIVER = "/testbed.Data/Deliver"
WEIGHTS = "/testbed.Data/Weights"
ACK = struct.Struct("<QII")  # of a tensor: its key; those that waited for it come in the same message
ASK = bytes(codec.LENGTH_BYTES)  # a frame of nothing: the acks that wait are wanted now
ACKS_MAX = 256  # that wait
STREAMS_MAX = 512  # two doors of each host of the largest network there may be
SMALL_BYTES = 64 << 10  # a tensor that is taken where it is found

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
    """What a data server gives to; called where a frame is found, must not block."""

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
        self._server = grpc.server(pool, handlers=[self], options=SERVER_OPTIONS, maximum_concurrent_rpcs=STREAMS_MAX)
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

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """How a stream that begins is served; None: there is no such method."""
        if call.method == DELIVER:
            intake = _Intake(self._receiver, self._sealing, self._admit)
            return grpc.stream_stream_rpc_method_handler(intake.serve)
        if call.method == WEIGHTS:
            return grpc.unary_stream_rpc_method_handler(self._weights)
        return None

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


@dataclass(frozen=True, slots=True)
class _Taken:
    """A frame that was."""

    ack: bytes = b""  # empty: none
    broken: str = ""  # the stream cannot go on


Admit = Callable[[str, grpc.ServicerContext], bool]  # whether the peer came by the sealed door


class _Intake:
    """One stream of frames as it comes in, one at a time.

    A small tensor is taken where it is found and waits for nobody; a large one costs time that the other streams should
    not pay for, so the stream's own thread takes it.
    """

    def __init__(self, receiver: Receiver, sealing: Sealing, admit: Admit) -> None:
        self._receiver = receiver
        self._sealing = sealing
        self._admit = admit
        self._plain = True
        self._assembler = codec.Assembler()
        self._acks: list[bytes] = []  # that wait for one that is wanted
        self._large: SimpleQueue[bytes | None] = SimpleQueue()  # frames for the stream's own thread; None: it is over
        self._lock = threading.Lock()
        self._leaving = False  # an answer is on its way out
        self._answer = b""  # waits for it, and the stream with it
        self._ends = False
        self._broken = ""

    def serve(self, _: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Nothing is found before it was admitted, nor before what came before was taken."""
        self._plain = not self._admit("Deliver", context)
        self._stream = Accepted(context, self._found, self._sent, lambda: self._large.put(None))
        self._stream.receive()
        while (frame := self._large.get()) is not None:
            self._go_on(self._take(frame))
        if self._broken:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self._broken)
        return iter(())

    def _found(self, frame: bytes | None) -> None:
        if frame is None:
            self._end()
        elif len(frame) <= SMALL_BYTES and self._assembler.idle:
            self._go_on(self._take(frame))
        else:
            self._large.put(frame)

    def _go_on(self, taken: _Taken) -> None:
        """Answers, and asks for the next frame; not before the last answer but one has left."""
        if taken.broken:
            self._broken = taken.broken
            self._end()
            return
        if taken.ack:
            with self._lock:
                if self._leaving:
                    self._answer = taken.ack
                    return
                self._leaving = True
            self._stream.send(taken.ack)
        self._stream.receive()

    def _sent(self) -> None:
        with self._lock:
            answer, self._answer = self._answer, b""
            self._leaving = bool(answer)
            ends = self._ends and not answer
        if answer:
            self._stream.send(answer)
            self._stream.receive()
        elif ends:
            self._large.put(None)

    def _end(self) -> None:
        """When the last answer has left."""
        with self._lock:
            self._ends = True
            if self._leaving:
                return
        self._large.put(None)

    def _take(self, frame: bytes) -> _Taken:
        if frame == ASK:
            return self._acknowledge()
        try:
            whole = self._assembler.push(frame)
            if whole is None:
                return NOTHING
            # before the header is the receiver's, who writes the next step into it
            key, later = key_of(whole[0]), whole[0].ack_later
            if self._plain and self._sealing.seals(whole[0]):
                raise FrameError("it must be encrypted, and came as anybody could read it", whole[0])
            accepted = self._receiver.deliver(*whole)
        except FrameError as error:
            if error.header is None:
                return _Taken(broken=error.why)
            key, later = key_of(error.header), False
            accepted = self._receiver.refuse(error)
        if accepted:
            self._acks.append(ACK.pack(*key))
        return NOTHING if later and len(self._acks) < ACKS_MAX else self._acknowledge()

    def _acknowledge(self) -> _Taken:
        acks, self._acks = self._acks, []
        return _Taken(b"".join(acks))


NOTHING = _Taken()
