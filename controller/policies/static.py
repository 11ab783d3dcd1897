"""Places once and never moves: the yardstick for all others. Option: `placement` (see start.py)."""

from collections.abc import Mapping
from typing import Any

from controller.model import Decision, Placement, Problem, Snapshot, Trigger
from controller.planner import Planner
from controller.policies.start import pinned_rows, start


class Static:
    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        self._planner = Planner(problem)
        self._pinned = pinned_rows(self._planner.table, options)

    def start(self, snapshot: Snapshot) -> Decision:
        return start(self._planner, snapshot, self._pinned)

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:  # noqa: ARG002
        return Decision("KEEP", current, triggers, (), "static: never moves")
