"""The weights of what a node holds: those that lie on it, and those that come over the network because they do not.

Rules: what travels is what is not here yet, and nothing else: whole blocks where nothing of them is here, else single
heads, bundles of columns and the other smallest parts of a layer, as the memory counts them. Raw tensors, the limit in
bytes said before anything is allocated, the digest checked (nodes/wire/shipping.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nodes.costing.partcost import held_bytes
from nodes.models.shares import ShareError, check, share_of
from nodes.pieces import Piece, runs
from nodes.proto.data_pb2 import WeightsRequest
from nodes.slices import Costs, Loaded, LoadedPart, Loader, LoadError
from nodes.wire import shipping
from nodes.wire.codec import Tensor
from nodes.wire.sealing import Sealing

Tensors = Mapping[str, Tensor]
Key = tuple[str, int, str]  # model, block, which part of it ("": all)


@dataclass(frozen=True, slots=True)
class Bought:
    """A slice or a part that can run, what came for it, and how many bytes that was."""

    loaded: Loaded | LoadedPart
    received: Mapping[Key, Tensors]
    moved_bytes: int


class Stock:
    """Its owner holds a lock whenever it calls `keep`, `narrow` or `clear`."""

    def __init__(self, costs: Costs, loader: Loader, sealing: Sealing | None) -> None:
        self._costs, self._loader, self._sealing = costs, loader, sealing
        self._received: dict[Key, Tensors] = {}

    def clear(self) -> None:
        self._received = {}

    def keep(self, received: Mapping[Key, Tensors]) -> None:
        self._received.update(received)

    def narrow(self, held: Sequence[Piece]) -> None:
        """These are what the node still holds."""
        needed = {(piece.model, block) for piece in held for block in range(piece.first, piece.last)}
        self._received = {key: tensors for key, tensors in self._received.items() if key[:2] in needed}

    def load(self, piece: Piece, held: Sequence[Piece], source: str, deadline_s: float) -> Bought:
        """What lacks beside `held` comes from the agent at `source` ("": all lies here).

        Raises LoadError, shipping.ShippingError, ShareError.
        """
        model, first, last, part = piece
        if not source:
            here = self._loader.load_part(model, first, part, None) if part else self._load(piece, None)
            return Bought(here, {}, 0)
        costs, received, moved_bytes = self._costs[model], dict[Key, Tensors](), 0
        wanted, _ = held_bytes(costs, piece)
        there = {at for other in held if other.model == model for at in held_bytes(costs, other)[0]}
        for request, limit_bytes in self._lacking(piece, wanted, there):
            fetched, size_bytes = shipping.fetch(
                source, request, limit_bytes=limit_bytes, deadline_s=deadline_s, sealing=self._sealing
            )
            received |= _sorted(request, fetched)
            moved_bytes += size_bytes
        parts = {block: [name for at, name in wanted if at == block] for block in range(first, last)}
        blocks = {block: self._gathered(piece, block, parts[block], received) for block in parts}
        loaded = self._loader.load_part(model, first, part, blocks[first]) if part else self._load(piece, blocks)
        return Bought(loaded, received, moved_bytes)

    def _load(self, piece: Piece, blocks: Mapping[int, Tensors] | None) -> Loaded:
        return self._loader.load(piece.model, piece.first, piece.last, blocks)

    def _lacking(
        self, piece: Piece, wanted: Mapping[tuple[int, str], int], there: set[tuple[int, str]]
    ) -> Iterator[tuple[WeightsRequest, int]]:
        """What to ask for, and how many bytes that is."""
        model, first, last, part = piece
        begun = {block for block, _ in wanted.keys() & there}
        bare = [block for block in range(first, last) if not part and block not in begun]
        for a, b in runs(bare):
            limit_bytes = sum(cost.weight_bytes for cost in self._costs[model][a:b])
            yield WeightsRequest(model=model, first=a, last=b), limit_bytes
        for block in sorted(set(range(first, last)) - set(bare)):
            lacks = {name: size for (at, name), size in wanted.items() if at == block and (at, name) not in there}
            if names := [name for name, size in lacks.items() if size]:
                yield WeightsRequest(model=model, first=block, last=block + 1, parts=names), sum(lacks.values())

    def _gathered(self, piece: Piece, block: int, wanted: Sequence[str], received: Mapping[Key, Tensors]) -> Tensors:
        """All tensors of a block, or of the wanted parts of it: those that came now, came before, or lie here."""
        model, came = piece.model, {part for name, at, part in received if (name, at) == (piece.model, block)}
        found: dict[str, Tensor] = {}
        for part in wanted if piece.part or came - {""} else [""]:
            found.update(received.get((model, block, part)) or self._here((model, block, part)))
        return found

    def _here(self, key: Key) -> Tensors:
        model, block, name = key
        return self._received.get(key) or dict(self._loader.weights(model, block, name))

    def check(self, asked: WeightsRequest) -> None:
        """Raises ShareError for what no node could give."""
        costs = self._costs.get(asked.model, ())
        if not asked.first < asked.last <= len(costs):
            raise ShareError(f"there is no {Piece(asked.model, asked.first, asked.last)}")
        split = costs[asked.first].split
        if asked.parts and (split is None or asked.last != asked.first + 1):
            raise ShareError(f"{Piece(asked.model, asked.first, asked.last)} has no parts")
        for name in asked.parts:
            assert split is not None
            check(split, share_of(name))

    def ship(self, asked: WeightsRequest) -> Iterator[tuple[int, str, Tensor]]:
        """Any block that this node can read, held or not: a server is a model repository too. Raises LoadError."""
        for block in range(asked.first, asked.last):
            for part in asked.parts or ("",):
                for name, tensor in self._here((asked.model, block, part)).items():
                    yield block, f"{part} {name}" if part else name, tensor


def _sorted(request: WeightsRequest, fetched: Mapping[int, Tensors]) -> dict[Key, Tensors]:
    """What came, by what it was asked for as. Raises LoadError for what was not."""
    if not request.parts:
        return {(request.model, block, ""): tensors for block, tensors in fetched.items()}
    found: dict[Key, dict[str, Tensor]] = {(request.model, request.first, part): {} for part in request.parts}
    for label, tensor in fetched[request.first].items():
        part, _, name = label.partition(" ")
        if part not in request.parts:
            raise LoadError(f"{label!r} of block {request.first} was not asked for")
        found[request.model, request.first, part][name] = tensor
    return dict(found)
