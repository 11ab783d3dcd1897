"""What a node holds: slices, and parts of layers, ready to run.

Rules: a slice is held once its weights are here and its memory is charged, else not at all; the same slice is fetched
once; a node that goes down has held nothing.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodes.compute.memory import Memory, MemoryRefused
from nodes.costing.partcost import held_bytes
from nodes.models.shares import ShareError
from nodes.pieces import Piece
from nodes.proto.data_pb2 import Held, WeightsRequest
from nodes.session.sessions import Sessions
from nodes.session.slots import needed as heads_needed
from nodes.slices import Costs, Loaded, LoadedPart, Loader, LoadError
from nodes.stock import Stock
from nodes.wire import shipping
from nodes.wire.codec import Tensor
from nodes.wire.sealing import Sealing
from nodes.wire.transport import Refused

FETCH_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Prepared:
    bytes_moved: int  # weights, keys and values
    digest: str


class PrepareRefused(Exception):
    """Names the limit or the fault."""


class Shelf:
    """`lock` is the owner's, which guards the memory too; `slices`, `up` and `life` are read and set under it."""

    def __init__(  # noqa: PLR0917 the parts of an agent
        self,
        name: str,
        lock: threading.Lock,
        memory: Memory,
        costs: Costs,
        loader: Loader,
        sessions: Sessions,
        sealing: Sealing | None,
    ) -> None:
        self._name, self._lock, self._memory, self._costs = name, lock, memory, costs
        self._sessions, self._stock = sessions, Stock(costs, loader, sealing)
        self.slices: dict[Piece, Loaded] = {}
        self.parts: dict[Piece, LoadedPart] = {}  # of layers
        self._preparing = threading.Lock()  # one at a time, so that the same slice is fetched once
        self.up = True
        self.life = 0  # how often it went down

    def clear(self) -> None:
        """The node goes down; the lock is held."""
        self.life += 1
        self.slices.clear()
        self.parts.clear()
        self._stock.clear()

    def prepare(self, piece: Piece, source: str, deadline_s: float, kv_sources: Sequence[Held] = ()) -> Prepared:
        """Holds a slice, with weights from the agent at `source` ("": they lie here); raises `PrepareRefused`.

        Doing it again does nothing. Only blocks that are not here yet travel, then what sessions keep of the slice's
        blocks elsewhere.
        """
        with self._preparing:
            fresh = piece not in self.slices and piece not in self.parts
            prepared = self._prepare(piece, source, deadline_s)
            try:
                copied_bytes = self._sessions.copy_ahead(piece.model, piece.of(kv_sources))
            except MemoryRefused as refusal:
                if fresh:
                    self.release(piece)
                raise PrepareRefused(str(refusal)) from refusal
            return Prepared(prepared.bytes_moved + copied_bytes, prepared.digest)

    def _prepare(self, piece: Piece, source: str, deadline_s: float) -> Prepared:
        with self._lock:
            held, life = self.slices.get(piece) or self.parts.get(piece), self.life
            others = (*self.slices, *self.parts)
            if not self.up:
                raise PrepareRefused(f"{self._name} is down")
            if held is not None:
                return Prepared(0, held.digest)
            self._hold(piece)
        try:
            bought = self._stock.load(piece, others, source, deadline_s or FETCH_DEADLINE_S)
        except (shipping.ShippingError, LoadError) as error:
            with self._lock:
                if life == self.life:
                    self._memory.drop(piece)
            raise PrepareRefused(f"{self._name}: {error}") from error
        with self._lock:
            if life != self.life:
                raise PrepareRefused(f"{self._name} went down")
            self._stock.keep(bought.received)
            if isinstance(bought.loaded, LoadedPart):
                self.parts[piece] = bought.loaded
            else:
                self.slices[piece] = bought.loaded
        return Prepared(bought.moved_bytes, bought.loaded.digest)

    def _hold(self, piece: Piece) -> None:
        try:
            if piece.model not in self._costs:
                raise ShareError("no such model")
            self._memory.hold(piece, *held_bytes(self._costs[piece.model], piece))
        except ShareError as error:
            raise PrepareRefused(f"{self._name} knows no {piece}: {error}") from error
        except MemoryRefused as refusal:
            raise PrepareRefused(str(refusal)) from refusal

    def release(self, piece: Piece) -> None:
        """Work that has begun with the slice ends well. A slice that is not here is released already."""
        with self._lock:
            if self.slices.pop(piece, None) is None and self.parts.pop(piece, None) is None:
                return
            self._memory.drop(piece)
            held = (*self.slices, *self.parts)
            mine = [(p.first, p.last, p.heads) for p in held if p.model == piece.model]
            self._sessions.narrow(piece.model, heads_needed(mine))
            self._stock.narrow(held)

    def ship(self, asked: WeightsRequest) -> Iterator[bytes]:
        """Weights for another node; raises `Refused`."""
        self.check(asked)
        try:
            yield from shipping.ship(self._while_up(self._stock.ship(asked)))
        except LoadError as error:
            raise Refused(f"{self._name}: {error}") from error

    def check(self, asked: WeightsRequest) -> None:
        """Raises `Refused` for what no node could give."""
        if not self.up:
            raise Refused(f"{self._name} is down")
        try:
            self._stock.check(asked)
        except ShareError as error:
            raise Refused(f"{self._name}: {error}") from error

    def _while_up(self, tensors: Iterator[tuple[int, str, Tensor]]) -> Iterator[tuple[int, str, Tensor]]:
        for row in tensors:
            if not self.up:
                raise Refused(f"{self._name} went down")
            yield row
