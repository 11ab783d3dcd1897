"""Two layers, or two blocks, change places: steps out of where memory is too short to move one at a time.

Layers are alike, so the exchange of two whole ones always fits.
"""

from itertools import combinations, islice

import numpy as np

from controller.heads.costs import used_of
from controller.heads.model import Ints, Plan
from controller.heads.task import SLACK, Task

LAYERS, BLOCKS = 66, 600  # exchanges of one plan


def layers_exchanged(plan: Plan) -> Ints:
    """(M, layers, blocks)"""
    pairs = list(islice(combinations(range(len(plan)), 2), LAYERS))
    trials = np.repeat(plan[None], len(pairs), axis=0)
    for trial, (one, other) in zip(trials, pairs, strict=True):
        trial[[one, other]] = plan[[other, one]]
    return trials


def blocks_exchanged(asked: Task, plan: Plan) -> Ints:
    """(M, layers, blocks); only what fits: large blocks before small; of alike ones of a layer only one."""
    model, at = asked.model, plan.ravel()
    kind = np.tile(np.repeat((0, 3, 1, 2), (model.heads, model.columns, 1, 1)), len(plan))
    layer = np.repeat(np.arange(len(plan)), model.blocks)
    first = np.unique(np.stack((kind, layer, at)), axis=1, return_index=True)[1]
    first = first[np.argsort(-np.array(asked.need.resident_bytes)[kind[first]], kind="stable")]
    fit = np.triu(at[first][:, None] != at[first], 1)
    fit &= (kind[first][:, None] != kind[first]) | (layer[first][:, None] != layer[first])
    for have, each in ((asked.memory, asked.need.resident_bytes), (asked.work, asked.need.flops)):
        left = (have * SLACK - used_of(plan, each, asked.devices, model.columns))[at[first]]
        more = np.array(each)[kind[first]] - np.array(each)[kind[first]][:, None]  # on the first one's device
        fit &= (left[:, None] >= more) & (left >= -more)
    pairs = first[np.argwhere(fit)[:BLOCKS]]
    trials, every = np.repeat(at[None], len(pairs), axis=0), np.arange(len(pairs))
    trials[every, pairs[:, 0]], trials[every, pairs[:, 1]] = at[pairs[:, 1]], at[pairs[:, 0]]
    return trials.reshape(-1, *plan.shape)
