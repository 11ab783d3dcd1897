"""Where a part waits for what it adds up: tensors of one request from several nodes, until all are there.

Rules: each tensor is charged to the modelled memory while it waits; what is not whole by the request's deadline is
forgotten, and what waits for an older life of a session when a newer one comes; a node that goes down forgets all.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nodes.clock import Alarm, Timer
from nodes.compute.memory import Memory
from nodes.models.shares import Share
from nodes.proto.data_pb2 import Header
from nodes.wire.codec import Tensor

Key = tuple[int, int, str]  # request, step, the part that waits


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that a part takes: `x` came with the whole header."""

    header: Header
    x: Tensor
    arrived: Mapping[str, Tensor]  # by name of the part that gave it
    size_bytes: int  # charged; whoever takes it gives it back
    life: int  # of the node, in which it is charged: how often it has been down


@dataclass(slots=True, eq=False)
class _Waiting:
    session: str
    life: int
    arrived: dict[str, Tensor] = field(default_factory=dict)
    header: Header | None = None
    x: Tensor | None = None
    wanted: frozenset[str] = frozenset()
    size_bytes: int = 0
    alarm: Alarm | None = None


class Gather:
    """`lock` is the owner's, which guards the memory too."""

    def __init__(self, lock: threading.Lock, memory: Memory, timer: Timer) -> None:
        self._lock, self._memory, self._timer = lock, memory, timer
        self._waiting: dict[Key, _Waiting] = {}
        self._life = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(
        self, close: Share, header: Header, tensor: Tensor, wanted: Sequence[Share] | None = None
    ) -> Gathered | None:
        """What waits for `close` is whole now, or None. `wanted`: the tensor is x, and these parts give to it.

        Raises MemoryRefused.
        """
        key = header.request_id, header.step, str(close)
        with self._lock:
            self._forget_older(header)
            self._memory.take(f"what waits for {close} of request {header.request_id}", tensor.size_bytes)
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = _Waiting(header.session, header.life)
                waiting.alarm = self._timer.at(header.deadline_us, lambda: self._expire(key, waiting))
            waiting.size_bytes += tensor.size_bytes
            if wanted is None:
                waiting.arrived[header.part] = tensor
            else:
                waiting.header, waiting.x = header, tensor
                waiting.wanted = frozenset(str(share) for share in wanted)
            if waiting.header is None or waiting.x is None or not waiting.wanted <= waiting.arrived.keys():
                return None
            self._remove(key)
            return Gathered(waiting.header, waiting.x, waiting.arrived, waiting.size_bytes, self._life)

    def clear(self) -> None:
        """The node is down; the lock is held, and the memory is cleared by its owner."""
        self._life += 1
        for key in list(self._waiting):
            self._remove(key)

    def _forget_older(self, header: Header) -> None:
        if not header.session:
            return
        for key, waiting in list(self._waiting.items()):
            if waiting.session == header.session and waiting.life < header.life:
                self._memory.give(self._remove(key).size_bytes)

    def _expire(self, key: Key, waiting: _Waiting) -> None:
        with self._lock:
            if self._waiting.get(key) is waiting:
                self._memory.give(self._remove(key).size_bytes)

    def _remove(self, key: Key) -> _Waiting:
        waiting = self._waiting.pop(key)
        if waiting.alarm is not None:
            waiting.alarm.cancel()
        return waiting
