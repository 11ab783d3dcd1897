"""What every policy must hold, tried on small random problems. To be used in the tests of a policy:

    from controller.conformance import faults

    def test_mine_conforms():
        assert faults(Mine) == []

Each problem is gone through twice by policies of their own, and once more in turn with another instance. Tried:
  * every answer can be done (`controller.validity`): each block once, on nodes that are up, within memory, zones, pins
    and vetoes, and beside what is loaded; KEEP and INFEASIBLE keep
  * the same questions give the same answers, whatever other policies were asked in between
  * it changes nothing of what it is given
  * it places something, somewhere: a policy that finds every problem infeasible is none
  * no answer takes longer than `limit_s` of real time
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller import instances
from controller.instances import NOTHING
from controller.model import Decision, Placement, Problem, Snapshot, Trigger
from controller.policies.protocol import Policy
from controller.table import tabulate
from controller.validity import MOVES, objection

Make = Callable[[Problem, Mapping[str, Any]], Policy]
PERIODS = 5


@dataclass(slots=True)
class _Trial:
    """One policy on one problem."""

    problem: Problem
    policy: Policy
    limit_s: float
    current: Placement = NOTHING
    said: list[Decision] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def ask(self, snapshot: Snapshot, triggers: tuple[Trigger, ...]) -> None:
        before, began = _frozen(snapshot), time.perf_counter()
        starts = not self.current.epoch
        decision = self.policy.start(snapshot) if starts else self.policy.decide(snapshot, self.current, triggers)
        took = time.perf_counter() - began
        if took > self.limit_s:
            self.wrong.append(f"took {took:.3f} s, {self.limit_s:g} s is the limit")
        if _frozen(snapshot) != before:
            self.wrong.append("changed the snapshot")
        if why := objection(tabulate(self.problem), snapshot, self.current, decision):
            self.wrong.append(why)
        elif decision.action in MOVES:
            self.current = decision.placement
        self.said.append(decision)


def faults(
    make: Make, options: Mapping[str, Any] | None = None, *, seeds: Iterable[int] = range(100), limit_s: float = 2.0
) -> list[str]:
    """What the policy does wrong, with the number of the problem; empty when it conforms."""
    found, placed, tried = list[str](), 0, 0
    for seed in seeds:
        problem = instances.problem(seed)
        first, again, between = (_Trial(problem, make(problem, options or {}), limit_s) for _ in range(3))
        _go(first, seed)
        _go(again, seed, between)
        found += [f"problem {seed}: {why}" for why in first.wrong]
        if first.said != again.said:
            found.append(f"problem {seed}: the same questions got other answers")
        placed, tried = placed + bool(first.current.epoch), tried + 1
    return [*found, *([] if placed else [f"placed none of {tried} problems"])]


def _go(trial: _Trial, seed: int, other: _Trial | None = None) -> None:
    """The start and some periods, the other asked in between about another world."""
    scene = instances.scene(trial.problem, seed)
    for snapshot, triggers in [(scene, ()), *instances.steps(trial.problem, seed, PERIODS)]:
        if other:
            other.ask(instances.scene(trial.problem, seed + 1, snapshot.now_us), triggers)
        trial.ask(snapshot, triggers)


def _frozen(snapshot: Snapshot) -> object:
    delay_us, rate_bps = np.asarray(snapshot.delay_us), np.asarray(snapshot.rate_bps)
    return delay_us.tobytes(), rate_bps.tobytes(), dict(snapshot.latency_us), snapshot.nodes
