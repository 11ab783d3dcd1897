"""Models of one's own that an experiment names as `module: FILE.py:NAME`: each becomes a family before all else.

The file is run by `nodes.prepare.own`, in a process of its own outside any guest, as often as the experiment is read:
only what it gives says what it is.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nodes.models.config import declare
from testbed.cache import cache_folder
from testbed.experiment import Experiment, blame
from testbed.experiment.schema import OwnModel
from testbed.kernel.sandbox import dies_with_parent

TOLD = 600  # characters of what went wrong


class NoModel(Exception):
    """None can be made of the module; the message says why."""


def with_own_models(path: Path, experiment: Experiment) -> Experiment:
    """The experiment with a family for each module, declared in this process. Raises ExperimentError."""
    models, own = dict(experiment.models), dict[str, OwnModel]()
    for name, model in experiment.models.items():
        if model.module is None:
            continue
        try:
            made = make(model.module)
        except NoModel as why:
            raise blame(path, ("models", name, "module"), str(why)) from None
        family = declare(made["description"]).family
        models[name] = model.model_copy(update={"family": family, "inputs": made["inputs"]})
        own[name] = OwnModel(made["description"], made["weights_file"], made["answers_file"])
    if not own:
        return experiment
    changed = experiment.model_copy(update={"models": models})
    changed._own_models = own
    return changed


def make(module: str) -> dict[str, Any]:
    """What `nodes.prepare.own` says it has made of `FILE.py:NAME`. Raises NoModel."""
    cache = cache_folder("models").resolve()
    done = subprocess.run(
        [sys.executable, "-m", "nodes.prepare.own", "--module", module, "--cache", str(cache)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=dies_with_parent(),
    )
    if done.returncode:
        raise NoModel(done.stderr.strip()[-TOLD:])
    made: dict[str, Any] = json.loads(done.stdout)
    return made
