"""`joint`, with the optimum of each plan sought before it decides: the measure of what hurry costs it. Pure.

It takes from milliseconds to some ten seconds a look, where many streams crowd on few nodes. In virtual time that is
nothing: the clock stands still while anything computes. On the real clock it is too late for what it looks at.
All other rules are `joint`'s; so a better placement may still not be worth its move. Where memory is in the way of the
optimum the planner's placement stays, and the bound is the proof's. Where utilisation has a price it plans as `joint`.
Options: joint's, and proof quick|patient (quick): as much as after each run, or as `testbed why --prove`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.cost import Forecast
from controller.model import Problem, Snapshot
from controller.objective import Objective
from controller.planner import Plan, Planner, weights_without
from controller.policies.joint import Joint
from controller.policies.start import BadOption
from controller.table import Rows
from testbed.proof.certificate import ATTEMPTS, CLOSE, QUICK, Attempts, NotPlaced, certify
from testbed.proof.sought import Sought

EFFORTS = {"quick": QUICK, "patient": ATTEMPTS}


class Prover(Planner):
    """The planner, and after it the proof, which begins from its placement and its bound."""

    def __init__(self, problem: Problem, objective: Objective | None = None, attempts: Attempts = QUICK) -> None:
        super().__init__(problem, objective)
        self._attempts = attempts

    def plan(
        self,
        snapshot: Snapshot,
        order: Sequence[str],
        weights: Mapping[str, float],
        current: Rows | None = None,
        *,
        forecast: Forecast | None = None,
    ) -> Plan:
        plan = super().plan(snapshot, order, weights, current, forecast=forecast)
        free = [stream for stream in order if stream not in plan.stranded]
        if plan.rows is None or not free or self.objective.utilisation_us:
            return plan
        sought, weights = Sought(self.objective, current or {}), weights_without(weights, plan.stranded)
        forecast, mine = forecast or Forecast(self.table, snapshot), {s: plan.rows[s] for s in free}
        total_us = sought.total_us(self.table, forecast, mine, weights, plan.outlook.under)
        if total_us <= plan.bound_us * (1 + CLOSE):
            return plan
        try:
            found = certify(
                self.table.problem,
                snapshot,
                free,
                plan.rows,
                weights=weights,
                sought=sought,
                known_us=plan.bound_us,
                attempts=self._attempts,
            )
        except NotPlaced:  # a stream is where it cannot be reached: nothing is to be proven
            return plan
        better = {**plan.rows, **found.rows}
        rows = better if self.fits(better, current or {}) else plan.rows
        return replace(plan, rows=rows, bound_us=max(plan.bound_us, found.bound_us))


class Optimal(Joint):
    """May take as long as its proofs need."""

    time_limit_s = 3_600.0

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        self._attempts = _attempts(options)
        super().__init__(problem, options)

    def planner(self, problem: Problem) -> Planner:
        return Prover(problem, self._objective, self._attempts)


def _attempts(options: Mapping[str, Any]) -> Attempts:
    effort = options.get("proof", "quick")
    if effort not in EFFORTS:
        raise BadOption(f"policy option proof: {effort!r}; one of {', '.join(EFFORTS)} is right")
    return EFFORTS[effort]
