"""One gRPC stream as its server drives it: messages are found, and sent, where their events are.

gRPC's own iterators wake a thread for each message that comes and hold one for each that leaves. What is found here is
taken by the one thread that sees all events of a server, so that a small tensor wakes nobody else on its way. Like
nodes/wire/call.py it stands below grpcio's promises: its version is pinned, and tests/unit/test_transport_call.py sees
when it changes.

Rules: one message at a time either way, the next after its event; what was begun has its event, else the stream is
never freed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from grpc import _common, _server
from grpc._cython import cygrpc

from nodes.wire.call import NO_FLAGS

_RECEIVING, _SENDING = "receive", "send"


class Accepted:
    """`found` gets each message that was asked for, None: the peer has no more; `sent` is told that one has left.

    `over` is told when the stream is, whatever ended it. All are called where the server's events are: none may block.
    """

    def __init__(
        self,
        context: grpc.ServicerContext,
        found: Callable[[bytes | None], object],
        sent: Callable[[], object],
        over: Callable[[], object],
    ) -> None:
        self._found = found
        self._sent = sent
        self._state: Any = context._state
        self._call: Any = context._rpc_event.call
        if context.add_callback(over):
            context.send_initial_metadata(())
        else:
            over()

    def receive(self) -> None:
        """Asks for a message, if the stream is not over."""
        self._begin(cygrpc.ReceiveMessageOperation(NO_FLAGS), self._received, _RECEIVING)

    def send(self, message: bytes) -> None:
        """Gives a message to the network, if the stream is not over. Never blocks."""
        self._begin(cygrpc.SendMessageOperation(message, NO_FLAGS), self._left, _SENDING)

    def _begin(self, operation: Any, done: Callable[[Any], Any], due: str) -> None:
        state = self._state
        with state.condition:
            if _server._is_rpc_state_active(state):
                self._call.start_server_batch((operation,), done)
                state.due.add(due)

    def _received(self, event: Any) -> Any:
        (operation,) = event.batch_operations
        return self._done(_RECEIVING, partial(self._found, operation.message()))

    def _left(self, _: Any) -> Any:
        return self._done(_SENDING, self._sent)

    def _done(self, due: str, tell: Callable[[], object]) -> Any:
        """What is raised ends its own stream and not the server's thread; grpc logs it."""
        with self._state.condition:
            finished = _server._possibly_finish_call(self._state, due)
        if _common.deserialize(b"", lambda _: (tell(),)) is None:
            self._call.cancel()
        return finished
