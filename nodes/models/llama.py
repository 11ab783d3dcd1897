"""Llama in plain torch functions, after Touvron et al., "Llama 2" (2023): gated feed-forward, rotated keys, groups.

Read top-down: token ids -> layers -> scores of the next word. Shapes are in comments for SmolLM2-135M: B = 1 text, T
tokens (all of it, or only the next ones when there is a cache), n tokens so far, D = 576 wide, h = 9 query heads of
d = 64 in g = 3 groups. `w` holds the weights under the names of transformers' LlamaForCausalLM, (outputs, inputs);
the scores use the table of words. Group i has rows i d .. (i + 1) d - 1 of `k_proj` and `v_proj`, and of its three
query heads the rows of `q_proj` and the columns of `o_proj`: LlamaConfig.head. Keys are kept rotated. Float32.
"""

from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.cache import Cache
from nodes.models.chain import Chain, Weights, assemble
from nodes.models.decoders import LlamaConfig
from nodes.models.layers import Steps, attend, heads, joined, linear, words


def chain(config: LlamaConfig) -> Chain:
    layers = [partial(layer, config, f"model.layers.{i}.") for i in range(config.layers)]
    return assemble(config, [partial(embed, config), *layers, partial(head, config)])


def steps(c: LlamaConfig, i: int) -> Steps:
    """Of layer `i`, for those who hold parts of it."""
    at = f"model.layers.{i}."
    return Steps(
        norm=partial(norm, c, at + "input_layernorm"),
        mix=partial(mix, c, at + "self_attn."),
        project=partial(linear, at + "self_attn.o_proj"),
        mlp_norm=partial(norm, c, at + "post_attention_layernorm"),
        mlp=partial(mlp, at + "mlp."),
    )


def embed(c: LlamaConfig, w: Weights, ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """int64 (B, T) -> (B, T, D)."""
    x = words(w["model.embed_tokens.weight"], c.positions, ids, cache.length if cache else 0)
    if cache:
        cache.advance(ids.shape[1])
    return x


def layer(c: LlamaConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """(B, T, D) -> (B, T, D)."""
    x = attention(c, at + "self_attn.", w, norm(c, at + "input_layernorm", w, x), cache).add_(x)
    return mlp(at + "mlp.", w, norm(c, at + "post_attention_layernorm", w, x)).add_(x)


def attention(c: LlamaConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    return linear(at + "o_proj", w, mix(c, at, w, x, cache))


def mix(c: LlamaConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """What the query heads of all groups, or of those whose rows `w` has, took from the tokens so far: (B, T, h d)."""
    groups = w[at + "k_proj.weight"].shape[0] // c.head_width
    turn = rotation(c, cache.length if cache else 0, x.shape[1])
    q = rotated(heads(linear(at + "q_proj", w, x), groups * c.heads // c.groups), turn)  # (B, h, T, d)
    k = rotated(heads(linear(at + "k_proj", w, x), groups), turn)  # (B, g, T, d)
    v = heads(linear(at + "v_proj", w, x), groups)
    if cache:
        k, v = cache.append(k, v)  # (B, g, n, d)
    return joined(attend(q, k, v))


def mlp(at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    gate = F.silu(linear(at + "gate_proj", w, x))  # (B, T, 1536)
    return linear(at + "down_proj", w, gate.mul_(linear(at + "up_proj", w, x)))


def head(c: LlamaConfig, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> scores of what follows the last token (B, 49152)."""
    return F.linear(norm(c, "model.norm", w, x[:, -1]), w["model.embed_tokens.weight"])


def rotation(c: LlamaConfig, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (T, d) of the angles of positions first..first+T-1."""
    pace = 1.0 / (c.rope_base ** (torch.arange(0, c.head_width, 2, dtype=torch.float32) / c.head_width))
    angles = torch.arange(first, first + count, dtype=torch.float32)[:, None] * pace  # (T, d / 2)
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def rotated(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """(B, h, T, d): numbers i and i + d / 2 of a head are the two coordinates of a point, which turns."""
    cosine, sine = turn
    near, far = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-far, near), dim=-1) * sine


def norm(c: LlamaConfig, name: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (c.width,), w[name + ".weight"], c.norm_eps)
