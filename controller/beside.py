"""What counts beside latency for streams of one model, on all nodes: what hops risk, and what changes. Pure.

Both add up over the hops and blocks of a row, so the programme over tiers knows them exactly. What utilisation costs is
left out, which is never more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controller.objective import Objective
from controller.table import Floats, Row, Rows, Table


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Of B streams on N nodes; costs of a stream are told as multiples of its own weight."""

    risk: Floats  # (L+1,) of what crosses the cut before each block
    coming_us: Floats  # (B, N) to come to a node with what is of risk 1
    rows: tuple[Row, ...]  # where they are now; nothing of those that are new
    changing_us: Floats  # (B,) a block that is elsewhere then

    @classmethod
    def of(cls, table: Table, streams: Sequence[str], weight: Floats, objective: Objective, now: Rows) -> "Beside":
        """`weight` of each stream, (B, 1)."""
        source = np.array([[table.source(stream)] for stream in streams])
        each = np.where(weight > 0, weight, np.inf)
        return cls(
            table.chain(streams[0]).risk,
            (table.zone != table.zone[source]) * (objective.privacy_us / each),
            tuple(now.get(stream, ()) for stream in streams),
            objective.reconfigure_us / each[:, 0],
        )

    def parted(self, alike: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Blocks that are alike, and now on the same node too."""
        cuts = {first for first, _ in alike} | {last for _, last in alike}
        for row, each in zip(self.rows, self.changing_us.tolist(), strict=True):
            cuts |= {block for block in range(1, len(row)) if row[block] != row[block - 1]} if each else set()
        return list(pairwise(sorted(cuts)))

    def whole_us(self) -> Floats:
        """(B, N) of all blocks on one node."""
        return np.asarray(self.coming_us * self.risk[0] + self.pieces_us([0, len(self.risk) - 1])[0])

    def pieces_us(self, cuts: Sequence[int]) -> Floats:
        """(pieces, B, N) what changes when the blocks between two cuts are on a node."""
        found = np.zeros((len(cuts) - 1, *self.coming_us.shape))
        for b, (row, each) in enumerate(zip(self.rows, self.changing_us.tolist(), strict=True)):
            if not row or not each:
                continue
            for piece, (first, last) in enumerate(pairwise(cuts)):
                found[piece, b] = each * (last - first)
                np.subtract.at(found[piece, b], list(row[first:last]), each)
        return found
