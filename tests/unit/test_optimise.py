"""Optimised slices: a trace answers as the plain model, eight bits nearly; no cut changes either by a bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nodes.models.layers import linear
from nodes.prepare import answers, inputs, tensorfile, weights
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.optimise import EightBits, cut_at, off_plain
from nodes.runtime.rawtensors import raw
from nodes.runtime.slicing import SliceError, one_thread
from nodes.slices import LoadError
from nodes.wire import codec
from testbed.experiment import ExperimentError, load_experiment
from testbed.summary import summarise
from tests.unit.journal_factory import a_run

SMALL = Path(__file__).with_name("small.yaml")
PICTURES, ALL = ("vit_tiny", "mobilenet_tiny"), ("vit_tiny", "mobilenet_tiny", "minilm_tiny")
MOST = {"vit_tiny": 0.05, "mobilenet_tiny": 0.05, "minilm_tiny": 0.05}  # relative, of int8


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    one_thread()


def drawn(family, index=0):
    return torch.from_numpy(inputs.make(family, 1, index))


@pytest.mark.parametrize("family", PICTURES)
def test_a_trace_answers_as_the_plain_model_bit_for_bit(family):
    held = weights.make(family, 1)
    plain, traced = cut_at("none", family, held), cut_at("torchscript", family, held)
    for index in (0, 1, 2, 3):  # torch rewrites a trace in its first runs
        assert torch.equal(traced(drawn(family, index)), plain(drawn(family, index)))


@pytest.mark.parametrize(
    ("level", "family"), [*(("torchscript", f) for f in PICTURES), *(("int8", f) for f in ALL)], ids=str
)
def test_no_cut_changes_an_answer(level, family):
    held = weights.make(family, 1)
    whole = cut_at(level, family, held)
    for cut_behind in {1, whole.last // 2, whole.last - 1}:
        first, second = cut_at(level, family, held, 0, cut_behind), cut_at(level, family, held, cut_behind)
        for index in (0, 1):
            assert torch.equal(second(first(drawn(family, index))), whole(drawn(family, index)))


@pytest.mark.parametrize("family", ALL)
def test_eight_bits_are_near_the_plain_model_and_not_it(family):
    held = weights.make(family, 1)
    plain, small = cut_at("none", family, held), cut_at("int8", family, held)
    errors = [off_plain(small(drawn(family, i)), plain(drawn(family, i))) for i in range(4)]
    assert min(errors) > 0 and max(errors) < MOST[family], errors
    assert small.digest == plain.digest


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_eight_bits_are_as_near_as_torchs_own_dynamic_quantisation():
    x, layer = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)), torch.nn.Linear(64, 32)
    layer.requires_grad_(requires_grad=False)
    wanted = {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
    own = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), wanted)
    held = {"linear.weight": layer.weight, "linear.bias": layer.bias}
    with EightBits({}):
        found = linear("linear", held, x)
    assert 0 < off_plain(found, layer(x)) < 1.1 * off_plain(own(x), layer(x))


@pytest.mark.parametrize(
    ("level", "family"), [("torchscript", "minilm_tiny"), ("torchscript", "gpt2_tiny"), ("int8", "llama_tiny")], ids=str
)
def test_what_a_level_is_not_for_is_refused(level, family):
    held = weights.make(family, 1)
    with pytest.raises(SliceError, match=r"any length|generates"):
        cut_at(level, family, held)


@pytest.mark.parametrize("level", ["torchscript", "int8"])
def test_the_loader_makes_optimised_slices_of_files_and_of_what_travelled(level, tmp_path):
    family = "mobilenet_tiny"
    file = weights.ensure(family, 1, tmp_path)
    loader = Numeric({family: ModelFile(family, file, level)})
    whole = cut_at(level, family, weights.load(file, family))
    received = {block: dict(loader.weights(family, block)) for block in range(1, whole.last)}
    first, second = loader.load(family, 0, 1, None), loader.load(family, 1, whole.last, received)
    x = raw(drawn(family))
    assert codec.same(second.run(first.run(x)), raw(whole(drawn(family))))
    assert second.digest == Numeric({family: ModelFile(family, file)}).load(family, 1, whole.last, None).digest


def test_the_loader_refuses_by_name(tmp_path):
    loader = Numeric({"gpt2_tiny": ModelFile("gpt2_tiny", weights.ensure("gpt2_tiny", 1, tmp_path), "int8")})
    with pytest.raises(LoadError, match="generates"):
        loader.load("gpt2_tiny", 0, 1, None)


def test_the_right_answers_are_those_of_the_level_and_say_how_far_off_they_are(tmp_path):
    asked = ("mobilenet_tiny", 2, 1, tmp_path)
    plain, traced, small = (answers.prepare(*asked, optimise=level)[1] for level in ("none", "torchscript", "int8"))
    assert len({plain, traced, small}) == 3
    held = [tensorfile.read(path)["answer.1"].tobytes() for path in (plain, traced, small)]
    assert held[0] == held[1] != held[2]
    off = [float(tensorfile.note(path)["off_plain"]) for path in (plain, traced, small)]
    assert off[:2] == [0.0, 0.0] and 0 < off[2] < 0.05


def test_the_command_that_makes_answers_says_it_too(tmp_path):
    words = ["--family", "mobilenet_tiny", "--inputs", "1", "--seed", "1", "--cache", str(tmp_path)]
    command = [sys.executable, "-m", "nodes.prepare.answers", *words, "--optimise", "int8"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert 0 < said["off_plain"] < 0.05


def test_the_summary_says_which_models_are_optimised():
    records = a_run()
    assert "optimised" not in summarise(records)
    told = {"net": {"level": "int8", "off_plain": 0.01}}
    (run,) = (record for record in records if record["kind"] == "run")
    run["optimised"] = told
    assert summarise(records)["optimised"] == told


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (("models.tiny.family=minilm_tiny", "models.tiny.optimise=torchscript"), "any length"),
        (("models.tiny.family=gpt2_tiny", "models.tiny.optimise=int8"), "generates text"),
        (("models.tiny.runtime=onnxruntime", "models.tiny.optimise=int8"), "its own graphs"),
        (("models.tiny.optimise=int4",), "optimise"),
        (("models.tiny.result_cache=-1",), "result_cache"),
        (
            ("models.tiny.family=gpt2_tiny", "models.tiny.result_cache=4", "workload.cam.generate.tokens=3"),
            "not kept",
        ),
    ],
    ids=str,
)
def test_an_experiment_that_asks_for_what_is_not_there_is_refused(sets, why):
    with pytest.raises(ExperimentError, match=why):
        load_experiment(SMALL, sets=list(sets))


def test_an_experiment_may_ask_for_both():
    model = load_experiment(SMALL, sets=["models.tiny.optimise=int8", "models.tiny.result_cache=4"]).models["tiny"]
    assert (model.optimise, model.result_cache) == ("int8", 4)
