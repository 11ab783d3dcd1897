"""What a session keeps in one place: of a block, or of one head of a block whose heads may be apart. Pure.

A pull is few transfers: heads that one node has are asked for together, all of them as the block, neighbours too.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodes.proto.data_pb2 import Held

WHOLE = -1


class Slot(NamedTuple):
    block: int
    head: int = WHOLE  # WHOLE: the block has none that could be apart


@dataclass(frozen=True, slots=True)
class Pull:
    """Rows of tokens from `begin` on, of the blocks first..last-1, from the node at `address`."""

    address: str
    first: int
    last: int
    begin: int
    heads: tuple[int, ...] = ()  # of each block; (): all of it


def slots_of(block: int, count: int, heads: Collection[int] = ()) -> list[Slot]:
    """Of a block with `count` heads (0: none that could be apart); `heads`: of these alone."""
    return [Slot(block, head) for head in heads or range(count)] if count else [Slot(block)]


def plan(wanted: Mapping[Slot, int], sources: Sequence[Held], counts: Sequence[int]) -> tuple[list[Pull], list[Slot]]:
    """The transfers, and what no source has. `wanted`: the tokens that are there already; `counts`: heads of blocks."""
    groups: dict[tuple[int, str, int], list[int]] = {}
    missing = []
    for slot, begin in sorted(wanted.items()):
        source = next((held for held in sources if has(held, slot)), None)
        if source is None:
            missing.append(slot)
        else:
            groups.setdefault((slot.block, source.address, begin), []).append(slot.head)
    apart = {held.address for held in sources if held.heads}
    found: dict[tuple[str, int, tuple[int, ...]], Pull] = {}
    pulls: list[Pull] = []
    for (block, address, begin), numbers in groups.items():
        whole = numbers == [WHOLE] or (len(numbers) == counts[block] and address not in apart)
        heads = () if whole else tuple(numbers)
        before = found.get((address, begin, heads))
        if before is not None and before.last == block:
            pulls.remove(before)
        else:
            before = Pull(address, block, block, begin, heads)
        found[address, begin, heads] = longer = Pull(address, before.first, block + 1, begin, heads)
        pulls.append(longer)
    return sorted(pulls, key=lambda pull: (pull.first, pull.heads, pull.address)), missing


def needed(pieces: Iterable[tuple[int, int, Collection[int] | None]]) -> dict[int, frozenset[int] | None]:
    """Of blocks first..last-1 and heads (None: all): by block, which heads are needed of it, None: all."""
    found: dict[int, frozenset[int] | None] = {}
    for first, last, heads in pieces:
        for block in range(first, last):
            before = found.get(block, frozenset())
            found[block] = None if heads is None or before is None else before | frozenset(heads)
    return found


def within(held: Held, first: int, last: int, heads: Collection[int] | None = None) -> Held | None:
    """The part of it that belongs to some blocks, and heads (None: all); None: there is none."""
    a, b = max(first, held.first), min(last, held.last)
    numbers = [i for i in held.heads if heads is None or i in heads] if held.heads else sorted(heads or ())
    if a >= b or (held.heads and not numbers):
        return None
    return Held(address=held.address, first=a, last=b, heads=numbers)


def has(held: Held, slot: Slot) -> bool:
    return held.first <= slot.block < held.last and (not held.heads or slot.head in held.heads)
