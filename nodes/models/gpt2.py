"""GPT-2 in plain torch functions, after Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).

Read top-down: token ids -> layers -> scores of the next word. Shapes are in comments for GPT-2 small: B = 1 text, T
tokens (all of it, or only the next ones when there is a cache), n tokens so far, D = 768 wide, h = 12 heads of d = 64.
`w` holds the weights under the names of transformers' GPT2LMHeadModel, whose matrices are (inputs, outputs). Head i
has columns i d .. (i + 1) d - 1 of each third of `c_attn` and those rows of `c_proj`: GptConfig.head. Float32.
"""

from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.cache import Cache
from nodes.models.chain import Chain, Weights, assemble
from nodes.models.decoders import GptConfig
from nodes.models.layers import Steps, attend, heads, joined, norm, words


def chain(config: GptConfig) -> Chain:
    layers = [partial(layer, config, f"transformer.h.{i}.") for i in range(config.layers)]
    return assemble(config, [partial(embed, config), *layers, partial(head, config)])


def steps(c: GptConfig, i: int) -> Steps:
    """Of layer `i`, for those who hold parts of it."""
    at = f"transformer.h.{i}."
    return Steps(
        norm=partial(norm, at + "ln_1", eps=c.norm_eps),
        mix=partial(mix, c, at + "attn."),
        project=partial(product, at + "attn.c_proj"),
        mlp_norm=partial(norm, at + "ln_2", eps=c.norm_eps),
        mlp=partial(mlp, at + "mlp."),
    )


def embed(c: GptConfig, w: Weights, ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """int64 (B, T) -> (B, T, D)."""
    before = cache.length if cache else 0
    x = words(w["transformer.wte.weight"], c.positions, ids, before)
    if cache:
        cache.advance(ids.shape[1])
    return x.add_(w["transformer.wpe.weight"][before : before + ids.shape[1]])


def layer(c: GptConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """(B, T, D) -> (B, T, D)."""
    x = attention(c, at + "attn.", w, norm(at + "ln_1", w, x, c.norm_eps), cache).add_(x)
    return mlp(at + "mlp.", w, norm(at + "ln_2", w, x, c.norm_eps)).add_(x)


def attention(c: GptConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    return product(at + "c_proj", w, mix(c, at, w, x, cache))


def mix(c: GptConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """What all heads, or those whose columns `w` has, took from the tokens so far: (B, T, h d)."""
    count = w[at + "c_attn.bias"].shape[0] // (3 * c.head_width)
    q, k, v = (heads(y, count) for y in product(at + "c_attn", w, x).chunk(3, dim=2))  # (B, h, T, d)
    if cache:
        k, v = cache.append(k, v)  # (B, h, n, d)
    return joined(attend(q, k, v))


def mlp(at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    return product(at + "c_proj", w, F.gelu(product(at + "c_fc", w, x), approximate="tanh"))  # 4 D wide inside


def head(c: GptConfig, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> scores of what follows the last token (B, 50257)."""
    return F.linear(norm("transformer.ln_f", w, x[:, -1], c.norm_eps), w["transformer.wte.weight"])


def product(name: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, inputs) -> (B, T, outputs); without a bias among the weights, what a share adds to a sum."""
    bias, matrix = w.get(name + ".bias"), w[name + ".weight"]
    return (x[0] @ matrix if bias is None else torch.addmm(bias, x[0], matrix))[None]
