"""One stream that a peer has opened: its frames are taken, one at a time, and acks go back over it.

A small tensor is taken where it is found and waits for nobody; a large one costs time that the other streams should
not pay for, so the stream's own thread takes it. Who opened the stream may offer it for answers: then the edge to him
sends small tensors over it as well, and hears their acks from it.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Protocol

import grpc

from nodes.proto.data_pb2 import Header
from nodes.wire import codec
from nodes.wire.accepted import Accepted
from nodes.wire.arrivals import NOTHING, Arrivals, Receiver, Taken
from nodes.wire.codec import FrameError, Key
from nodes.wire.sealing import Sealing

SMALL_BYTES = 64 << 10  # a tensor that is taken where it is found

Admit = Callable[[str, grpc.ServicerContext], bool]  # whether the peer came by the sealed door
Told = Callable[[], object]
Put = Callable[[bytes, Told | None], object]  # a message for the way back, and who is told when it has left


class Back(Protocol):
    """The edge that uses the way back, told what comes of it."""

    def acked(self, keys: Sequence[Key]) -> object: ...

    def over(self) -> object: ...


class Ways(Protocol):
    """Where a way back is offered."""

    def adopt(self, address: str, put: Put, *, sealed: bool) -> Back | None:
        """None: nothing is sent any more."""
        ...


class Incoming:
    """Nothing is found before it was admitted, nor before what came before was taken."""

    def __init__(self, receiver: Receiver, sealing: Sealing, admit: Admit, ways: Ways | None) -> None:
        self._receiver = receiver
        self._sealing = sealing
        self._admit = admit
        self._ways = ways
        self._back: Back | None = None
        self._large: SimpleQueue[bytes | None] = SimpleQueue()  # frames for the stream's own thread; None: it is over
        self._lock = threading.Lock()
        self._leaving = False  # a message is on its way out
        self._told: Told | None = None  # when it has left
        self._waiting: deque[tuple[bytes, Told | None]] = deque()  # for it
        self._paused = False  # no frame is asked for while messages wait
        self._ends = False
        self._broken = ""

    def serve(self, _: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._peer = context.peer().removeprefix("ipv4:").rpartition(":")[0]
        self._sealed = self._admit("Deliver", context)
        self._arrivals = Arrivals(self._receiver, self._sealing, plain=not self._sealed, offered=self._offered)
        self._stream = Accepted(context, self._found, self._sent, self._over)
        self._stream.receive()
        while (frame := self._large.get()) is not None:
            self._go_on(self._take(frame))
        if self._broken:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self._broken)
        return iter(())

    def _found(self, frame: bytes | None) -> None:
        if frame is None:
            self._end()
        elif len(frame) <= SMALL_BYTES and self._arrivals.idle:
            self._go_on(self._take(frame))
        else:
            self._large.put(frame)

    def _take(self, frame: bytes) -> Taken:
        try:
            keys = codec.acked(frame)
        except FrameError as error:
            return Taken(broken=error.why)
        if not keys:
            return self._arrivals.take(frame)
        if self._back is None:
            return Taken(broken="acks, and nothing was sent here")
        self._back.acked(keys)
        return NOTHING

    def _offered(self, header: Header) -> None:
        """The way back: of the peer's own host only."""
        host, _, port = header.reply_to.rpartition(":")
        if self._back is None and self._ways is not None and host == self._peer and port.isdecimal():
            self._back = self._ways.adopt(header.reply_to, self._put, sealed=self._sealed)

    def _go_on(self, taken: Taken) -> None:
        """Answers, and asks for the next frame; not while messages wait for another to leave."""
        if taken.broken:
            self._broken = taken.broken
            self._end()
            return
        if taken.acks:
            self._put(codec.acks(taken.acks))
        if self._waiting:
            with self._lock:
                self._paused = bool(self._waiting)
                if self._paused:
                    return
        self._stream.receive()

    def _put(self, message: bytes, told: Told | None = None) -> None:
        with self._lock:
            if self._leaving:
                self._waiting.append((message, told))
                return
            self._leaving, self._told = True, told
        self._stream.send(message)

    def _sent(self) -> None:
        message = b""
        with self._lock:
            told, self._told, self._leaving = self._told, None, bool(self._waiting)
            if self._leaving:
                message, self._told = self._waiting.popleft()
            goes_on = self._paused and not self._waiting
            self._paused = self._paused and not goes_on
            ends = self._ends and not self._leaving
        if message:
            self._stream.send(message)
        if told is not None:
            told()
        if goes_on:
            self._stream.receive()
        if ends:
            self._large.put(None)

    def _end(self) -> None:
        """When the last message has left."""
        with self._lock:
            self._ends = True
            if self._leaving:
                return
        self._large.put(None)

    def _over(self) -> None:
        self._large.put(None)
        if self._back is not None:
            self._back.over()
