"""Where a tensor leaves: over the edge to its address, or straight across when the address is the node's own."""

import threading
from collections.abc import Callable

from nodes.clock import Clock, Timer
from nodes.codec import Tensor
from nodes.proto.data_pb2 import Header
from nodes.transport import Edge

ERROR_GRACE_US = 1_000_000  # an error is worth sending for so long after the request's own deadline


class Outbox:
    """Edges are opened by the first tensor that needs them and stay open."""

    def __init__(
        self,
        address: str,
        clock: Clock,
        timer: Timer,
        local: Callable[[Header, Tensor | None], object],
        lost: Callable[[Header, str], None],
    ) -> None:
        self.address = address
        self._clock = clock
        self._timer = timer
        self._local = local
        self._lost = lost
        self._lock = threading.Lock()
        self._edges: dict[str, Edge] = {}
        self._closed = False

    def send(self, address: str, header: Header, tensor: Tensor | None) -> None:
        """Returns at once; gives the header and the tensor away."""
        if address == self.address:
            self._local(header, tensor)
            return
        deadline_us = header.deadline_us
        if header.error_code:
            deadline_us = max(deadline_us, self._clock.now_us() + ERROR_GRACE_US)
        edge = self._edge(address)
        if edge is not None:
            edge.send(header, tensor, deadline_us)

    def open(self, address: str, header: Header, limit_us: int) -> None:
        """Opens the way to a peer; returns when a first frame went over it and its ack came back, or at the limit."""
        edge = self._edge(address)
        if edge is not None:
            edge.send(header, None, header.deadline_us)
            edge.await_end(header, limit_us)

    def _edge(self, address: str) -> Edge | None:
        """None: closed."""
        with self._lock:
            if self._closed:
                return None
            edge = self._edges.get(address)
            if edge is None:
                edge = self._edges[address] = Edge(address, self._clock, self._timer, self._lost)
            return edge

    def close(self) -> None:
        with self._lock:
            self._closed = True
            edges = list(self._edges.values())
        for edge in edges:
            edge.close()
