"""One gRPC stream as its client drives it: whoever has a message sends it on his own thread, one thread reads.

gRPC's own iterators hand each message to a thread that sends and each answer to one that reads: of a small tensor's
way that is the longest part (docs/dataplane.md). This stands on what they are made of, as gRPC's blocking calls do.
It is no promise of grpcio's: its version is pinned, and tests/unit/test_transport_call.py sees when it changes.

Rules: one message at a time, the next after `SENT`; what was begun is read to its end, else the stream is never freed;
events are read by one thread at a time, whose others know of.
"""

import threading
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import grpc
from grpc._cython import cygrpc

NO_FLAGS = 0
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Event(Enum):
    SENT = 1  # the message has left: there is room for the next


SENT: Final = Event.SENT
_BEGUN, _MESSAGE, _ENDED, _NOW = object(), object(), object(), object()


class Ended(Exception):
    """The stream is over, and not by the peer's good will."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class Call:
    """Begins at once; may be used from any thread but for its events, which one thread reads to their end."""

    def __init__(self, channel: grpc.Channel, method: str) -> None:
        self._lock = threading.Lock()
        begun: list[tuple[Any, object]] = [
            (cygrpc.SendInitialMetadataOperation(None, NO_FLAGS), _BEGUN),
            (cygrpc.ReceiveInitialMetadataOperation(NO_FLAGS), _BEGUN),
            (cygrpc.ReceiveMessageOperation(NO_FLAGS), _MESSAGE),
            (cygrpc.ReceiveStatusOnClientOperation(NO_FLAGS), _ENDED),
        ]
        self._due = len(begun)  # operations whose events were not read
        self._status: Any = None
        self._call = channel._channel.segregated_call(
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            method.encode(),
            None,  # the channel's host
            None,  # no deadline: each message has its own
            None,  # no metadata
            None,  # the channel's credentials
            tuple(((operation,), tag) for operation, tag in begun),
            None,
        )

    def send(self, message: bytes) -> bool:
        """Gives a message to the network; False: the stream is over. Never blocks."""
        return self._begin((cygrpc.SendMessageOperation(message, NO_FLAGS),), SENT)

    def cancel(self) -> None:
        self._call.cancel(grpc.StatusCode.CANCELLED.value[0], "cancelled here")

    @property
    def ended(self) -> bool:
        """Its end was read."""
        return self._status is not None

    def __iter__(self) -> Iterator[bytes | Event]:
        """The peer's messages, and `SENT` after each of ours; raises `Ended` unless the peer ended the stream well."""
        while self._due:
            event = self._read()
            if isinstance(event, bytes | Event):
                yield event
        if self._status.code():
            raise Ended(CODES[self._status.code()], self._status.details())

    def collect(self) -> list[bytes | Event]:
        """What has happened and was not read, as iterating gives it; never blocks, whether the stream ended or not.

        To do nothing is done at once: what comes before its event was there before.
        """
        found: list[bytes | Event] = []
        if self._begin((), _NOW):
            while (event := self._read()) is not _NOW:
                if isinstance(event, bytes | Event):
                    found.append(event)
        return found

    def _read(self) -> object:
        event = self._call.next_event()
        with self._lock:
            self._due -= 1
        if event.tag is SENT:
            return SENT if event.success else None
        if event.tag is _ENDED:
            (self._status,) = event.batch_operations
        elif event.tag is _MESSAGE:
            (operation,) = event.batch_operations
            message: bytes | None = operation.message()
            if message is not None:
                self._begin((cygrpc.ReceiveMessageOperation(NO_FLAGS),), _MESSAGE)
            return message
        return event.tag

    def _begin(self, operations: tuple[Any, ...], tag: object) -> bool:
        with self._lock:
            begun = bool(self._call.operate(operations, tag))
            self._due += begun
        return begun
