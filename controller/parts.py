"""Layers whose heads are placed one by one: from the node of each block to the way that a request takes. Pure.

A model's blocks may be finer than its units: a layer then is its heads (of Llama its K/V groups), its projection and
its feed-forward part, each a block, the last perhaps several, of columns; the projection perhaps one of rows for each
head, and what is left. A layer whose blocks are all on one node
is whole there, and whole units in a row make up one slice. Any other layer is one stop with parts: its input is at the
*home*, which does the norm and sends to the heads; they send to the node of the projection. That sends to the node of
the feed-forward part, where the layer ends; or, when columns are on several nodes, to each of them, and adds up there
what they send back. Columns that are neighbours on a node are one part.

Rows of the projection that are all with what is left of it are the projection. If any is elsewhere, the layer is *by
rows*: each head has its own, wherever they were placed, and sends what it adds to the node of the rest, which is the
home then and adds them up.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from controller.model import Block, Model, Slice

NORM, HEADS, PROJ, MLP = "norm", "heads:", "proj", "mlp"
ROWS, SUM = "rows:", "sum"  # "rows:0,3" of a stop: these heads with their rows
COLUMNS, MLP_NORM, MLP_SUM = "mlp:", "mlp:norm", "mlp:sum"  # "mlp:0-384": columns 0..383
RANGE = re.compile(r"mlp:(\d+)-(\d+)")


def in_parts(model: Model) -> bool:
    return any(block.part for block in model.blocks)


def way(model: Model, nodes: Sequence[str]) -> tuple[Slice, ...]:
    """The stops of a request, in order, from the node of each block."""
    stops: list[Slice] = []
    for unit, held in _units(model, nodes):
        before = _end(stops[-1]) if stops else ""
        stop = _stop(model.name, unit, held, before)
        last = stops[-1] if stops else None
        if last and not last.parts and not stop.parts and last.node == stop.node:
            stops[-1] = Slice(last.node, last.model, last.first, stop.last)
        else:
            stops.append(stop)
    return tuple(stops)


def pieces(stop: Slice) -> Iterator[Slice]:
    """What must be loaded for a stop: the slice itself, or each part on its node, and those that follow from them.

    These are the norm at the home and the sum of rows, and with columns their norm and their sum at the projection.
    """
    if not stop.parts:
        yield stop
        return
    follow = [(stop.node, NORM)]
    if any(part.startswith(ROWS) for _, part in stop.parts):
        follow.append((stop.node, SUM))
    if any(part.startswith(COLUMNS) for _, part in stop.parts):
        follow += [(_end(stop), MLP_NORM), (_end(stop), MLP_SUM)]
    for node, part in (*stop.parts, *follow):
        yield Slice(node, stop.model, stop.first, stop.last, part)


def blocks_of(model: Model, piece: Slice) -> list[int]:
    """The blocks that a slice, or a part of a layer, is made of."""
    if not in_parts(model):
        return list(range(piece.first, piece.last))
    return [
        i
        for i, block in enumerate(model.blocks)
        if piece.first <= block.unit < piece.last and (not piece.part or _within(block.part, piece.part))
    ]


def copied(model: Model, piece: Slice) -> list[int]:
    """The blocks whose holders have its weights: its own, or of what follows from other parts those of the layer."""
    return blocks_of(model, piece) or blocks_of(model, replace(piece, part=""))


def text(stop: Slice) -> str:
    """For people: "mec[4-13]", blocks inclusive; of a layer by parts "[5: edge1 heads:0,1 proj, mec heads:2 mlp]"."""
    if not stop.parts:
        return f"{stop.node}[{stop.first}-{stop.last - 1}]"
    nodes = dict.fromkeys(node for node, _ in stop.parts)
    held = (" ".join([node, *(part for at, part in stop.parts if at == node)]) for node in nodes)
    return f"[{stop.first}: {', '.join(held)}]"


def _units(model: Model, nodes: Sequence[str]) -> Iterator[tuple[int, list[tuple[Block, str]]]]:
    for unit, held in groupby(zip(model.blocks, nodes, strict=True), key=lambda pair: pair[0].unit):
        yield unit, list(held)


def _stop(model: str, unit: int, held: Sequence[tuple[Block, str]], before: str) -> Slice:
    on = {node for _, node in held}
    if len(on) == 1:
        return Slice(held[0][1], model, unit, unit + 1)
    at = {block.part: node for block, node in held}
    heads: dict[str, list[int]] = {}
    for block, node in held:
        for number in _heads(block.part):
            heads.setdefault(node, []).append(number)
    by_rows = any(block.part.startswith(ROWS) and node != at[PROJ] for block, node in held)
    kind = ROWS if by_rows else HEADS
    parts = [(node, kind + ",".join(map(str, sorted(numbers)))) for node, numbers in heads.items()]
    parts += [*([] if by_rows else [(at[PROJ], PROJ)]), *_feed_forward(held)]
    home = at[PROJ] if by_rows or before not in on else before  # where it is already, if there is anything to do
    return Slice(home, model, unit, unit + 1, parts=tuple(parts))


def _feed_forward(held: Sequence[tuple[Block, str]]) -> list[tuple[str, str]]:
    """Its node; of columns, neighbours on one node put together."""
    parts: list[tuple[str, int, int]] = []
    blocks = [(block.part, node) for block, node in held if block.part == MLP or block.part.startswith(COLUMNS)]
    if len({node for _, node in blocks}) == 1:
        return [(blocks[0][1], MLP)]
    for (begin, end), node in sorted((_columns(part), node) for part, node in blocks):
        if parts and parts[-1][0] == node:
            parts[-1] = (node, parts[-1][1], end)
        else:
            parts.append((node, begin, end))
    return [(node, f"{COLUMNS}{begin}-{end}") for node, begin, end in parts]


def _end(stop: Slice) -> str:
    """Where the output of a stop is."""
    placed = {part: node for node, part in stop.parts}
    return placed.get(MLP) or placed.get(PROJ) or stop.node


def _within(block: str, part: str) -> bool:
    """Whether a block is of that part."""
    if part.startswith(HEADS):
        return block.startswith(HEADS) and set(_heads(block)) <= set(_heads(part))
    if part.startswith(ROWS):
        return block.startswith((HEADS, ROWS)) and set(_numbers(block)) <= set(_numbers(part))
    if part == PROJ:
        return block == PROJ or block.startswith(ROWS)
    if part == MLP:
        return block == MLP or block.startswith(COLUMNS)
    if RANGE.fullmatch(part) and RANGE.fullmatch(block):
        (begin, end), (low, high) = _columns(block), _columns(part)
        return low <= begin and end <= high
    return block == part


def _columns(part: str) -> tuple[int, int]:
    found = RANGE.fullmatch(part)
    assert found is not None
    return int(found[1]), int(found[2])


def _heads(part: str) -> list[int]:
    return _numbers(part) if part.startswith(HEADS) else []


def _numbers(part: str) -> list[int]:
    return [int(number) for number in part.partition(":")[2].split(",")]
