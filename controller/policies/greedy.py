"""Block after block in model order, each to the node that looks best right then; nothing is taken back.

Option `fit`: `finish` (the default) takes the node where the block is finished first, hop to it included, and the
answer's way home with the last block. `first` takes the first node of the experiment that fits: the Greedy of the
authors' code of arXiv 2505.02533, which the paper's text leaves open. A chain that ends in a corner is placed nowhere.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.model import Problem
from controller.policies.rival import Rival, Scene, choice
from controller.table import Floats, Row, runs


class Greedy(Rival):
    rule = "greedy"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._first = choice(options, "fit", ("finish", "first"), "finish") == "first"

    def row(self, scene: Scene) -> Row | None:
        row: Row = ()
        for _ in range(scene.blocks):
            added = next_us(scene, row)
            order = range(len(added)) if self._first else added.argsort(kind="stable").tolist()
            longer = ((*row, n) for n in order if added[n] < float("inf"))
            found = next((trial for trial in longer if scene.overfull(trial) is None), None)
            if found is None:
                return None
            row = found
        return row


def next_us(scene: Scene, row: Row) -> Floats:
    """(N,) what the next block adds on each node, infinite where it may not be; the last one with the way home."""
    cost, at = scene.cost, len(row)
    if not row:
        added = cost.enter + cost.run[0, 1]
    else:
        first, _, node = runs(row)[-1]
        added = cost.hop[at][node] + cost.run[at, at + 1]
        added[node] = cost.run[first, at + 1, node] - cost.run[first, at, node]
    return np.asarray(added + cost.leave if at + 1 == scene.blocks else added, dtype=np.float64)
