"""Every family in its full size, once: the answers and tokens of transformers, every cut the same bits. No guest.

One model is in memory at a time; BERT-large is 1.3 GB. Weights that no package carries are drawn.
"""

import gc
import itertools
from collections.abc import Iterator
from random import Random

import pytest
import torch
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from nodes.models import chain_of
from nodes.models.config import CONFIGS, config_of
from nodes.models.generate import generate
from nodes.prepare import inputs, smollm, weights
from nodes.prepare.pretrained import smollm_file
from nodes.runtime.slicing import cut, one_thread
from tests.unit.oracles import answer_of, continuation_of, lively, model_of, relative_error, transformers
from tests.unit.test_slicing import at_odd_address

FULL = sorted(family for family in CONFIGS if not family.endswith("_tiny"))
TOKENS = {"gpt2": 24, "smollm2": 24, "whisper_base": 16}
Model = tuple[str, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]  # family, weights, input, answer


@pytest.fixture(scope="module", params=FULL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    one_thread()
    family = request.param
    if getattr(config_of(family), "pretrained", False):
        folder = tmp_path_factory.mktemp("weights")
        path = weights.ensure(family, 0, folder)
        held = weights.load(path, family)
        path.unlink()  # what is mapped stays
    else:
        held = lively(family)
    x = torch.from_numpy(inputs.make(family, 0, 0))
    yield family, held, x, cut(family, held)(x)
    del held
    gc.collect()


def test_every_family_is_here() -> None:
    assert {type(CONFIGS[family]) for family in FULL} == {type(config) for config in CONFIGS.values()}
    assert set(TOKENS) == {family for family in FULL if chain_of(family).enters is not None}


def test_answers_are_those_of_transformers(model: Model) -> None:
    family, held, x, whole = model
    assert relative_error(whole, answer_of(family, held)(x)) < 1e-5


def test_every_cut_gives_the_same_bits(model: Model) -> None:
    """Unit by unit: one that is given what crosses before it gives the bits of the unsplit run, lying as they do there.

    What follows a cut then cannot tell it from no cut, so this is every placement; no prefix is computed twice.
    """
    family, held, x, whole = model
    crossing = x
    with torch.inference_mode():
        for unit in chain_of(family).units:
            x = unit(held, x)
            own = {name: held[name] for name in unit.weights}  # no others
            crossing = unit(own, at_odd_address(crossing).clone())
            assert torch.equal(crossing, x), unit.name
            assert crossing.stride() == x.stride(), unit.name
            crossing = crossing.contiguous()
    assert torch.equal(crossing, whole)


def test_random_placements_give_the_same_bits(model: Model) -> None:
    """Over two to five nodes, which come back to what they left; neighbours on one node are one slice."""
    family, held, x, whole = model
    count, chance = len(chain_of(family).units), Random(1)
    for nodes in (2, 3, 4, 5, 5):
        row = chance.sample(range(nodes), nodes) + chance.choices(range(nodes), k=count - nodes)
        chance.shuffle(row)
        y, begin = x, 0
        for _, units in itertools.groupby(row):
            end = begin + len(list(units))
            y = cut(family, held, begin, end)(at_odd_address(y))
            begin = end
        assert torch.equal(y, whole), row


@pytest.mark.parametrize("model", sorted(TOKENS), indirect=True)
def test_greedy_tokens_are_those_of_transformers_cut_or_not(model: Model) -> None:
    family, held, x, _ = model
    count = TOKENS[family]
    tokens = generate([cut(family, held)], x, count)
    assert tokens == continuation_of(family, held, x, count)
    units = len(chain_of(family).units)
    slices = [cut(family, held, a, b) for a, b in itertools.pairwise((0, units // 3, units // 2, units))]
    assert generate(slices, x, count) == tokens


@pytest.mark.parametrize("model", ["smollm2"], indirect=True)
def test_smollm2_knows_the_capital_of_france(model: Model) -> None:
    family, held, *_ = model
    ids = torch.tensor([smollm.tokenise("The capital of France is")])
    assert smollm.text(generate([cut(family, held)], ids, 2)) == " Paris."


@pytest.mark.parametrize("model", ["smollm2"], indirect=True)
def test_smollm2_is_read_as_transformers_reads_it(model: Model) -> None:
    family, held, *_ = model
    file = smollm_file()
    read = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model_of(family, held))["tensors"]
    assert read.keys() == held.keys()
    assert all(torch.equal(torch.as_tensor(read[name]), tensor) for name, tensor in held.items())
    tokeniser = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in (*inputs.SENTENCES, "In 2024, it's 31.5 °C;\n\tnaïve  words…"):
        assert smollm.tokenise(text) == tokeniser(text, add_special_tokens=False)["input_ids"]
        assert smollm.text(smollm.tokenise(text)) == text
