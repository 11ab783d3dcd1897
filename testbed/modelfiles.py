"""Weights and right answers of an experiment's models, made once by `nodes.prepare.answers` and kept in the cache."""

from testbed.compile import ModelFiles
from testbed.experiment import Experiment
from testbed.preparation import Failed, prepared

WEIGHTS_SEED = 0  # the same made weights in every experiment: its seed varies what happens, not the model


class NotMade(Exception):
    """The files of a model could not be made; the message names the model and ends with what went wrong."""


def model_files(experiment: Experiment) -> dict[str, ModelFiles]:
    """By the model's name in the experiment. Raises NotMade."""
    found = {}
    for name, model in experiment.models.items():
        if own := experiment.own_model(name):
            found[name] = ModelFiles(own.weights_file, own.answers_file, model.inputs)
            continue
        inputs = len(model.prompts) or model.inputs
        words = ["--family", model.family, "--inputs", str(inputs)]
        words += [word for prompt in model.prompts for word in ("--prompt", prompt)]
        words += ["--tokens", str(_tokens(experiment, name)), "--optimise", model.optimise]
        words += ["--seed", str(WEIGHTS_SEED), "--runtime", model.runtime]
        try:
            paths = prepared("answers", words)
        except Failed as why:
            raise NotMade(f"the model {name} could not be made: {why}") from why
        graphs, off_plain = paths.get("graphs_folder", ""), paths.get("off_plain", 0.0)
        found[name] = ModelFiles(paths["weights_file"], paths["answers_file"], inputs, graphs, off_plain)
    return found


def _tokens(experiment: Experiment, model: str) -> int:
    """The most that a session asks of a model."""
    wishes = [flow.generate.tokens for flow in experiment.workload.values() if flow.model == model and flow.generate]
    return max(wishes, default=0)
