"""What a node can hold of a model: some blocks in a row, or a part of a layer. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nodes.models.shares import Heads, ShareError, share_of
from nodes.proto.data_pb2 import Held
from nodes.session.slots import within


class Piece(NamedTuple):
    model: str
    first: int
    last: int
    part: str = ""  # of the layer `first`, such as "heads:0,3,5"; empty: all of it

    @property
    def heads(self) -> tuple[int, ...] | None:
        """Whose keys and values it needs: (): none, None: those of all heads."""
        if not self.part:
            return None
        try:
            share = share_of(self.part)
        except ShareError:
            return ()
        return share.numbers if isinstance(share, Heads) else ()

    def of(self, sources: Sequence[Held]) -> list[Held]:
        """The keys and values that it needs of what others hold."""
        if self.heads == ():
            return []
        found = (within(held, self.first, self.last, self.heads) for held in sources)
        return [held for held in found if held is not None]

    def __str__(self) -> str:
        return f"{self.model}[{self.first}:{self.last}]" + (f" {self.part}" if self.part else "")


def runs(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together: [1, 2, 5] is (1, 3) and (5, 6)."""
    for i, block in enumerate(blocks):
        if i == 0 or blocks[i - 1] != block - 1:
            end = i
            while end + 1 < len(blocks) and blocks[end + 1] == blocks[end] + 1:
                end += 1
            yield block, blocks[end] + 1
