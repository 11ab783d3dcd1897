"""Algorithm 1 of arXiv 2505.02533: score, overload resolver, backtracking and bounds.

Of a model that is placed by heads it is `controller.heads.blocks.heads`, the feed-forward part being one block; of
others the same algorithm runs on the layers. Options: score max|weighted (the paper's text, or its authors'
experiments), moves 1000 (the bound U on moves and on backtracks; Tmax is the run's `time_limit_s`), interval_s (by
heads: the work of a token that is placed on a node must be done within it, "total load vs. C_j"; without it the mean
time between two tokens of the stream, of which streams placed before take their part). What it says is infeasible may
be not: it is a heuristic.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from controller.cost import load_of, speed_now
from controller.heads.algorithm1 import Algorithm1, Blocks, Bounds, Devices
from controller.heads.blocks import devices_of as task_devices
from controller.heads.blocks import heads
from controller.heads.model import UNREACHABLE_S, Floats, Infeasible
from controller.heads.task import Task
from controller.model import Problem
from controller.policies.headrival import HeadRival
from controller.policies.headtask import by_heads, head_task
from controller.policies.rival import Scene, choice
from controller.policies.shards import shards_of
from controller.policies.start import number
from controller.table import Row


class Heads(HeadRival):
    rule = "Algorithm 1 by layer"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        score: Literal["max", "weighted"] = "max"
        if choice(options, "score", ("max", "weighted"), "max") == "weighted":
            score = "weighted"
        self._bounds = Bounds(score=score, moves=round(number(options, "moves", 1000)))
        self._interval_s = number(options, "interval_s", 0.0)

    def row(self, scene: Scene) -> Row | None:
        self.rule = "Algorithm 1 by head" if by_heads(scene) else "Algorithm 1 by layer"
        row = self._by_heads(scene) if by_heads(scene) else self._by_layers(scene)
        return row if row is not None and np.isfinite(scene.worth_us(row)) else None

    def _by_heads(self, scene: Scene) -> Row | None:
        made = head_task(scene, whole_ffn=True)
        found = heads(replace(made.asked, work=self._work(scene, made.asked)), self._bounds)
        return None if isinstance(found, Infeasible) else made.row(found)

    def _work(self, scene: Scene, asked: Task) -> Floats:
        """(N,) FLOP that a node can do within the interval beside the streams that were placed before."""
        interval_s = self._interval_s or scene.table.streams[scene.stream].period_us / 1e6
        free = np.ones(asked.devices)
        for n, (rho, *_) in load_of(scene.table, scene.snapshot, scene.before, {}).nodes.items():
            free[n] = max(0.0, 1.0 - rho)
        return np.asarray(task_devices(asked).flops_per_s * interval_s * free)

    def _by_layers(self, scene: Scene) -> Row | None:
        found = Algorithm1(blocks_of(scene), devices_of(scene), self._bounds).assign()
        if isinstance(found, Infeasible):
            return None
        return tuple(found.tolist())


def blocks_of(scene: Scene) -> Blocks:
    shards, chain = shards_of(scene), scene.table.chain(scene.stream)
    before = None if scene.current is None else np.array(scene.current, dtype=np.intp)
    may = np.isfinite(shards.compute)
    sends = np.diag(chain.data[1:-1], k=1) if scene.blocks > 1 else np.zeros((1, 1))
    return Blocks(shards.memory.max(axis=1), np.diff(chain.work), sends, may, before)


def devices_of(scene: Scene) -> Devices:
    shards, speed = shards_of(scene), speed_now(scene.table, scene.snapshot) * 1e6
    size = np.arange(len(speed))
    rate = np.asarray(scene.snapshot.rate_bps[size[:, None], size])
    slow = np.where(rate > 0, 8.0 / np.where(rate > 0, rate, 1), UNREACHABLE_S)
    np.fill_diagonal(slow, 0.0)
    return Devices(shards.free, np.full(len(speed), np.inf), speed, slow)
