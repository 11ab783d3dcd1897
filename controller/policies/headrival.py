"""A rival that may place a stream by parts of layers: its predictions are those of the parts, and so is its bound.

The bound is that of `heads_plus` (controller/heads/tolls.py) for each stream as if it were alone, the moves that the
policy weighs counted. There is none where pins are not the same in all layers: the planners take layers for alike.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from controller.model import Candidate, Problem, Snapshot
from controller.parts import in_parts
from controller.policies.headtask import head_task
from controller.policies.partway import Layout, PartForecast, layout_of
from controller.policies.rival import Rival, Scene
from controller.policies.rowtask import by_rows
from controller.scene import alone
from controller.table import Rows


class HeadRival(Rival):
    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._from: Rows = {}  # what serves while a decision is made

    def horizon(self, stream: str) -> float | None:  # noqa: ARG002 those who weigh moves do it for each stream
        """The requests that keys and values which move are weighed against; None: what a move costs is not asked."""
        return None

    def rows(self, snapshot: Snapshot, current: Rows, epoch: int) -> dict[str, tuple[int, ...]]:
        self._from = current
        return super().rows(snapshot, current, epoch)

    def _parted(self) -> list[str]:
        models = self._table.problem.models
        return [name for name, stream in sorted(self._table.streams.items()) if in_parts(models[stream.model])]

    def _candidate(self, snapshot: Snapshot, name: str, rows: Rows, old: Rows) -> Candidate:
        made, parted = super()._candidate(snapshot, name, rows, old), self._parted()
        if not parted:
            return made
        forecast = PartForecast(self._table, snapshot)
        weighed = {s: rounds for s in parted if (rounds := self.horizon(s)) is not None}
        return replace(made, predicted=forecast.latencies(rows), parts=forecast.by_parts(rows, old, weighed))

    def _bound(self, snapshot: Snapshot) -> int:
        parted = self._parted()
        if not parted:
            return super()._bound(snapshot)
        whole = [stream for stream in sorted(self._table.streams) if stream not in parted]
        least_us = [one.least_us for one in alone(self._table, snapshot, whole).values()]
        for stream in parted:
            if not _alike(self._table.chain(stream).allowed, layout_of(self._table, stream)):
                return 0
            weighs = self._from if self.horizon(stream) is not None else {}
            least_us.append(self._least_s(self.scene(snapshot, stream, {}, weighs, 0)) * 1e6)
        return int(sum(us for us in least_us if isfinite(us)))

    def _least_s(self, scene: Scene) -> float:
        """No placement of the stream costs less."""
        made = head_task(scene, self.horizon(scene.stream) or 1.0)
        rows = by_rows(scene, made)
        return made.bound_s() if rows is None else min(made.bound_s(), rows.bound_s())


def _alike(allowed: np.ndarray[tuple[int, int], np.dtype[np.bool_]], layout: Layout) -> bool:
    """Whether all layers may be where the first may, and all heads and all columns where one of them may."""
    kinds = [sum(layout.heads, ()), sum(layout.rows, ()), layout.proj, sum(layout.ffn, ())]
    return all((allowed[list(blocks)] == allowed[blocks[0]]).all() for blocks in kinds if blocks)
