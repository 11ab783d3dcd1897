"""Greedy at the start; when something changed, each layer is looked at again by itself.

The "layer-level re-check" of arXiv 2505.02533: a layer goes to another node when that alone lowers the predicted
latency by `threshold` (0.1) of it, every other layer staying. On a chain a single layer gains only at a cut, so the
rule can creep but not leap: that is its weakness, and kept. A stream that cannot be served as it is starts afresh by
the greedy rule (the authors' code gives up there). Looked at: the nodes of the stream and the 16 that are fastest now.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.cost import speed_now
from controller.model import Problem
from controller.policies.greedy import Greedy
from controller.policies.rival import Scene
from controller.policies.start import number
from controller.table import Row

FASTEST = 16


class Dynamic(Greedy):
    rule = "dynamic, layer by layer"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._threshold = number(options, "threshold", 0.1)

    def row(self, scene: Scene) -> Row | None:
        row = scene.current
        if row is None or scene.worth_us(row) == float("inf"):
            return super().row(scene)
        fastest = np.argsort(-speed_now(scene.table, scene.snapshot), kind="stable")[:FASTEST].tolist()
        nodes = sorted({*row, *fastest})
        worth = scene.worth_us(row)
        for block in range(len(row)):
            trials = [(*row[:block], n, *row[block + 1 :]) for n in nodes]
            best, trial = min((scene.worth_us(trial), trial) for trial in trials)
            if best <= worth * (1 - self._threshold) and trial != row:
                row, worth = trial, best
        return row
