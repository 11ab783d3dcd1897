"""A finished run once more, from its own plan: whether it comes out the same, to the bit."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controller.plugins import in_file
from testbed.fingerprint import Difference, fingerprint, first_difference
from testbed.journal import recorded
from testbed.plan import Plan, from_json
from testbed.progress import Progress
from testbed.run import Run, RunOptions, carry_out, kernel_of, new_folder

PLAN = "plan.json"
EXPERIMENT = "experiment.yaml"
POLICY = "policy.py"


class NotRepeatable(Exception):
    """The folder holds no run that could come out the same again; the text says why."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The run that was made, and where it differs from the one that was there; None: nowhere."""

    run: Run
    difference: Difference | None
    versions: dict[str, tuple[str, str]]  # of what is not installed as it was: before, now


def repeat(folder: Path, options: RunOptions, progress: Progress) -> Repeated:
    """Run the plan of a run folder again.

    Raises NoRun or NotRepeatable before anything starts, else as `testbed.run.run` does.
    """
    before = list(recorded(folder))
    plan = _finished(folder, before)
    kernel, new = kernel_of(options), new_folder(plan.name, plan.policy, plan.seed, options.out)
    if (folder / EXPERIMENT).exists():
        shutil.copyfile(folder / EXPERIMENT, new / EXPERIMENT)
    run = carry_out(kernel, plan, new, replace(options, clock="virtual", prove=False), progress)
    now = list(recorded(new))
    return Repeated(run, first_difference(before, now), _changed(before, now) | _policy_changed(folder, new))


def _finished(folder: Path, records: list[dict[str, Any]]) -> Plan:
    """What the run in `folder` carried out to its end. Raises NotRepeatable."""
    try:
        plan = from_json((folder / PLAN).read_text())
    except OSError as error:
        raise NotRepeatable(f"{folder}: its plan cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotRepeatable(f"{folder}: its plan is of another version of the testbed") from error
    if plan.clock == "real":
        raise NotRepeatable(f"{folder}: it ran on the real clock, where no run comes out as another")
    if fingerprint(records) is None:
        raise NotRepeatable(f"{folder}: it did not come to its end")
    for file in _needed(plan):
        if not file.exists():
            raise NotRepeatable(f"{folder}: {file} is gone; run the experiment anew")
    return plan


def _needed(plan: Plan) -> Iterator[Path]:
    for model in plan.models:
        yield from (Path(file) for file in (model.weights_file, model.answers_file) if file)
    if place := in_file(plan.policy):
        yield place[0]


def _policy_changed(before: Path, now: Path) -> dict[str, tuple[str, str]]:
    """A policy in a file of its own is copied into each run folder."""
    copies = [(folder / POLICY).read_bytes() for folder in (before, now) if (folder / POLICY).exists()]
    return {POLICY: ("as in the run folder", "another text")} if len(set(copies)) > 1 else {}


def _changed(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    then, today = (next(r["versions"] for r in records if r["kind"] == "run") for records in (before, now))
    return {
        name: (then.get(name, "none"), today.get(name, "none"))
        for name in {**then, **today}
        if then.get(name) != today.get(name)
    }
