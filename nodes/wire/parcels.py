"""What an edge holds: tensors that wait for a stream, and those that are on their way until they are acked. Pure."""

from collections import deque
from collections.abc import Iterable, Sequence

from nodes.proto.data_pb2 import Header
from nodes.wire.codec import Key, Tensor, key_of
from nodes.wire.sending import Sending

HEADER_BYTES = 512  # about; to measure each would cost more than it tells


class Parcel:
    """One tensor (or error) on its way over an edge."""

    __slots__ = ("acks_before", "deadline_us", "header", "key", "live", "sending", "size_bytes", "taken_us", "tensor")

    def __init__(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        self.header = header
        self.key = key_of(header)
        self.tensor = tensor
        self.deadline_us = deadline_us
        self.size_bytes = HEADER_BYTES + (0 if tensor is None else len(tensor.data))
        self.live = True
        self.sending: Sending | None = None  # None: it waits
        self.acks_before = 0
        self.taken_us = 0


class Parcels:
    """In the order in which they came."""

    def __init__(self) -> None:
        self.waiting: deque[Parcel] = deque()
        self.unacked: dict[Key, Parcel] = {}
        self.held_bytes = 0

    def __bool__(self) -> bool:
        return bool(self.waiting or self.unacked)

    def has(self, key: Key) -> bool:
        return key in self.unacked or any(parcel.key == key for parcel in self.waiting)

    def add(self, parcel: Parcel) -> None:
        self.held_bytes += parcel.size_bytes
        self.waiting.append(parcel)

    def take(self, sending: Sending) -> Parcel:
        """The first that waits is on its way from now on."""
        parcel = self.waiting.popleft()
        parcel.sending, parcel.acks_before = sending, sending.acks
        if (same := self.unacked.get(parcel.key)) is not None:
            self.held_bytes -= same.size_bytes
        self.unacked[parcel.key] = parcel
        return parcel

    def acked(self, keys: Iterable[Key]) -> Parcel | None:
        """The last of them, unless it was lost already."""
        parcel = None
        for key in keys:
            parcel = self.unacked.pop(key, None)
            if parcel is not None:
                self.held_bytes -= parcel.size_bytes
        return parcel

    def lost(self, parcel: Parcel) -> bool:
        """False: it is not on its way any more."""
        if self.unacked.get(parcel.key) is not parcel:
            return False
        self._drop([parcel])
        return True

    def gone_with(self, sending: Sending) -> list[Parcel]:
        """What was on its way over a stream that is over."""
        return self._drop([parcel for parcel in self.unacked.values() if parcel.sending is sending])

    def due(self, t_us: int) -> list[Parcel]:
        """What should have been acked by then."""
        return self._drop([parcel for parcel in self._every() if parcel.deadline_us <= t_us])

    def gone(self) -> list[Parcel]:
        """All."""
        return self._drop(self._every())

    def deadline_us(self) -> int | None:
        """The first of all."""
        return min((parcel.deadline_us for parcel in self._every()), default=None)

    def _every(self) -> list[Parcel]:
        return [*self.unacked.values(), *self.waiting]

    def _drop(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        for parcel in parcels:
            self.held_bytes -= parcel.size_bytes
            parcel.live = False
            if parcel.sending is None:
                self.waiting.remove(parcel)
            else:
                del self.unacked[parcel.key]
        return list(parcels)
