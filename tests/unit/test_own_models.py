"""A module of somebody's own as a model of an experiment: run once outside, and from then on data."""

import json
from pathlib import Path

import pytest
import torch

from nodes.costing.costs import costs
from nodes.costing.measure import measure
from nodes.costing.profile import profile
from nodes.models.config import UnknownFamily, config_of, declare
from nodes.models.described import described_config
from nodes.prepare import inputs, own, tensorfile
from nodes.prepare.weights import load
from nodes.runtime.slicing import cut
from testbed.experiment import ExperimentError
from testbed.run import RunOptions
from testbed.run import load as load_experiment

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("order", torch.tensor([5, 0, 1, 4, 3, 2]))

    def forward(self, x):
        return self.last(torch.relu(self.first(x[:, self.order])))

def make():
    print("not for the names of files")
    torch.manual_seed(0)
    return Net(), [torch.randn(2, 6) for _ in range(3)]

def one():
    return Net(), torch.ones(2, 6)
"""
EXPERIMENT = """\
name: own
duration: 5s
seed: 1
nodes:
  ue1: {kind: phone, device: phone}
  bs1: {kind: base_station}
  edge1: {kind: edge_server, device: edge_small}
links:
  radio: {from: ue1, to: bs1, both: {rate: 40Mbit, delay: 8ms}}
  site: {from: bs1, to: edge1, both: {rate: 10Gbit, delay: 100us}}
models:
  mine: {module: net.py:make}
workload:
  cam: {model: mine, phones: [ue1], rate: 2/s}
policy: {name: joint}
sla: {percentile: p95, latency: 100ms, window: 5s}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def test_whatever_the_cut_the_description_answers_with_the_bits_of_the_module(file, tmp_path, capsys):
    found = own.prepare(f"{file}:make", tmp_path)
    assert "not for the names of files" not in capsys.readouterr().out
    module, samples = own.made(f"{file}:make")
    family = declare(found["description"]).family
    assert found["inputs"] == len(samples) == 3
    held = load(Path(found["weights_file"]), family)
    count = len(config_of(family).units())
    assert count == 2
    answers = tensorfile.read(Path(found["answers_file"]))
    for i, x in enumerate(samples):
        with torch.inference_mode():
            right = module(x)
        assert torch.equal(torch.from_numpy(answers[f"answer.{i}"].copy()), right)
        assert torch.equal(cut(family, held)(x), right)
        assert torch.equal(cut(family, held, 1, 2)(cut(family, held, 0, 1)(x)), right)
    assert own.prepare(f"{file}:make", tmp_path) == found
    assert own.prepare(f"{file}:one", tmp_path)["inputs"] == 1


def test_what_it_costs_is_counted_while_it_runs(file, tmp_path):
    family = declare(own.prepare(f"{file}:make", tmp_path)["description"]).family
    first, last = profile(family).units
    assert (first.flops, last.flops) == (2 * 2 * 6 * 8, 2 * 2 * 8 * 3)
    assert (first.weight_bytes, last.weight_bytes) == (4 * (48 + 8), 4 * (24 + 3))
    assert (first.output_bytes, last.output_bytes) == (4 * 2 * 8, 4 * 2 * 3)
    assert profile(family).input_bytes == 4 * 2 * 6
    assert first.working_bytes == 4 * 2 * (8 + 8)  # what enters a ReLU, and what leaves it
    assert [cost.step for cost in costs(family)] == [None, None]
    assert len(measure(family, runs=1, warm=0).pass_ns) == 2
    assert [unit.output_class for unit in (first, last)] == ["feature", "feature"]


def test_the_name_is_that_of_the_description_and_nobody_else_has_it(file, tmp_path):
    text = own.prepare(f"{file}:make", tmp_path)["description"]
    config = described_config(text)
    assert declare(text) is declare(text) and config == declare(text)
    other = json.loads(text)
    other["units"][0]["flops"] += 1
    family = described_config(json.dumps(other)).family
    assert family != config.family
    with pytest.raises(UnknownFamily):
        config_of(family)
    with pytest.raises(UnknownFamily):
        inputs.make(config.family, 0, 0)


WRONG = {
    "return 1": "gives int: a module and its inputs are right",
    "return Net(), []": "a tensor, or a list of at least one",
    "return Net(), [torch.ones(2, 6), torch.ones(1, 6)]": "inputs of one shape",
    "return Net(), torch.ones(2, 6).half()": "float32, int64 or uint8 are right",
    "raise OSError('no disk')": "cannot be run: OSError: no disk",
    "return nn.Sequential(nn.Linear(6, 6), nn.Dropout(1.0), Drop()), torch.ones(2, 6)": "other bits",
    "return Branch(), torch.ones(2, 6)": r"net.py:\d+",
}
MORE = """
class Drop(nn.Module):
    def forward(self, x):
        return x + torch.rand(2, 6)

class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def wrong():
    {body}
"""


@pytest.mark.parametrize("body", WRONG)
def test_what_no_model_can_be_made_of_says_why(body, file, tmp_path):
    file.write_text(NET + MORE.format(body=body))
    with pytest.raises(own.BadModule, match=WRONG[body]):
        own.prepare(f"{file}:wrong", tmp_path)


def test_an_experiment_has_it_by_its_file_beside_it(file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "own.yaml"
    path.write_text(EXPERIMENT)
    experiment = load_experiment(path, RunOptions())
    assert (experiment.models["mine"].inputs, experiment.models["mine"].family[:4]) == (3, "own-")
    made = experiment.own_model("mine")
    assert declare(made.description).family == experiment.models["mine"].family
    path.write_text(EXPERIMENT.replace("net.py:make", "net.py:nothing"))
    with pytest.raises(ExperimentError, match=r"own.yaml:12: models.mine.module: .*no function nothing in it"):
        load_experiment(path, RunOptions())
    path.write_text(EXPERIMENT.replace("rate: 2/s}", "rate: 2/s, generate: {tokens: 4}}"))
    with pytest.raises(ExperimentError, match=r"own.yaml:14: .*gives one answer"):
        load_experiment(path, RunOptions())
