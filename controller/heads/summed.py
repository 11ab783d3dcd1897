"""One layer where the transfers of different devices are summed: what the authors' public code minimises (mode `code`).

For a bottleneck T of compute each device takes the heads it ends by T, the devices with the cheapest links to the
projection first. T goes through all ends k * f / C_j: exact, moves not counted.
"""

import numpy as np

from controller.heads.model import Infeasible, Plan
from controller.heads.sweep import Layer, beside, rooms
from controller.heads.task import Task, fits


def place_summed(asked: Task) -> Plan | Infeasible:
    spent, heads, size = asked.spent, asked.model.heads, asked.devices
    layer = Layer(asked, asked.source, asked.memory, asked.work, spent.home, None)
    number, rows = np.arange(1, heads + 1), rooms(layer, "head")
    ends = np.unique(spent.head[:, None] * number)  # (T,)
    under = np.floor(ends[:, None] / spent.head * (1 + 1e-12))  # (T, N)
    best, best_s = None, float("inf")
    for p in range(size):
        cheap = np.argsort(spent.gather[:, p], kind="stable")
        for q in range(size):
            room = beside(rows, p, q)
            below = np.minimum(np.cumsum(np.minimum(under, room)[:, cheap], axis=1), heads)
            held = np.diff(below, prepend=0.0, axis=1)
            cost = ends + held @ spent.gather[cheap, p]
            cost = np.where(below[:, -1] == heads, cost, np.inf) + spent.proj[p] + spent.onward[p, q] + spent.ffn[q]
            at = int(cost.argmin())
            trial = np.concatenate((np.repeat(cheap, held[at].astype(np.intp)), (p, q)))[None]
            if cost[at] < best_s and fits(asked, trial):
                best, best_s = trial, float(cost[at])
    return Infeasible("no placement of all blocks fits", proven=True) if best is None else best
