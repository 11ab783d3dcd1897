"""A generation of N tokens under a rule: a decision in each interval, on the rule's own copy of the state.

In each interval the background, and with it what is free, is drawn anew; the K/V caches have grown. The rule sees
what it placed before and nothing of other rules, so their order does not matter. A rule that says Infeasible leaves
its placement where it is; an interval whose placement does not fit is not served, and has no delay.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from controller.heads.costs import Mode, latency_s, migration_s, used_of
from controller.heads.galaxy import Shares, galaxy_bytes, galaxy_fits, galaxy_s
from controller.heads.model import UNREACHABLE_S, HeadModel, Infeasible, Plan, Scene
from controller.heads.task import Rule, Task, fits, task


@dataclass(frozen=True, slots=True)
class Setting:
    """What all rules of a run share."""

    mode: Mode
    interval_tokens: int = 1  # lambda
    interval_s: float = float("inf")
    horizon: float = 1.0
    weights_move: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One interval. `delay_s` is of one token, None when not served; decision_s is the clock's."""

    token: int
    delay_s: float | None
    migration_s: float
    moved_blocks: int
    infeasible: bool  # the rule said so
    decision_s: float
    memory_bytes: float  # of all devices together
    peak_bytes: float  # of the fullest


Clock = Callable[[], float]
Planner = Rule | Callable[[Task], Shares | Infeasible]


def simulate(
    rule: Planner, model: HeadModel, scenes: Iterable[Scene], setting: Setting, clock: Clock = lambda: 0.0
) -> list[Step]:
    steps, placed = list[Step](), None
    ask = partial(
        task,
        interval_tokens=setting.interval_tokens,
        interval_s=setting.interval_s,
        horizon=setting.horizon,
        weights_move=setting.weights_move,
    )
    for scene in scenes:
        before = None if isinstance(placed, Shares) else placed
        began = clock()
        asked = ask(model, scene, setting.mode, before)
        found = placed if isinstance(placed, Shares) else rule(asked)  # Galaxy plans once
        took = clock() - began
        infeasible = isinstance(found, Infeasible)
        chosen = before if isinstance(found, Infeasible) else found
        if isinstance(chosen, Shares):
            steps.append(_shared(asked, chosen, scene.token, took))
        else:
            steps.append(_step(asked, chosen, scene.token, infeasible, took))
        placed = chosen
    return steps


def _step(asked: Task, plan: Plan | None, token: int, infeasible: bool, took: float) -> Step:
    if plan is None:
        return Step(token, None, 0.0, 0, infeasible, took, 0.0, 0.0)
    delay = latency_s(plan, asked.spent, asked.source, asked.need.summed)
    served = fits(asked, plan) and delay < UNREACHABLE_S
    moved = 0 if asked.before is None else int((plan != asked.before).sum())
    held = used_of(plan, asked.need.resident_bytes, asked.devices, asked.model.columns)
    cost = migration_s(plan, asked.before, asked.spent)
    shown = float(held.sum()), float(held.max())
    return Step(token, delay if served else None, cost, moved, infeasible, took, *shown)


def _shared(asked: Task, shares: Shares, token: int, took: float) -> Step:
    delay, held = galaxy_s(asked, shares), galaxy_bytes(asked, shares)
    served = galaxy_fits(asked, shares) and delay < UNREACHABLE_S
    return Step(token, delay if served else None, 0.0, 0, False, took, float(held.sum()), float(held.max()))
