"""Galaxy's planner (arXiv 2405.17245) with layers for heads: shares by capability, within memory.

Galaxy itself is tensor parallel: at head level, with its all-gathers and reduce-scatters, it is
`controller.heads.galaxy`. As long as what runs is cut between layers only, its shares are runs of layers: each node
in proportion to its free compute, the phone's own first, then the fastest; a run ends earlier where memory does,
and the rest goes to the nodes behind. Layers that could be placed by parts stay whole, unless memory ends in the middle
of one. Option `devices` (4): how many nodes share, of those that may have anything; fewer when so many do not hold or
reach the whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from controller.cost import speed_now
from controller.model import Block, Problem
from controller.policies.headrival import HeadRival
from controller.policies.rival import Scene
from controller.policies.start import number
from controller.table import Floats, Row


class Galaxy(HeadRival):
    rule = "Galaxy's shares by layer"
    redo = "never"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._devices = max(1, round(number(options, "devices", 4)))

    def row(self, scene: Scene) -> Row | None:
        speed = speed_now(scene.table, scene.snapshot)
        may = np.asarray(scene.table.chain(scene.stream).allowed.any(axis=0))
        fastest = [n for n in np.argsort(-speed, kind="stable").tolist() if may[n]]
        ring = sorted(fastest, key=lambda n: n != scene.source)
        for size in range(min(self._devices, len(ring)), 0, -1):
            for nodes in (ring[:size], fastest[:size]):
                row = runs_by_share(scene, nodes, speed)
                if row is not None and np.isfinite(scene.worth_us(row)):
                    return row
        whole = [(n,) * scene.blocks for n in fastest]
        return next((row for row in whole if np.isfinite(scene.worth_us(row))), None)


def runs_by_share(scene: Scene, nodes: list[int], speed: Floats) -> Row | None:
    """Runs in proportion to the speed of the nodes, in their order; None when the layers do not all fit."""
    total = float(speed[nodes].sum())
    if total <= 0:
        return None
    blocks = scene.table.problem.models[scene.table.streams[scene.stream].model].blocks
    cuts = np.array([i for i in range(len(blocks) + 1) if i in {0, len(blocks)} or _begins(blocks, i)])
    shares = np.round(np.cumsum(speed[nodes]) / total * scene.blocks)
    ends = [int(cuts[np.abs(cuts - share).argmin()]) for share in shares]
    row: Row = ()
    for node, end in zip(nodes, ends, strict=True):
        goal = scene.blocks if node == nodes[-1] else end
        while len(row) < goal and scene.overfull((*row, node)) is None:
            row = (*row, node)
    return row if len(row) == scene.blocks else None


def _begins(blocks: Sequence[Block], i: int) -> bool:
    """Whether a unit begins with that block."""
    return not blocks[i].part or blocks[i].unit != blocks[i - 1].unit
