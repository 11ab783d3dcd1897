"""Two layers, or two blocks, change places: steps out of where memory is too short to move one at a time.

Layers are alike, so the exchange of two whole ones always fits.
"""

from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np

from controller.heads.costs import used_of
from controller.heads.model import Plan
from controller.heads.task import SLACK, Task

LAYERS, BLOCKS = 66, 600  # exchanges of one plan


def layers_exchanged(plan: Plan) -> Iterator[Plan]:
    for one, other in islice(combinations(range(len(plan)), 2), LAYERS):
        trial = plan.copy()
        trial[[one, other]] = plan[[other, one]]
        yield trial


def blocks_exchanged(asked: Task, plan: Plan) -> Iterator[Plan]:
    """Only what fits: large blocks before small; of alike heads of a layer only one."""
    heads, at = asked.model.heads, plan.ravel()
    kind = np.tile(np.repeat((0, 1, 2), (heads, 1, 1)), len(plan))
    layer = np.repeat(np.arange(len(plan)), heads + 2)
    first = np.unique(np.stack((kind, layer, at)), axis=1, return_index=True)[1]
    first = first[np.argsort(-kind[first], kind="stable")]
    fit = np.triu(at[first][:, None] != at[first], 1)
    fit &= (kind[first][:, None] != kind[first]) | (layer[first][:, None] != layer[first])
    for have, each in ((asked.memory, asked.need.resident_bytes), (asked.work, asked.need.flops)):
        left = (have * SLACK - used_of(plan, each, asked.devices))[at[first]]
        more = np.array(each)[kind[first]] - np.array(each)[kind[first]][:, None]  # on the first one's device
        fit &= (left[:, None] >= more) & (left >= -more)
    for one, other in first[np.argwhere(fit)[:BLOCKS]]:
        trial = at.copy()
        trial[one], trial[other] = at[other], at[one]
        yield trial.reshape(plan.shape)
