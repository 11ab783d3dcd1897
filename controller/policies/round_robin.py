"""Blocks to the nodes in turn, in the experiment's order; a node that does not fit is skipped.

The Round-Robin of arXiv 2505.02533 (its text has the name, the authors' code the rule). Each change of node is a hop,
so on a chain it shows what ignoring the links costs. Option `each`: `block` (the default, as there) or `stream`,
whole streams in turn.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.model import Problem
from controller.policies.greedy import next_us
from controller.policies.rival import Rival, Scene, choice
from controller.table import Row


class RoundRobin(Rival):
    rule = "round robin"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._whole = choice(options, "each", ("block", "stream"), "block") == "stream"

    def row(self, scene: Scene) -> Row | None:
        hosts = len(scene.table.memory)
        last = [row[-1] for row in scene.before.values()]
        turn = np.roll(np.arange(hosts), -(last[-1] + 1 if last else 0)).tolist()
        if self._whole:
            rows = ((n,) * scene.blocks for n in turn)
            return next((row for row in rows if scene.worth_us(row) < float("inf")), None)
        row: Row = ()
        for _ in range(scene.blocks):
            added = next_us(scene, row)
            longer = ((*row, n) for n in turn if added[n] < float("inf"))
            found = next((trial for trial in longer if scene.overfull(trial) is None), None)
            if found is None:
                return None
            row, at = found, turn.index(found[-1])
            turn = turn[at + 1 :] + turn[: at + 1]
        return row
