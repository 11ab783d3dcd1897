"""EdgeShard's dynamic programmes (arXiv 2405.14371): contiguous shards over devices, for latency or for throughput.

Option `aim`:
  latency     state (layer, device): the least sum of compute and transfer. Each state remembers the memory of its own
              best way only, as published: under memory pressure it misses optima, and can end nowhere.
  throughput  state (layers, set of devices, last device): the least bottleneck of any stage, compute or transfer,
              each device once. The sets are 2^width: only the `width` (8) fastest nodes and the phone.
Option `source_first` (true): the first layer stays on the phone, the paper's protection of the input; where it
cannot, by memory or because the phone is barred, it is dropped.
Load is counted in the compute time; waiting is not, as in the paper. Delay, hop overhead and the answer's way home are
counted, though the paper has bytes / bandwidth only: a request pays them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.cost import speed_now
from controller.model import Problem
from controller.policies.rival import Rival, Scene, choice
from controller.policies.shards import Bottleneck, Shards, shards_of
from controller.policies.start import BadOption, number
from controller.table import Bools, Floats, Row


class Edgeshard(Rival):
    rule = "EdgeShard"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._aim = choice(options, "aim", ("latency", "throughput"), "latency")
        self._source_first = options.get("source_first", True)
        if not isinstance(self._source_first, bool):
            raise BadOption(f"policy option source_first: {self._source_first!r}; true or false is right")
        self._width = max(1, min(12, round(number(options, "width", 8))))
        self.rule = f"EdgeShard, {self._aim}"

    def row(self, scene: Scene) -> Row | None:
        shards = shards_of(scene)
        barred = shards.compute.copy()
        barred[0, np.arange(barred.shape[1]) != shards.phone] = np.inf
        first = Shards(barred, shards.hop, shards.memory, shards.free, shards.phone)
        for asked in (first, shards) if self._source_first else (shards,):
            row = least_sum(asked) if self._aim == "latency" else Bottleneck(asked, self._nodes(scene)).row()
            if row is not None and scene.overfull(row) is None:
                return row
        return None

    def _nodes(self, scene: Scene) -> list[int]:
        fastest = np.argsort(-speed_now(scene.table, scene.snapshot), kind="stable").tolist()
        return sorted({scene.source, *fastest[: self._width]})


def least_sum(shards: Shards) -> Row | None:
    """The latency programme: O(L N^2), and one vector of used memory for each state of a layer."""
    layers, nodes = shards.compute.shape
    everyone = np.arange(nodes)
    best = np.where(_fits(shards, 0, np.zeros((1, nodes)))[0], shards.hop[0, shards.phone] + shards.compute[0], np.inf)
    used = np.diag(shards.memory[0])  # (N ways, N) of the best way that ends on each node
    came = np.zeros((layers, nodes), dtype=np.intp)
    for layer in range(1, layers):
        ways = np.where(_fits(shards, layer, used), best[:, None] + shards.hop[layer], np.inf)
        came[layer] = ways.argmin(axis=0)
        best = ways[came[layer], everyone] + shards.compute[layer]
        used = used[came[layer]]
        used[everyone, everyone] += shards.memory[layer]
    total = best + shards.hop[layers][:, shards.phone]
    node = int(total.argmin())
    if not np.isfinite(total[node]):
        return None
    row = [node]
    for layer in range(layers - 1, 0, -1):
        row.append(node := int(came[layer, node]))
    return tuple(reversed(row))


def _fits(shards: Shards, layer: int, used: Floats) -> Bools:
    """(ways, N): whether the layer fits on each node after each way."""
    return np.asarray(used + shards.memory[layer] <= shards.free, dtype=bool)
