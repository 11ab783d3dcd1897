"""What a node holds: slices ready to run, and the blocks that came over the network.

Rules: a slice is held once its weights are here and its memory is charged, else not at all; the same slice is fetched
once; a node that goes down has held nothing.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.compute.memory import Memory, MemoryRefused
from nodes.costing.partcost import held_bytes
from nodes.models.shares import ShareError
from nodes.pieces import Piece, runs
from nodes.proto.data_pb2 import Held, WeightsRequest
from nodes.session.sessions import Sessions
from nodes.session.slots import needed as heads_needed
from nodes.slices import Costs, Loaded, LoadedPart, Loader, LoadError
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
        self._loader, self._sessions, self._sealing = loader, sessions, sealing
        self.slices: dict[Piece, Loaded] = {}
        self.parts: dict[Piece, LoadedPart] = {}  # of layers
        self._received: dict[tuple[str, int], Any] = {}  # blocks that came over the network
        self._preparing = threading.Lock()  # one at a time, so that the same slice is fetched once
        self.up = True
        self.life = 0  # how often it went down

    def clear(self) -> None:
        """The node goes down; the lock is held."""
        self.life += 1
        self.slices.clear()
        self.parts.clear()
        self._received = {}

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
            if not self.up:
                raise PrepareRefused(f"{self._name} is down")
            if held is not None:
                return Prepared(0, held.digest)
            self._hold(piece)
        try:
            loaded, moved_bytes, blocks = self._load(piece, source, deadline_s)
        except (shipping.ShippingError, LoadError) as error:
            with self._lock:
                if life == self.life:
                    self._memory.drop(piece)
            raise PrepareRefused(f"{self._name}: {error}") from error
        with self._lock:
            if life != self.life:
                raise PrepareRefused(f"{self._name} went down")
            self._received.update(blocks)
            if isinstance(loaded, LoadedPart):
                self.parts[piece] = loaded
            else:
                self.slices[piece] = loaded
        return Prepared(moved_bytes, loaded.digest)

    def _hold(self, piece: Piece) -> None:
        try:
            if piece.model not in self._costs:
                raise ShareError("no such model")
            self._memory.hold(piece, *held_bytes(self._costs[piece.model], piece))
        except ShareError as error:
            raise PrepareRefused(f"{self._name} knows no {piece}: {error}") from error
        except MemoryRefused as refusal:
            raise PrepareRefused(str(refusal)) from refusal

    def _load(
        self, piece: Piece, source: str, deadline_s: float
    ) -> tuple[Loaded | LoadedPart, int, dict[tuple[str, int], Any]]:
        model, first, last, part = piece
        if part and source:
            raise LoadError(f"weights of {piece} do not travel: they must lie on the node")
        if part:
            return self._loader.load_part(model, first, part), 0, {}
        if not source:
            return self._loader.load(model, first, last, None), 0, {}
        blocks = {(model, block): self._here(model, block) for block in range(first, last)}
        moved_bytes = 0
        for a, b in runs([block for block in range(first, last) if blocks[model, block] is None]):
            limit_bytes = sum(cost.weight_bytes for cost in self._costs[model][a:b])
            request = WeightsRequest(model=model, first=a, last=b)
            fetched, size_bytes = shipping.fetch(
                source,
                request,
                limit_bytes=limit_bytes,
                deadline_s=deadline_s or FETCH_DEADLINE_S,
                sealing=self._sealing,
            )
            blocks.update({(model, block): tensors for block, tensors in fetched.items()})
            moved_bytes += size_bytes
        received = {block: blocks[model, block] for block in range(first, last)}
        return self._loader.load(model, first, last, received), moved_bytes, blocks

    def _here(self, model: str, block: int) -> Any:
        """The tensors of a block that some slice on this node holds already."""
        if (tensors := self._received.get((model, block))) is not None:
            return tensors
        if any(m == model and first <= block < last for m, first, last, _ in self.slices):
            return dict(self._loader.weights(model, block))
        return None

    def release(self, piece: Piece) -> None:
        """Work that has begun with the slice ends well. A slice that is not here is released already."""
        with self._lock:
            if self.slices.pop(piece, None) is None and self.parts.pop(piece, None) is None:
                return
            self._memory.drop(piece)
            needed = {(m, block) for m, first, last, _ in self.slices for block in range(first, last)}
            mine = [(p.first, p.last, p.heads) for p in (*self.slices, *self.parts) if p.model == piece.model]
            self._sessions.narrow(piece.model, heads_needed(mine))
            self._received = {key: tensors for key, tensors in self._received.items() if key in needed}

    def ship(self, asked: WeightsRequest) -> Iterator[bytes]:
        """Any block that this node can read, held or not: a server is a model repository too. Raises `Refused`."""
        self.check(asked)
        try:
            yield from shipping.ship(self._stock(asked.model, asked.first, asked.last))
        except LoadError as error:
            raise Refused(f"{self._name}: {error}") from error

    def check(self, asked: WeightsRequest) -> None:
        """Raises `Refused` for what no node could give."""
        if not self.up:
            raise Refused(f"{self._name} is down")
        if asked.model not in self._costs or not asked.first < asked.last <= len(self._costs[asked.model]):
            raise Refused(f"{self._name} has no {Piece(asked.model, asked.first, asked.last)}")

    def _stock(self, model: str, first: int, last: int) -> Iterator[tuple[int, str, Tensor]]:
        for block in range(first, last):
            received = self._received.get((model, block))
            for name, tensor in received.items() if received else self._loader.weights(model, block):
                if not self.up:
                    raise Refused(f"{self._name} went down")
                yield block, name, tensor
