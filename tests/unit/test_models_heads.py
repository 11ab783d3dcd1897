"""Heads one by one: their rows and columns, by the names the configs give, add up to the whole attention."""

import pytest
import torch
import torch.nn.functional as F

from nodes.models import gpt2, llama
from nodes.models.config import config_of
from nodes.models.decoders import GptConfig, LlamaConfig
from nodes.models.layers import attend, heads, joined
from nodes.models.shapes import Cut
from tests.unit.oracles import lively

LAYER, TOKENS = 1, 9


def part(weights: dict[str, torch.Tensor], cut: Cut) -> torch.Tensor:
    return weights[cut.weight].narrow(cut.dim, cut.begin, cut.end - cut.begin)


def test_heads_of_gpt2_add_up() -> None:
    c, w = config_of("gpt2_tiny"), lively("gpt2_tiny")
    assert isinstance(c, GptConfig)
    x = torch.randn(1, TOKENS, c.width, generator=torch.Generator().manual_seed(0))
    at = f"transformer.h.{LAYER}.attn."
    total = w[at + "c_proj.bias"].expand(1, TOKENS, c.width)
    for i in range(c.heads):
        cuts = c.head(LAYER, i)
        q, k, v = (heads(x @ part(w, cuts[role]) + part(w, cuts[role + "_bias"]), 1) for role in "qkv")
        total = total + joined(attend(q, k, v)) @ part(w, cuts["o"])
    assert torch.allclose(total, gpt2.attention(c, at, w, x, None), atol=1e-5)


def test_groups_of_llama_add_up() -> None:
    c, w = config_of("llama_tiny"), lively("llama_tiny")
    assert isinstance(c, LlamaConfig)
    x = torch.randn(1, TOKENS, c.width, generator=torch.Generator().manual_seed(0))
    turn, total = llama.rotation(c, 0, TOKENS), torch.zeros(1, TOKENS, c.width)
    for i in range(c.groups):
        cuts = c.head(LAYER, i)
        q = llama.rotated(heads(F.linear(x, part(w, cuts["q"])), c.heads // c.groups), turn)
        k = llama.rotated(heads(F.linear(x, part(w, cuts["k"])), 1), turn)
        v = heads(F.linear(x, part(w, cuts["v"])), 1)
        total = total + F.linear(joined(attend(q, k, v)), part(w, cuts["o"]))
    assert torch.allclose(total, llama.attention(c, f"model.layers.{LAYER}.self_attn.", w, x, None), atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2_tiny", "gpt2", "llama_tiny", "smollm2"])
def test_heads_cover_every_weight_of_attention_once(family: str) -> None:
    c = config_of(family)
    assert isinstance(c, GptConfig | LlamaConfig)
    shapes = {name: shape for name, shape in c.units()[1 + LAYER].weights.items() if "attn." in name}
    covered = dict.fromkeys(shapes, 0)
    for i in range(c.heads if isinstance(c, GptConfig) else c.groups):
        for cut in c.head(LAYER, i).values():
            assert 0 <= cut.begin < cut.end <= shapes[cut.weight][cut.dim]
            covered[cut.weight] += cut.end - cut.begin
    for name, shape in shapes.items():
        if not name.endswith("c_proj.bias"):  # added once, behind the sum
            assert covered[name] in shape, name
