"""One decision: everything a rule may look at, and what its answer is worth.

The objective is the paper's (section III-G): the delay of one token by (6) plus the migrations by (7), under (1).
With a `horizon` of k tokens a migration is weighed against k tokens; 1 is the paper. The load limit of Algorithm 1,
"total load vs. C_j", needs an interval: the work of one token on a device must be done within `interval_s`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.heads.costs import Demand, Mode, Times, demand, latency_s, migration_s, times, used_of
from controller.heads.model import UNREACHABLE_S, Floats, HeadModel, Infeasible, Plan, Scene

SLACK = 1 + 1e-9  # sums of floats in different orders


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    model: HeadModel
    need: Demand
    spent: Times
    memory: Floats  # (N,) bytes that may be used
    work: Floats  # (N,) FLOP that may be used in an interval, infinite without a limit
    rate: Floats  # (N, N) bytes per second
    source: int
    before: Plan | None = None
    horizon: float = 1.0

    @property
    def devices(self) -> int:
        return len(self.memory)


Rule = Callable[[Task], Plan | Infeasible]


def task(
    model: HeadModel,
    scene: Scene,
    mode: Mode,
    before: Plan | None = None,
    *,
    interval_tokens: int = 1,
    interval_s: float = float("inf"),
    horizon: float = 1.0,
    weights_move: bool = True,
) -> Task:
    need = demand(model, mode, scene.token, interval_tokens, weights_move)
    up = scene.flops_per_s > 0
    work = np.where(up, scene.flops_per_s * interval_s if np.isfinite(interval_s) else np.inf, 0.0)
    memory = np.where(up, scene.memory_bytes, 0.0)
    rate = scene.rate_bytes_per_s
    return Task(model, need, times(scene, need), memory, work, rate, scene.source, before, horizon)


def fits(asked: Task, plan: Plan) -> bool:
    """(1), and the load limit."""
    held = used_of(plan, asked.need.resident_bytes, asked.devices) <= asked.memory * SLACK
    done = used_of(plan, asked.need.flops, asked.devices) <= asked.work * SLACK
    return bool((held & done).all())


def objective_s(asked: Task, plan: Plan) -> float:
    """D_T + D_mig / horizon, infinite where the plan does not fit or cannot be reached."""
    if not fits(asked, plan):
        return float("inf")
    delay = latency_s(plan, asked.spent, asked.source, asked.need.summed)
    moved = migration_s(plan, asked.before, asked.spent) / asked.horizon
    return delay + moved if delay + moved < UNREACHABLE_S else float("inf")
