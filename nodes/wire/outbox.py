"""Where a tensor leaves: over the edge to its address, or straight across when the address is the node's own.

What must be encrypted goes over an edge of its own, to the sealed door of the same host.
"""

import threading
from collections.abc import Callable

from nodes.clock import Clock, Timer
from nodes.proto.data_pb2 import Header
from nodes.wire.arrivals import Answers, Receiver
from nodes.wire.codec import Tensor
from nodes.wire.edge import Back, Edge
from nodes.wire.incoming import Put
from nodes.wire.quantise import Wish, choose, quantise
from nodes.wire.sealing import Sealing, door

ERROR_GRACE_US = 1_000_000  # an error is worth sending for so long after the request's own deadline


class Outbox:
    """Edges are opened by the first tensor that needs them and stay open.

    A receiver takes what comes back on them; without one answers come by the node's own doors only.
    """

    def __init__(
        self,
        address: str,
        clock: Clock,
        timer: Timer,
        local: Callable[[Header, Tensor | None], object],
        lost: Callable[[Header, str], None],
        *,
        receiver: Receiver | None = None,
        wire: Wish = "fp32",
        sealing: Sealing | None = None,
    ) -> None:
        self.address = address
        self._clock = clock
        self._timer = timer
        self._local = local
        self._lost = lost
        self._lock = threading.Lock()
        self._wire = wire
        self._sealing = sealing or Sealing()
        self._answers = None if receiver is None else Answers(address, receiver, self._sealing)
        self._edges: dict[str, Edge] = {}  # by door
        self._closed = False

    def send(self, address: str, header: Header, tensor: Tensor | None) -> None:
        """Returns at once; gives the header and the tensor away. Raises `Busy`."""
        if address == self.address:
            self._local(header, tensor)
            return
        deadline_us = header.deadline_us
        if header.error_code:
            deadline_us = max(deadline_us, self._clock.now_us() + ERROR_GRACE_US)
        edge = self._edge(address, sealed=self._sealing.seals(header))
        if edge is not None:
            edge.send(header, tensor, deadline_us)

    def open(self, address: str, header: Header, limit_us: int) -> None:
        """Opens every door of a peer; returns when a first frame went in and its ack came back, or at the limit."""
        edges = [self._edge(address, sealed=sealed) for sealed in self._sealing.doors]
        for edge in edges:
            if edge is not None:
                edge.send(header, None, header.deadline_us)
        for edge in edges:
            if edge is not None:
                edge.await_end(header, limit_us)

    def pack(self, address: str, header: Header, tensor: Tensor) -> tuple[Tensor, float]:
        """The tensor as it is to travel there, and its relative error."""
        with self._lock:
            edge = self._edges.get(door(address, sealed=self._sealing.seals(header)))
        rate_bps = 0 if edge is None else edge.rate_bps
        sent = quantise(tensor, choose(self._wire, tensor.size_bytes, rate_bps))
        return sent.tensor, sent.relative_error

    def adopt(self, address: str, put: Put, *, sealed: bool) -> Back | None:
        """A peer offers the stream that he has opened for the answers to what comes on it; None: closed."""
        edge = self._edge(address, sealed=sealed)
        return None if edge is None else edge.adopt(put)

    def _edge(self, address: str, *, sealed: bool) -> Edge | None:
        """None: closed."""
        where = door(address, sealed=sealed)
        with self._lock:
            if self._closed:
                return None
            edge = self._edges.get(where)
            if edge is None:
                edge = self._edges[where] = Edge(
                    where,
                    self._clock,
                    self._timer,
                    self._lost,
                    identity=self._sealing.who(sealed=sealed),
                    answers=self._answers,
                )
            return edge

    def close(self) -> None:
        with self._lock:
            self._closed = True
            edges = list(self._edges.values())
        for edge in edges:
            edge.close()
