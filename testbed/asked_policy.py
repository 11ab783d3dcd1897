"""Whether the policy that an experiment asks for can be had and takes its options, told before a kernel boots."""

from pathlib import Path

from controller.guard import limit_us
from controller.plugins import NoPolicy, build, in_file
from controller.policies.start import BadOption
from testbed.compile import ModelFiles, compile_plan
from testbed.emulation.problem import problem_of
from testbed.experiment import Experiment, blame


def check(path: Path, experiment: Experiment) -> None:
    """Builds the policy once, which runs the file it may be in; raises ExperimentError."""
    unused = {name: ModelFiles("", "", model.inputs) for name, model in experiment.models.items()}
    problem, options = problem_of(compile_plan(experiment, unused, experiment.clock)), experiment.policy.options
    try:
        _, policy = build(experiment.policy.name, problem, options)
        limit_us(policy, options)
    except NoPolicy as error:
        raise blame(path, ("policy", "name"), str(error)) from None
    except BadOption as error:
        raise blame(path, ("policy",), str(error)) from None


def absolute(name: str | None) -> str | None:
    """As the command line gives it: a policy's file is meant from here."""
    place = in_file(name or "")
    return f"{place[0].resolve()}:{place[1]}" if place else name
