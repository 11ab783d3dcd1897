"""heads_plus: the least delay of a token, and no move that is not worth it.

Of a model that is placed by heads it is `controller.heads.plus`: heads, projection and feed-forward part of each layer,
together on one node or spread, the projection's rows with their heads where that is faster (`proj_rows`), keys and
values that travel weighed against the rounds of `horizon_s`. Of other models
what is left of its choices is the pipeline, found by EdgeShard's programme with more than one memory a state. Waiting
is not counted, delay and the way home are. Options: horizon_s 30, labels 8 (ways kept for each layer and node),
min_gain 0.1 (of the latency now, below which a stream stays).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.heads.model import Infeasible
from controller.heads.pipeline import Stages, cheapest
from controller.heads.plus import bounded
from controller.heads.task import objective_s
from controller.model import Problem, Snapshot
from controller.policies.headrival import HeadRival
from controller.policies.headtask import HeadTask, by_heads, head_task
from controller.policies.rival import Scene
from controller.policies.rowtask import KNOWN, by_rows, cost_s, is_by_rows, plans
from controller.policies.shards import shards_of
from controller.policies.start import number
from controller.table import Row


class HeadsPlus(HeadRival):
    rule = "heads_plus by layer"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._labels = max(1, round(number(options, "labels", 8)))
        self._min_gain = number(options, "min_gain", 0.1)
        self._horizon_us = number(options, "horizon_s", 30) * 1e6
        self._searched: tuple[Snapshot, float] | None = None  # of the only stream: a bound of its costs

    def horizon(self, stream: str) -> float:
        return max(1.0, self._horizon_us / self._table.streams[stream].period_us)

    def row(self, scene: Scene) -> Row | None:
        self.rule = "heads_plus by head" if by_heads(scene) else "heads_plus by layer"
        row = self._by_heads(scene) if by_heads(scene) else self._pipeline(scene)
        return row if row is not None and np.isfinite(scene.worth_us(row)) else None

    def _by_heads(self, scene: Scene) -> Row | None:
        made = head_task(scene, self.horizon(scene.stream))
        rows = by_rows(scene, made)
        ways = [way for way in (_gathered(made), _by_rows(made, rows)) if way is not None]
        if not ways:
            return scene.current
        best = min(ways, key=lambda way: way.cost_s)
        if len(self._table.streams) == 1:
            self._searched = scene.snapshot, min(way.bound_s for way in ways)
        if scene.current is not None:
            now_s = _now_s(made, rows, scene.current)
            if now_s * (1 - self._min_gain) <= best.cost_s:
                return scene.current
            was = f"{now_s * 1e3:.1f} ms" if np.isfinite(now_s) else "not served"
            self.rule += f", a token {was} -> {best.cost_s * 1e3:.1f} ms"
        return best.row

    def _least_s(self, scene: Scene) -> float:
        if self._searched is not None and self._searched[0] is scene.snapshot:
            return self._searched[1]  # nobody shares what it has, so the search was of it alone
        return super()._least_s(scene)

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


@dataclass(frozen=True, slots=True)
class _Way:
    """What a search has found."""

    cost_s: float  # of a token and its share of the moves, from the phone and back
    bound_s: float
    row: Row


def _gathered(made: HeadTask) -> _Way | None:
    found = bounded(made.asked)
    if isinstance(found, Infeasible):
        return None
    return _Way(
        float(made.there_s[made.asked.source]) + found.cost_s, made.bound_s(found.bound_s), made.row(found.plan)
    )


def _by_rows(made: HeadTask, rows: HeadTask | None) -> _Way | None:
    found = Infeasible("") if rows is None else bounded(rows.asked)
    if rows is None or isinstance(found, Infeasible):
        return None
    thought_s = float(rows.there_s[rows.asked.source]) + found.cost_s
    known = cost_s(made, rows, found.plan) <= thought_s * KNOWN
    ways = [found.plan] if known else plans(made, rows, found.plan)
    spent_s, plan = min(((cost_s(made, rows, plan), plan) for plan in ways), key=lambda way: way[0])
    return _Way(spent_s, rows.bound_s(found.bound_s), rows.row(plan, by_rows=True))


def _now_s(made: HeadTask, rows: HeadTask | None, current: Row) -> float:
    """The same of what is placed."""
    assert made.asked.before is not None
    if rows is not None and is_by_rows(made, current):
        return cost_s(made, rows, made.asked.before)
    return float(made.there_s[made.asked.source]) + objective_s(made.asked, made.asked.before)
