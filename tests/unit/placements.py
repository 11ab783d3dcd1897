"""Mixed placements, drawn: heads, projection and columns of each layer on any node, some layers whole."""

from functools import lru_cache

import torch
from hypothesis import settings
from hypothesis import strategies as st

from nodes.inlayer.assembly import Assembly
from nodes.inlayer.parts import split_config
from nodes.models.generate import generate, next_token, step
from nodes.models.shares import SplitConfig
from nodes.models.splits import Placement, Split
from nodes.prepare import inputs
from nodes.runtime.slicing import cut
from tests.unit.oracles import answer_of, continuation_of, lively, relative_error

SMALL = ["gpt2_tiny", "llama_tiny"]
FIFTY = settings(max_examples=50, derandomize=True, deadline=None, database=None)
weights_of = lru_cache(lively)


def text(family: str) -> torch.Tensor:
    return torch.from_numpy(inputs.make(family, 0, 0))[:, :12].contiguous()


@lru_cache
def expected(family: str, count: int) -> tuple[list[int], list[torch.Tensor]]:
    """What transformers makes of the text: greedy tokens; and the scores behind each, the first of transformers too."""
    weights, x = weights_of(family), text(family)
    tokens = continuation_of(family, weights, x, count)
    model = [cut(family, weights)]
    caches = [model[0].caches()]
    scores = [model[0](x, caches[0])]
    scores += [step(model, caches, torch.tensor([[token]])) for token in tokens[:-1]]
    assert relative_error(scores[0], answer_of(family, weights)(x)) < 1e-5
    assert tokens == generate(model, x, count)
    assert len(set(tokens)) > 2
    return tokens, scores


@st.composite
def splits(draw: st.DrawFn, config: SplitConfig, nodes: list[str]) -> Split:
    node = st.sampled_from(nodes)
    heads = draw(st.lists(node, min_size=config.movable, max_size=config.movable))
    gather = draw(st.one_of(st.none(), node))
    if draw(st.booleans()):
        return Split.assigned(draw(node), heads, gather, draw(node))
    ends = sorted(draw(st.sets(st.integers(1, config.hidden - 1), min_size=1, max_size=len(nodes))))
    counts = [end - begin for begin, end in zip([0, *ends], [*ends, config.hidden], strict=True)]
    return Split.assigned(draw(node), heads, gather, [(draw(node), count) for count in counts])


@st.composite
def placements(draw: st.DrawFn, family: str, count: int) -> Placement:
    """On `count` nodes; up to two of three layers are whole."""
    config, nodes = split_config(family), [f"n{i}" for i in range(count)]
    node = st.sampled_from(nodes)
    whole = draw(st.sets(st.integers(0, config.layers - 1), max_size=config.layers - 1))
    layers = [draw(node) if i in whole else draw(splits(config, nodes)) for i in range(config.layers)]
    return [draw(node), *layers, draw(node)]


def check_greedy(family: str, placement: Placement, count: int) -> None:
    """Tokens are those of transformers, scores within 1e-5 of it."""
    tokens, wanted = expected(family, count)
    assembly = Assembly(family, weights_of(family), placement)
    scores = assembly.begin(text(family))
    for i, token in enumerate(tokens):
        assert next_token(scores) == token, i
        assert relative_error(scores, wanted[i]) < 1e-5, i
        if i + 1 < count:
            scores = assembly.step(torch.tensor([[token]]))
