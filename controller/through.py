"""The cheapest row of each stream through each of its runs: `programme` forwards and backwards. Pure."""

from controller.chain import Costs, Indices, run_at, run_ends
from controller.programme import runs_from, still_to_pay, tables
from controller.table import Floats, Row


class Through:
    """Of B streams of one model; P of all runs on K nodes each, infinite where a run cannot be."""

    def __init__(self, costs: Costs, runs: Indices, known: tuple[Floats, Floats] | None = None) -> None:
        self._costs = costs
        self._first, self._last = (ends[runs] for ends in run_ends(len(costs.kind) - 1))
        self._opened, self._closed = known or tables(costs)
        self._ready, after = still_to_pay(costs)
        self._after = after
        self.least = (self._closed[:, -1] + costs.leave).min(axis=1)  # (B,) of all rows
        opened, run, left = (parts.swapaxes(0, 1) for parts in (self._opened, costs.run, after))
        self.by_run = opened[self._first] + run[runs] + left[self._last]  # (P, B, K)

    def row(self, stream: int, run: int, node: int) -> Row:
        first, last = int(self._first[run]), int(self._last[run])
        places = [*self._before(stream, first, node), *[node] * (last - first), *self._behind(stream, last, node)]
        return tuple(self._costs.nodes[stream, places].tolist())

    def _before(self, b: int, i: int, node: int) -> list[int]:
        """Where the blocks before i are, when i opens a run on `node`."""
        row: list[int] = []
        while i > 0:
            node = int((self._closed[b, i] + self._costs.hop[b, self._costs.kind[i], :, node]).argmin())
            at = run_at(0, i)
            first = int((self._opened[b, :i, node] + self._costs.run[b, at : at + i, node]).argmin())
            row[:0], i = [node] * (i - first), first
        return row

    def _behind(self, b: int, j: int, node: int) -> list[int]:
        """Where the blocks from j on are, when a run on `node` ends before j."""
        row: list[int] = []
        blocks = len(self._costs.kind) - 1
        while j < blocks:
            node = int((self._costs.hop[b, self._costs.kind[j], node] + self._ready[b, j]).argmin())
            ends = self._costs.run[b, runs_from(j, blocks), node] + self._after[b, j + 1 :, node]
            last = j + 1 + int(ends.argmin())
            row, j = row + [node] * (last - j), last
        return row
