"""One decision: everything a rule may look at, and what its answer is worth.

The objective is the paper's (section III-G): the delay of one token by (6) plus the migrations by (7), under (1).
With a `horizon` of k tokens a migration is weighed against k tokens; 1 is the paper. The load limit of Algorithm 1,
"total load vs. C_j", needs an interval: the work of one token on a device must be done within `interval_s`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.heads.costs import Demand, Mode, Times, demand, latencies_s, migrations_s, times, used_of
from controller.heads.model import UNREACHABLE_S, Floats, HeadModel, Infeasible, Ints, Plan, Scene

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
    spent = times(scene, need, model.columns)
    return Task(model, need, spent, memory, work, rate, scene.source, before, horizon)


def all_fit(asked: Task, plans: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(M,) of plans (M, layers, blocks): (1), and the load limit."""
    size, columns = asked.devices, asked.model.columns
    held = used_of(plans, asked.need.resident_bytes, size, columns) <= asked.memory * SLACK
    if np.isfinite(asked.work).any():
        held &= used_of(plans, asked.need.flops, size, columns) <= asked.work * SLACK
    return np.asarray(held.all(axis=1))


def fits(asked: Task, plan: Plan) -> bool:
    return bool(all_fit(asked, plan[None])[0])


def objectives_s(asked: Task, plans: Ints) -> Floats:
    """(M,) D_T + D_mig / horizon, infinite where a plan does not fit or cannot be reached."""
    total = latencies_s(plans, asked.spent, asked.source, asked.need.summed)
    total += migrations_s(plans, asked.before, asked.spent) / asked.horizon
    return np.asarray(np.where(all_fit(asked, plans) & (total < UNREACHABLE_S), total, np.inf))


def objective_s(asked: Task, plan: Plan) -> float:
    return float(objectives_s(asked, plan[None])[0])
