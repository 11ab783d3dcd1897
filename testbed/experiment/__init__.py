"""The experiment file: read strictly, checked as a whole, every fault with file, line, field and what would be right.

experiment = load_experiment("topologies/urban-mec.yaml", sets=("duration=30s",))
"""

from testbed.experiment.errors import ExperimentError, Fault
from testbed.experiment.load import FAMILIES, blame, load_experiment
from testbed.experiment.schema import Experiment

__all__ = ["FAMILIES", "Experiment", "ExperimentError", "Fault", "blame", "load_experiment"]
