"""What comes on one stream: whole tensors to the receiver, in order, and the acks that are due for them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nodes.proto.data_pb2 import Header
from nodes.wire import codec
from nodes.wire.codec import ASK, FrameError, Key, Tensor, key_of
from nodes.wire.sealing import Sealing

ACKS_MAX = 256  # that wait


class Receiver(Protocol):
    """What a stream gives to; called where a frame is found, must not block."""

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


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame that was."""

    acks: Sequence[Key] = ()  # that are due
    broken: str = ""  # the stream cannot go on


NOTHING = Taken()


class Arrivals:
    """Of one stream; `plain`: anybody could read it. `offered` is told before what comes with an offer is delivered."""

    def __init__(
        self, receiver: Receiver, sealing: Sealing, *, plain: bool, offered: Callable[[Header], object] | None = None
    ) -> None:
        self._receiver = receiver
        self._sealing = sealing
        self._plain = plain
        self._offered = offered
        self._assembler = codec.Assembler()
        self._accepted: list[Key] = []  # acked with one whose ack is wanted

    @property
    def idle(self) -> bool:
        """No tensor is unfinished."""
        return self._assembler.idle

    def take(self, frame: bytes) -> Taken:
        """One after the other."""
        if frame == ASK:
            return self._acknowledge()
        try:
            whole = self._assembler.push(frame)
            if whole is None:
                return NOTHING
            header = whole[0]
            # before the header is the receiver's, who writes the next step into it
            key, later = key_of(header), header.ack_later
            if self._plain and self._sealing.seals(header):
                raise FrameError("it must be encrypted, and came as anybody could read it", header)
            if self._offered is not None and header.answer_here:
                self._offered(header)
            accepted = self._receiver.deliver(*whole)
        except FrameError as error:
            if error.header is None:
                return Taken(broken=error.why)
            key, later = key_of(error.header), False
            accepted = self._receiver.refuse(error)
        if accepted:
            self._accepted.append(key)
        return NOTHING if later and len(self._accepted) < ACKS_MAX else self._acknowledge()

    def _acknowledge(self) -> Taken:
        accepted, self._accepted = self._accepted, []
        return Taken(accepted)


@dataclass(frozen=True, slots=True)
class Answers:
    """What may come back on the streams that a node has opened: what is for its address, and who takes it."""

    address: str
    receiver: Receiver
    sealing: Sealing

    def arrivals(self, *, plain: bool) -> Arrivals:
        """Of one more stream."""
        return Arrivals(self.receiver, self.sealing, plain=plain)
