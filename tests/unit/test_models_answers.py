"""Every family, small: the answers of transformers with the same weights, and its greedy tokens."""

import pytest
import torch

from nodes.models import chain_of
from nodes.models.config import CONFIGS
from nodes.models.generate import generate
from nodes.prepare import inputs
from nodes.runtime.slicing import cut, one_thread
from tests.unit.oracles import answer_of, continuation_of, lively, relative_error

TINY = sorted(family for family in CONFIGS if family.endswith("_tiny"))
GENERATING = [family for family in TINY if chain_of(family).enters is not None]


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def test_every_family_has_a_small_one() -> None:
    assert {type(config) for config in CONFIGS.values()} == {type(CONFIGS[family]) for family in TINY}
    assert GENERATING == ["gpt2_tiny", "llama_tiny", "whisper_tiny"]


@pytest.mark.parametrize("family", TINY)
def test_answers_are_those_of_transformers(family: str) -> None:
    weights = lively(family)
    ours, theirs = cut(family, weights), answer_of(family, weights)
    answers = []
    for i in range(4):
        x = torch.from_numpy(inputs.make(family, 0, i))
        answers.append(ours(x))
        assert relative_error(answers[-1], theirs(x)) < 1e-5
    assert all(relative_error(answers[0], other) > 1e-3 for other in answers[1:])  # the input matters


@pytest.mark.parametrize("family", TINY)
def test_every_weight_matters(family: str) -> None:
    weights, x = lively(family), torch.from_numpy(inputs.make(family, 0, 0))
    whole = cut(family, weights)(x)
    idle = {name for name in weights if torch.equal(cut(family, {**weights, name: weights[name] * 1.5})(x), whole)}
    # what is added to a key adds the same to all scores of a query, which attention does not see; but it rounds
    assert all(".k" in name or "key" in name for name in idle), idle


@pytest.mark.parametrize("family", GENERATING)
def test_greedy_tokens_are_those_of_transformers(family: str) -> None:
    weights = lively(family)
    for i in range(3):
        x = torch.from_numpy(inputs.make(family, 0, i))
        tokens = generate([cut(family, weights)], x, 64)
        assert tokens == continuation_of(family, weights, x, 64)
        assert len(set(tokens)) > 2


@pytest.mark.parametrize("family", GENERATING)
def test_generation_ends_where_it_is_told(family: str) -> None:
    model, x = [cut(family, lively(family))], torch.from_numpy(inputs.make(family, 0, 0))
    tokens = generate(model, x, 20)
    end = tokens[7]
    assert generate(model, x, 20, end) == tokens[: tokens.index(end) + 1]
