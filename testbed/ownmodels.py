"""Models of one's own that an experiment names as `module: FILE.py:NAME`: each becomes a family before all else.

The file is run by `nodes.prepare.own`, in a process of its own outside any guest, once a command: only what it gives
says what it is.
"""

from functools import cache
from pathlib import Path
from typing import Any

from nodes.models.config import declare
from testbed.experiment import Experiment, blame
from testbed.experiment.schema import OwnModel
from testbed.preparation import Failed, prepared


def with_own_models(path: Path, experiment: Experiment) -> Experiment:
    """The experiment with a family for each module, declared in this process. Raises ExperimentError."""
    models, own = dict(experiment.models), dict[str, OwnModel]()
    for name, model in experiment.models.items():
        if model.module is None:
            continue
        try:
            made = make(model.module)
        except Failed as why:
            raise blame(path, ("models", name, "module"), str(why)) from None
        family = declare(made["description"]).family
        models[name] = model.model_copy(update={"family": family, "inputs": made["inputs"]})
        own[name] = OwnModel(made["description"], made["weights_file"], made["answers_file"])
    if not own:
        return experiment
    changed = experiment.model_copy(update={"models": models})
    changed._own_models = own
    return changed


@cache
def make(module: str) -> dict[str, Any]:
    """What `nodes.prepare.own` says it has made of `FILE.py:NAME`. Raises Failed."""
    return prepared("own", ["--module", module])
