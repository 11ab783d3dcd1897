"""Calls a policy so that whatever it does, the service goes on: the last good placement stays, the journal says why.

A policy is refused when it raises, when it takes longer than the limit, and when what it says cannot be done
(`validity`). Then the answer is KEEP, or at the start, when there is nothing to keep, the best that is found. The
limit is of real time: far above what a decision should take, so that a busy machine changes no run.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from controller.model import Decision, Placement, Problem, Snapshot, Trigger
from controller.planner import Planner
from controller.policies.protocol import Policy
from controller.policies.start import number, start
from controller.table import Table
from controller.validity import objection
from controller.watch import TimeUp, watched

LIMIT_US = 10_000_000
OURS = "controller.policies.", "testbed."
SHOWN = 300  # characters of what it raised
Answer = TypeVar("Answer")


def limit_us(policy: Policy, options: Mapping[str, Any]) -> int:
    """How long one decision may take: as the option `time_limit_s` says, or the policy itself. Raises BadOption."""
    return round(number(options, "time_limit_s", getattr(policy, "time_limit_s", LIMIT_US / 1e6)) * 1e6)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused`: why the policy's own answer was not taken; empty when `decision` is its own."""

    decision: Decision
    took_us: int
    refused: str = ""


class Guard:
    """`stopwatch` gives real microseconds."""

    def __init__(
        self, problem: Problem, policy: Policy, stopwatch: Callable[[], int], limit_us: int = LIMIT_US
    ) -> None:
        self._policy, self._stopwatch, self._limit_us = policy, stopwatch, limit_us
        self._planner = Planner(problem)
        self._ours = type(policy).__module__.startswith(OURS)

    @property
    def table(self) -> Table:
        return self._planner.table

    def rezone(self, problem: Problem) -> None:
        """Privacy has changed: what is judged by, and what the policy is told if it has `rezone(problem)`.

        One that has not, or fails in it, goes on by the old rules; what it asks for is judged by the new ones.
        """
        self._planner = Planner(problem)
        told = getattr(self._policy, "rezone", None)
        if told is not None:
            with suppress(Exception):
                self._asked(lambda: told(problem))

    def start(self, snapshot: Snapshot) -> Verdict:
        verdict = self._judged(snapshot, Placement(0, {}), lambda: self._policy.start(snapshot))
        if not verdict.refused:
            return verdict
        instead = start(self._planner, snapshot, {})
        said = f"{verdict.refused}; in its place {instead.reason}"
        return replace(verdict, decision=replace(instead, reason=said))

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Verdict:
        verdict = self._judged(snapshot, current, lambda: self._policy.decide(snapshot, current, triggers))
        if not verdict.refused:
            return verdict
        said = f"{verdict.refused}; the last good placement stays"
        return replace(verdict, decision=Decision("KEEP", current, triggers, (), said))

    def _judged(self, snapshot: Snapshot, current: Placement, ask: Callable[[], Decision]) -> Verdict:
        began, decision, why = self._stopwatch(), Decision("KEEP", current, (), (), ""), ""
        try:
            decision = self._asked(ask)
            objected = objection(self._planner.table, snapshot, current, decision)
            why = f"the policy's answer was refused: {objected}" if objected else ""
        except TimeUp:
            why = f"the policy was stopped after its {self._limit_us / 1e6:g} s"
        except SystemExit:
            why = "the policy wanted to end the process"
        except Exception as error:
            why = f"the policy raised {type(error).__name__}: {error}"[:SHOWN]
        took = self._stopwatch() - began
        if not why and took > self._limit_us:
            why = f"the policy took {took / 1e6:.3f} s, its limit is {self._limit_us / 1e6:g} s"
        return Verdict(decision, took, why)

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        if self._ours:
            return ask()
        with watched(self._stopwatch, self._limit_us):
            return ask()
