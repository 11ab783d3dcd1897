"""Which tensors go where within a layer by parts: frames from the hop of a route. Pure.

    home      norm, to the heads; x itself to the middle
    heads     what each gave, to the middle
    middle    proj or sum, once all is there; to the end, or the norm of it to the columns and back: mlp:sum
    end       mlp; the result leaves the layer

A frame says which part it is for, or, arrived, which part gave it. Frames to single parts carry of the route only what
these need: hops are many, and a token is small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodes.models.shares import MLP, PROJ, SUM, Share, ShareError, Whole, closing, share_of
from nodes.models.splits import Split
from nodes.proto.data_pb2 import Header, Hop, Placed


@dataclass(frozen=True)
class Layer:
    """One hop with parts. Raises ShareError for a name that is none."""

    hop: Hop

    @property
    def block(self) -> int:
        return self.hop.first

    @property
    def split(self) -> Split:
        return Split(self.hop.node, tuple((placed.node, share_of(placed.part)) for placed in self.hop.parts))

    @property
    def close(self) -> Whole:
        """What takes the heads."""
        return PROJ if any(placed.part == str(PROJ) for placed in self.hop.parts) else SUM

    def address(self, node: str) -> str:
        """Raises ShareError for a node that is none of the layer's."""
        if node == self.hop.node:
            return self.hop.address
        for placed in self.hop.parts:
            if placed.node == node:
                return placed.address
        raise ShareError(f"no part is on {node}")

    def placed(self, share: Share) -> tuple[int, Placed]:
        """Its lane, which no other part of the layer has, and where it is. Raises ShareError."""
        for i, placed in enumerate(self.hop.parts):
            if placed.part == str(share):
                return i + 1, placed
        raise ShareError(f"{share} is on no node")

    def shares(self, close: Whole) -> list[Share]:
        """Those that a closing part takes."""
        return [share for _, share in self.split.parts if closing(share) == close]


def layer_of(header: Header) -> Layer:
    return Layer(header.route[header.step])


def to_shares(header: Header, close: Whole) -> Iterator[tuple[str, Header]]:
    """To each part that `close` waits for: the address, and the frame for the same tensor."""
    layer = layer_of(header)
    for share in layer.shares(close):
        lane, placed = layer.placed(share)
        yield placed.address, _short(header, layer, [placed], part=placed.part, lane=lane)


def to_middle(header: Header, close: Whole) -> tuple[str, Header]:
    """The frame for the tensor that is added behind the heads; the whole route goes on there."""
    layer = layer_of(header)
    sent = Header()
    sent.CopyFrom(header)
    sent.part, sent.arrived, sent.lane = str(close), False, 0
    return layer.address(layer.split.middle), sent


def to_end(header: Header) -> tuple[str, Header]:
    """The frame for the attention's result, where the feed-forward part is whole."""
    layer = layer_of(header)
    lane, placed = layer.placed(MLP)
    sent = Header()
    sent.CopyFrom(header)
    sent.part, sent.arrived, sent.lane = str(MLP), False, lane
    return placed.address, sent


def back(header: Header) -> tuple[str, Header]:
    """The frame for what a share has given: to the middle, which its own frame has named."""
    layer = layer_of(header)
    sent = Header()
    sent.CopyFrom(header)
    sent.arrived = True
    return layer.address(layer.split.middle), sent


def farewells(header: Header) -> Iterator[tuple[str, Header]]:
    """The session is over: to every node that has a part of the layer, but the home."""
    layer = layer_of(header)
    told = {layer.hop.node}
    for i, placed in enumerate(layer.hop.parts):
        if placed.node not in told:
            told.add(placed.node)
            yield placed.address, _short(header, layer, [], part="", lane=i + 1)


def passed(header: Header) -> None:
    """The layer is behind: nobody needs its parts any more, nor what tells them apart."""
    hop = header.route[header.step]
    del hop.parts[:]
    del hop.kv_sources[:]
    header.part, header.arrived, header.lane = "", False, 0


def _short(header: Header, layer: Layer, own: Sequence[Placed], *, part: str, lane: int) -> Header:
    """As the header, with this hop alone: the part's own place, and that of the middle; of no part: whole."""
    sent = Header(
        request_id=header.request_id,
        stream=header.stream,
        model=header.model,
        epoch=header.epoch,
        step=header.step,
        reply_to=header.reply_to,
        deadline_us=header.deadline_us,
        session=header.session,
        life=header.life,
        position=header.position,
        tokens=header.tokens,
        ended=header.ended,
        resumed=header.resumed,
        part=part,
        lane=lane,
    )
    hop = Hop(node=layer.hop.node, address=layer.hop.address, first=layer.hop.first, last=layer.hop.last)
    if own:
        hop.parts.extend([*own, *(placed for placed in layer.hop.parts if placed.part == str(PROJ))])
    sent.route.extend([*(Hop() for _ in range(header.step)), hop])
    return sent
