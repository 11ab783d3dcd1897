"""What a policy is: two pure functions of what is known. Policies are found by entry point `testbed.policies`.

One that wants to know when privacy changes during a run has `rezone(problem)` too: from then on that is the problem.
One that thinks for long has `time_limit_s`, what one of its decisions may take where the experiment does not say.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from controller.model import Decision, Placement, Problem, Snapshot, Trigger


class Policy(Protocol):
    """Built once a run with the `options` of the experiment's policy; must be deterministic."""

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None: ...

    def start(self, snapshot: Snapshot) -> Decision:
        """The first placement (epoch 1)."""
        ...

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        """Called each period; `triggers` is what change detection raised, often empty."""
        ...
