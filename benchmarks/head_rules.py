"""The rules that benchmarks.heads compares, by name, and how a column of numbers is summed up."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import stats

from controller.heads.algorithm1 import Bounds
from controller.heads.blocks import dynamic, heads
from controller.heads.exact import exact
from controller.heads.galaxy import galaxy
from controller.heads.model import HeadModel
from controller.heads.plus import heads_plus
from controller.heads.rivals import edgeshard, greedy, round_robin, static
from controller.heads.simulate import Planner, Step

RULES: dict[str, Planner] = {
    "heads": heads,
    "heads, weighted score": partial(heads, bounds=Bounds(score="weighted")),
    "heads_plus": heads_plus,
    "greedy": greedy,
    "round_robin": round_robin,
    "static": static,
    "dynamic": dynamic,
    "edgeshard": edgeshard,
    "galaxy, all devices": galaxy,
    "galaxy, best number": partial(galaxy, devices=0),
}
EXACT: Planner = exact
COLUMNS = "heads_plus, FFN in columns"  # as many blocks as there are heads
RULES[COLUMNS] = heads_plus


def model_for(rule: str, model: HeadModel) -> HeadModel:
    """What the rule places of a model."""
    return replace(model, columns=model.heads) if rule == COLUMNS else model


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half width of its 95 % confidence interval (Student's t)."""
    mean, size = float(np.mean(values)), len(values)
    if size < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, size - 1) * np.std(values, ddof=1) / math.sqrt(size))


def total_s(steps: Sequence[Step]) -> float:
    """Delay and migrations of all intervals, infinite where one was not served."""
    return sum(math.inf if step.delay_s is None else step.delay_s + step.migration_s for step in steps)
