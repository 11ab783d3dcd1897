"""How tensors and weights cross the emulated network: gRPC streams of raw frames, no protobuf on the payload.

    testbed.Data/Deliver   one persistent bidirectional stream an edge: frames one way, a small ack a whole tensor back,
                           and answers, if who opened the stream offers it for them
    testbed.Data/Weights   a request, then the raw tensors of blocks in chunks, then their sha256

Rules: frames of an edge keep their order; a tensor that is not acked is lost by name (PEER_LOST), never sent twice;
only the stream itself is opened again, with bounded backoff. A peer that makes no progress until the deadline of a
tensor has its stream cancelled; one that is slow keeps it, else what is behind the late tensor would be lost too. What
an edge holds is bounded in bytes: a tensor beyond it is refused at once (BUSY), nothing waits outside the edge.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from nodes.proto.data_pb2 import WeightsRequest
from nodes.wire import codec
from nodes.wire.arrivals import Receiver
from nodes.wire.incoming import Incoming, Ways
from nodes.wire.sealing import Sealing, door
from nodes.wire.tls import Identity, refusal

MESSAGE_MAX_BYTES = codec.LENGTH_BYTES + codec.HEADER_MAX_BYTES + codec.CHUNK_MAX_BYTES
DELIVER = "/testbed.Data/Deliver"
WEIGHTS = "/testbed.Data/Weights"
STREAMS_MAX = 512  # two doors of each host of the largest network there may be

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


class PortTaken(Exception):
    """Another server has the address."""


class Busy(Exception):
    """The edge holds as much as it may; the text says how much."""


class Refused(Exception):
    """This node cannot give what was asked for; the text says why."""


class DataServer:
    """Listens on the node's own address only, at the doors that the sealing has. `ways` may use streams for answers."""

    def __init__(
        self,
        address: str,
        receiver: Receiver,
        pool: ThreadPoolExecutor,
        sealing: Sealing | None = None,
        ways: Ways | None = None,
    ) -> None:
        self._receiver = receiver
        self._ways = ways
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
            stream = Incoming(self._receiver, self._sealing, self._admit, self._ways)
            return grpc.stream_stream_rpc_method_handler(stream.serve)
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
