"""Keys and values on their way between agents: rows of one session's caches, over the stream that weights take.

Rules: as for weights (nodes/wire/shipping.py): the receiver says which rows of which blocks it expects and how many
bytes they are, takes nothing else, and refuses as a whole what does not agree with its sha256.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc

from nodes.proto.data_pb2 import Held, KeptRows, WeightsRequest
from nodes.wire import shipping
from nodes.wire.codec import Tensor
from nodes.wire.sealing import Sealing

CATALOGUE_MAX_BYTES = 1 << 20
ENTRY = struct.Struct("<qq")  # life, tokens
NEWS, NEWS_ENTRY = "~", struct.Struct("<qqq")  # life, begin, end
NEWS_MAX_BYTES = 16 << 20  # in one answer
NEWS_WAIT_S = 1.0  # for a session to go on
NEWS_TRANSFER_S = 8.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Of the tokens begin..end-1 in the blocks first..last-1, which the agent at `address` has."""

    address: str
    session: str
    model: str
    life: int
    first: int
    last: int
    begin: int
    end: int
    heads: tuple[int, ...] = ()  # of each block; (): all of it


@dataclass(frozen=True, slots=True)
class Entry:
    """One session at its holder: how many tokens its caches have."""

    session: str
    life: int
    tokens: int


def together(pulls: Sequence[Rows]) -> list[list[Rows]]:
    """Those that can come in one stream: from the same agent, of the same blocks and heads."""
    groups: dict[tuple[object, ...], list[Rows]] = {}
    for rows in pulls:
        groups.setdefault((rows.address, rows.model, rows.first, rows.last, rows.heads), []).append(rows)
    return list(groups.values())


def fetch(
    group: Sequence[Rows], limit_bytes: int, deadline_s: float, sealing: Sealing | None = None
) -> Mapping[str, Mapping[int, Mapping[str, Tensor]]]:
    """Session -> block -> name -> tensor, of rows that come `together`; raises `shipping.ShippingError`.

    A session that the other side has not, or not so far, is left out.
    """
    one = group[0]
    request = WeightsRequest(model=one.model, first=one.first, last=one.last, session=one.session, life=one.life)
    request.begin, request.end = one.begin, one.end
    request.heads.extend(one.heads)
    for rows in group[1:]:
        request.others.add(session=rows.session, life=rows.life, begin=rows.begin, end=rows.end)
    blocks, _ = shipping.fetch(one.address, request, limit_bytes=limit_bytes, deadline_s=deadline_s, sealing=sealing)
    return _by_session(blocks)


def _by_session(blocks: Mapping[int, Mapping[str, Tensor]]) -> dict[str, dict[int, dict[str, Tensor]]]:
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for block, tensors in blocks.items():
        for label, tensor in tensors.items():
            session, _, name = label.rpartition(" ")
            found.setdefault(session, {}).setdefault(block, {})[name] = tensor
    return found


def asked_rows(asked: WeightsRequest) -> list[KeptRows]:
    """What `fetch` asks for."""
    first = KeptRows(session=asked.session, life=asked.life, begin=asked.begin, end=asked.end)
    return [first, *asked.others]


def labelled(session: str, name: str) -> str:
    """What a tensor is called on the way."""
    return f"{session} {name}"


def catalogue(source: Held, model: str, deadline_s: float, sealing: Sealing | None = None) -> list[Entry]:
    """The sessions of a model with caches of what the source has; raises `shipping.ShippingError`."""
    address, first = source.address, source.first
    request = WeightsRequest(model=model, first=first, last=source.last, heads=source.heads, catalogue=True)
    blocks, _ = shipping.fetch(
        address, request, limit_bytes=CATALOGUE_MAX_BYTES, deadline_s=deadline_s, sealing=sealing
    )
    whole = {name: tensor for name, tensor in blocks[first].items() if tensor.size_bytes == ENTRY.size}
    return [Entry(session, *ENTRY.unpack(tensor.data)) for session, tensor in whole.items()]


def news(  # noqa: PLR0917 whom to ask for what
    channel: grpc.Channel,
    source: Held,
    model: str,
    known: Sequence[KeptRows],
    limit_bytes: int,
    sealing: Sealing | None = None,
) -> list[tuple[Rows, Mapping[int, Mapping[str, Tensor]]]]:
    """What the source has of its sessions behind what is known, as soon as there is any; nothing after a while.

    Over a way that stays open. Raises `shipping.ShippingError`.
    """
    address, request = source.address, news_request(source, model)
    request.others.extend(known)
    deadline_s = NEWS_WAIT_S + NEWS_TRANSFER_S
    blocks, _ = shipping.fetch_over(
        channel, address, request, limit_bytes=limit_bytes, deadline_s=deadline_s, sealing=sealing
    )
    found, place = _by_session(blocks), (model, request.first, request.last, tuple(request.heads))
    taken: list[tuple[Rows, Mapping[int, Mapping[str, Tensor]]]] = []
    for session, kept in found.items():
        entry = kept.get(request.first, {}).pop(NEWS, None)
        if entry is not None and entry.size_bytes == NEWS_ENTRY.size:
            taken.append((_told(address, session, place, NEWS_ENTRY.unpack(entry.data)), kept))
    return taken


def news_request(source: Held, model: str) -> WeightsRequest:
    return WeightsRequest(
        model=model, first=source.first, last=source.last, heads=source.heads, catalogue=True, news=True
    )


def told(rows: KeptRows) -> tuple[str, Tensor]:
    """The name and the tensor that say which rows of a session follow."""
    data = NEWS_ENTRY.pack(rows.life, rows.begin, rows.end)
    return labelled(rows.session, NEWS), Tensor("int64", (3,), data)


def _told(address: str, session: str, place: tuple[str, int, int, tuple[int, ...]], entry: tuple[int, ...]) -> Rows:
    (model, first, last, heads), (life, begin, end) = place, entry
    return Rows(address, session, model, life, first, last, begin, end, heads)


def listed(block: int, entries: Sequence[Entry]) -> Iterator[tuple[int, str, Tensor]]:
    """The inverse, for `shipping.ship`."""
    for entry in entries:
        yield block, entry.session, Tensor("int64", (2,), ENTRY.pack(entry.life, entry.tokens))
