"""heads_plus: the least delay of a token, and no move that is not worth it.

Of a model that is placed by heads it is `controller.heads.plus`: heads, projection and feed-forward part of each layer,
together on one node or spread, keys and values that travel weighed against the rounds of `horizon_s`. Of other models
what is left of its choices is the pipeline, found by EdgeShard's programme with more than one memory a state. Waiting
is not counted, delay and the way home are. Options: horizon_s 30, labels 8 (ways kept for each layer and node),
min_gain 0.1 (of the latency now, below which a stream stays).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.heads.model import Infeasible
from controller.heads.pipeline import Stages, cheapest
from controller.heads.plus import bounded
from controller.heads.task import objective_s
from controller.model import Problem
from controller.policies.headtask import by_heads, head_task
from controller.policies.rival import Rival, Scene
from controller.policies.shards import shards_of
from controller.policies.start import number
from controller.table import Row


class HeadsPlus(Rival):
    rule = "heads_plus by layer"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._labels = max(1, round(number(options, "labels", 8)))
        self._min_gain = number(options, "min_gain", 0.1)
        self._horizon_us = number(options, "horizon_s", 30) * 1e6

    def row(self, scene: Scene) -> Row | None:
        self.rule = "heads_plus by head" if by_heads(scene) else "heads_plus by layer"
        row = self._by_heads(scene) if by_heads(scene) else self._pipeline(scene)
        return row if row is not None and np.isfinite(scene.worth_us(row)) else None

    def _by_heads(self, scene: Scene) -> Row | None:
        made = head_task(scene, max(1.0, self._horizon_us / scene.table.streams[scene.stream].period_us))
        found = bounded(made.asked)
        if isinstance(found, Infeasible):
            return scene.current
        now_s = float("inf") if made.asked.before is None else objective_s(made.asked, made.asked.before)
        if scene.current is not None and now_s * (1 - self._min_gain) <= found.cost_s:
            return scene.current
        if scene.current is not None:
            was = f"{now_s * 1e3:.1f} ms" if np.isfinite(now_s) else "not served"
            self.rule += f", a token {was} -> {found.cost_s * 1e3:.1f} ms"
        return made.row(found.plan)

    def _pipeline(self, scene: Scene) -> Row | None:
        shards = shards_of(scene)
        enter, home = shards.hop[0, shards.phone], shards.hop[-1][:, shards.phone]
        stages = Stages(enter, shards.compute, shards.hop, home, shards.memory, shards.free)
        found = cheapest(stages, self._labels)
        row = None if found is None else tuple(found.tolist())
        worth = float("inf") if row is None else scene.worth_us(row)
        if scene.current is not None and scene.worth_us(scene.current) * (1 - self._min_gain) <= worth:
            row = scene.current
        return row
