"""What placements hold in the memory of the nodes. Pure.

Each distinct block of a model is there once, and beside the blocks the largest working set of each distinct run, which
streams of one model share. While a move lasts, old and new placements are loaded at once.
"""

from collections.abc import Collection, Iterable
from functools import cached_property

import numpy as np

from controller.table import Bools, Floats, Rows, Table, runs

Run = tuple[str, int, int]  # model, first, last
AtNode = dict[int, set[Run]]


class Loaded:
    """What all these placements hold at once. Of `more` rows beside it only the nodes that these use are looked at."""

    def __init__(self, table: Table, *placements: Rows) -> None:
        self._table, self._placements = table, placements
        self._bytes: dict[frozenset[Run], float] = {}

    @cached_property
    def _at(self) -> AtNode:
        return _at_nodes(self._table, self._placements)

    @cached_property
    def over(self) -> dict[int, float]:
        """host -> bytes, of the hosts whose memory is too small for what is loaded already."""
        return self._over(self._at.keys(), {})

    @cached_property
    def used(self) -> Floats:
        """(N,) bytes."""
        used = np.zeros(len(self._table.memory))
        for n, held in self._at.items():
            used[n] = self._used(held)
        return used

    def overfull(self, more: Rows) -> dict[int, float]:
        """host -> bytes, of the hosts whose memory is too small for these rows, too."""
        if not self._table.tight:
            return {}
        added = _at_nodes(self._table, (more,))
        return {**self.over, **self._over(added.keys(), added)}

    def used_with(self, more: Rows) -> Floats:
        """(N,) bytes with these rows, too."""
        used = self.used.copy()
        for n, held in _at_nodes(self._table, (more,)).items():
            used[n] = self._used(self._at.get(n, set()) | held)
        return used

    def runs(self, model: str, more: Rows) -> frozenset[tuple[int, int, int]]:
        """The distinct runs (first, last, node) of a model, with these rows."""
        every = *self._at.items(), *_at_nodes(self._table, (more,)).items()
        return frozenset((first, last, n) for n, held in every for its, first, last in held if its == model)

    def _over(self, nodes: Collection[int], added: AtNode) -> dict[int, float]:
        found = dict[int, float]()
        for n in self._table.tight.intersection(nodes):
            used = self._used(self._at.get(n, set()) | added.get(n, set()))
            if used > self._table.memory[n]:
                found[n] = used
        return found

    def _used(self, held: Iterable[Run]) -> float:
        """The bytes of some runs on one node; many nodes hold the same."""
        key = frozenset(held)
        if key not in self._bytes:
            self._bytes[key] = _bytes(self._table, key)
        return self._bytes[key]


def _at_nodes(table: Table, placements: Iterable[Rows]) -> AtNode:
    found, streams = AtNode(), table.streams
    for model, row in {(streams[stream].model, row) for rows in placements for stream, row in rows.items()}:
        for first, last, n in runs(row):
            found.setdefault(n, set()).add((model, first, last))
    return found


def _bytes(table: Table, held: Iterable[Run]) -> float:
    blocks, working = dict[str, Bools](), 0.0
    for model, first, last in held:
        chain = table.chains[model]
        blocks.setdefault(model, np.zeros(len(chain.weight), dtype=bool))[first:last] = True
        working += float(chain.working[first:last].max())
    return working + sum(float(table.chains[model].weight @ there) for model, there in blocks.items())


def resident(table: Table, *placements: Rows) -> dict[str, Bools]:
    """model -> (L, N): which blocks are on which host when all these placements are loaded at once."""
    held = {name: np.zeros(chain.allowed.shape, dtype=bool) for name, chain in table.chains.items()}
    for n, there in _at_nodes(table, placements).items():
        for model, first, last in there:
            held[model][first:last, n] = True
    return held


def overfull(table: Table, *placements: Rows) -> dict[int, float]:
    """host -> bytes, of the hosts whose memory is too small for all these placements together."""
    return Loaded(table, *placements).over if table.tight else {}


def memory_bytes(table: Table, rows: Rows, held: Rows | None = None) -> Floats:
    """(N,) bytes each host needs for `rows`, the blocks of `held` staying loaded beside them."""
    return Loaded(table, rows, held or {}).used
