"""What placements hold in the memory of the nodes. Pure.

Each distinct block of a model is there once, and beside the blocks the largest working set of each distinct run, which
streams of one model share. While a move lasts, old and new placements are loaded at once.
"""

import numpy as np

from controller.table import Bools, Floats, Rows, Table, runs

Runs = set[tuple[str, int, int, int]]


def distinct_runs(table: Table, *placements: Rows, on: frozenset[int] | None = None) -> Runs:
    """(model, first, last, node) on some hosts, or on all."""
    return {
        (table.streams[stream].model, *run)
        for rows in placements
        for stream, row in rows.items()
        for run in runs(row)
        if on is None or run[2] in on
    }


def resident(table: Table, *placements: Rows) -> dict[str, Bools]:
    """model -> (L, N): which blocks are on which host when all these placements are loaded at once."""
    held = {name: np.zeros(chain.allowed.shape, dtype=bool) for name, chain in table.chains.items()}
    for model, first, last, n in distinct_runs(table, *placements):
        held[model][first:last, n] = True
    return held


def memory_of(table: Table, *placements: Rows) -> dict[int, float]:
    """host -> bytes, of the hosts that hold anything when all these placements are loaded at once."""
    return _held(table, distinct_runs(table, *placements))


def _held(table: Table, kept: Runs) -> dict[int, float]:
    held: dict[tuple[str, int], Bools] = {}
    used: dict[int, float] = {}
    for model, first, last, n in kept:
        chain = table.chains[model]
        blocks = held.setdefault((model, n), np.zeros(len(chain.weight), dtype=bool))
        blocks[first:last] = True
        used[n] = used.get(n, 0.0) + float(chain.working[first:last].max())
    for (model, n), blocks in held.items():
        used[n] += float(table.chains[model].weight @ blocks)
    return used


def overfull(table: Table, *placements: Rows) -> dict[int, float]:
    """host -> bytes, of the hosts whose memory is too small for all these placements together."""
    if not table.tight:
        return {}
    kept = distinct_runs(table, *placements, on=table.tight)
    return {n: used for n, used in _held(table, kept).items() if used > table.memory[n]}


def memory_bytes(table: Table, rows: Rows, held: Rows | None = None) -> Floats:
    """(N,) bytes each host needs for `rows`, the blocks of `held` staying loaded beside them."""
    total = np.zeros(len(table.problem.hosts))
    for n, used in memory_of(table, rows, held or {}).items():
        total[n] = used
    return total
