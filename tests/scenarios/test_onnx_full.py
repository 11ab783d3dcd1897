"""ONNX Runtime in full sizes, and on emulated nodes: torch's answers but for rounding, its own bits wherever it is cut.

The unsplit model is one graph of all units, exported and run as a whole.
"""

import gc
import itertools
from random import Random

import numpy as np
import pytest

from nodes.models import chain_of
from nodes.models.config import CONFIGS, config_of
from nodes.prepare import onnxanswers, onnxexport, tensorfile
from nodes.runtime.onnx import Onnx, OnnxFiles, _session, _tensor
from nodes.runtime.slicing import one_thread
from nodes.wire import codec
from nodes.wire.codec import Tensor
from tests.unit.exporting import one_table  # noqa: F401

# The full one of the first is here; the others are what vit_tiny, bert_tiny and minilm have, over and over.
LEFT_OUT = {"minilm_tiny", "bert_large", "vit_b16"}
FAMILIES = [family for family in sorted(CONFIGS) if chain_of(family).enters is None and family not in LEFT_OUT]
PLACEMENTS = 5


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory, one_table):  # noqa: F811
    """The family, its prepared files and an input with its right answer."""
    one_thread()
    family, folder = request.param, tmp_path_factory.mktemp("models")
    weights_file, answers_file, graphs = onnxanswers.prepare(family, 2, 0, folder)
    held = tensorfile.read(answers_file)
    pairs = [(_tensor(held[f"input.{i}"]), _tensor(held[f"answer.{i}"])) for i in range(2)]
    yield family, OnnxFiles(family, weights_file, graphs), pairs, float(tensorfile.note(answers_file)["off_torch"])
    weights_file.unlink()
    gc.collect()


def test_every_family_that_generates_nothing_is_here():
    assert {type(CONFIGS[family]) for family in FAMILIES} == {
        type(config) for config in CONFIGS.values() if not hasattr(config, "enters")
    }


def test_answers_are_those_of_torch_but_for_rounding(model):
    pairs, off_torch = model[2:]
    assert off_torch < onnxanswers.TOLERANCE / 10
    assert not codec.same(pairs[0][1], pairs[1][1])


def test_the_unsplit_graph_gives_the_same_bits(model):
    family, files, pairs, _ = model
    chain, config = chain_of(family), config_of(family)
    whole = onnxexport.graph(chain.units, chain.input_shape, chain.input_dtype, getattr(config, "positions", 2))
    held = tensorfile.read(files.weights_file)
    session = _session(whole, [held[name] for unit in chain.units for name in unit.weights])
    for question, right in pairs:
        x = np.frombuffer(question.data, question.dtype).reshape(question.shape)
        assert codec.same(_tensor(session.run(None, {"x": x})[0]), right)


def test_cuts_give_the_same_bits(model):
    family, files, pairs, _ = model
    loader, count, chance = Onnx({family: files}), len(chain_of(family).units), Random(1)
    places = [(0, at, count) for at in chance.sample(range(1, count), 2)]
    places += [(0, *sorted(chance.sample(range(1, count), 4)), count) for _ in range(PLACEMENTS)]
    for place in places:
        x, right = pairs[0]
        for first, last in itertools.pairwise(place):
            received = {block: dict(loader.weights(family, block)) for block in range(first, last)}
            x = loader.load(family, first, last, received if first else None).run(
                Tensor(x.dtype, x.shape, bytes(x.data))
            )
        assert codec.same(x, right), place


@pytest.mark.experiment("topologies/minimal.yaml", sets=("models.text.runtime=onnxruntime", "duration=8s", "events=[]"))
def test_answers_on_emulated_nodes_are_those_of_the_unsplit_model(testbed, history_is_right):
    history_is_right(testbed)
    testbed.assert_no_loss()
    assert testbed.summary["answers"]["checked"] == testbed.summary["answers"]["equal"] == 16
