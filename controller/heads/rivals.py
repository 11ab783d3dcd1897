"""The rivals of arXiv 2505.02533 on the same tasks and costs, by the paper's text or, where it is silent, its code.

  greedy       blocks in order of demand, each to the first device that fits; anew in each interval
  round_robin  blocks in model order to the devices in turn, skipping where one does not fit; anew in each interval
  static       greedy at the start, for ever
  edgeshard    whole layers by its own programme at the start, for ever; one layer is one device
`dynamic` (Algorithm 1 with layers for blocks) stands in `blocks`, Galaxy in `galaxy`. A rule is asked in each
interval; those that never move give back what is placed, fitting or not.
"""

import numpy as np

from controller.heads.blocks import blocks_of
from controller.heads.model import Infeasible, Ints, Plan
from controller.heads.pipeline import pipeline
from controller.heads.task import SLACK, Task


def greedy(asked: Task) -> Plan | Infeasible:
    made = blocks_of(asked)
    demand = made.memory / max(float(asked.memory.max()), 1.0) + made.flops / made.flops.sum()
    return _each(asked, np.argsort(-demand, kind="stable"), turning=False)


def round_robin(asked: Task) -> Plan | Infeasible:
    return _each(asked, np.arange(asked.model.layers * (asked.model.heads + 2)), turning=True)


def static(asked: Task) -> Plan | Infeasible:
    return greedy(asked) if asked.before is None else asked.before


def edgeshard(asked: Task) -> Plan | Infeasible:
    return pipeline(asked) if asked.before is None else asked.before


def _each(asked: Task, order: Ints, turning: bool) -> Plan | Infeasible:
    """Block after block to the first device that fits, beginning at the first or behind the last one used."""
    made, size = blocks_of(asked), asked.devices
    need = np.stack((made.memory, made.flops), axis=1)
    have = np.stack((asked.memory, asked.work), axis=1) * SLACK
    used, at, turn = np.zeros_like(have), np.zeros(len(need), dtype=np.intp), 0
    for block in order.tolist():
        fitting = (used + need[block] <= have).all(axis=1)
        if not fitting.any():
            return Infeasible(f"block {block} fits on no device beside those before it")
        device = (turn + int(np.roll(fitting, -turn).argmax())) % size
        at[block], turn = device, (device + 1) % size if turning else 0
        used[device] += need[block]
    return at.reshape(asked.model.layers, -1)
