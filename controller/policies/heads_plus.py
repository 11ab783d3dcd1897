"""heads_plus with layers for blocks: the best pipeline, and no move that is not worth it.

At head level it is `controller.heads.plus`, which also splits layers; as long as what runs is cut between layers
only, what is left of its choices is the pipeline, found by EdgeShard's programme with more than one memory a state.
Waiting is not counted, delay and the way home are. Options: labels 8 (ways kept for each layer and node), min_gain
0.1 (of the latency now, below which a stream stays).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.cost import Row
from controller.heads.pipeline import Stages, cheapest
from controller.model import Problem
from controller.policies.rival import Rival, Scene
from controller.policies.shards import shards_of
from controller.policies.start import number


class HeadsPlus(Rival):
    rule = "heads_plus by layer"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._labels = max(1, round(number(options, "labels", 8)))
        self._min_gain = number(options, "min_gain", 0.1)

    def row(self, scene: Scene) -> Row | None:
        shards = shards_of(scene)
        enter, home = shards.hop[0, shards.phone], shards.hop[-1][:, shards.phone]
        stages = Stages(enter, shards.compute, shards.hop, home, shards.memory, shards.free)
        found = cheapest(stages, self._labels)
        row = None if found is None else tuple(found.tolist())
        worth = float("inf") if row is None else scene.worth_us(row)
        if scene.current is not None and scene.worth_us(scene.current) * (1 - self._min_gain) <= worth:
            row, worth = scene.current, scene.worth_us(scene.current)
        return row if np.isfinite(worth) else None
