"""Random rows, for sanity: what beats nothing but this is no policy.

A row has 1 to `runs` (3) runs of random lengths on random nodes, drawn again until it can be; the draw depends on the
experiment's seed, the stream and the epoch alone. It stays where it is unless `redo` says otherwise.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from controller.model import Problem
from controller.policies.rival import Redo, Rival, Scene
from controller.policies.start import number
from controller.table import Row

TRIALS = 200


class Random(Rival):
    redo: ClassVar[Redo] = "never"
    rule = "random"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._runs = max(1, round(number(options, "runs", 3)))

    def row(self, scene: Scene) -> Row | None:
        problem = scene.table.problem
        position = sorted(scene.table.streams).index(scene.stream)
        draw = np.random.default_rng((problem.seed, position, scene.epoch))
        for _ in range(TRIALS):
            count = int(draw.integers(1, min(self._runs, scene.blocks) + 1))
            cuts = np.sort(draw.choice(np.arange(1, scene.blocks), count - 1, replace=False))
            nodes = draw.integers(len(problem.hosts), size=count)
            row = tuple(np.repeat(nodes, np.diff([0, *cuts, scene.blocks])).tolist())
            if scene.worth_us(row) < float("inf"):
                return row
        return None
