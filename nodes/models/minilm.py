"""MiniLM in plain torch functions: a BERT encoder, its tokens averaged to one embedding of length 1.

Read top-down: token ids -> layers -> embedding. Shapes are in comments for all-MiniLM-L6-v2: B = 1 sentence of
T tokens, D = 384 wide, h = 12 heads of d = 32. No sentence is padded, so no mask is needed and none crosses a
cut. `w` holds the weights under the names of transformers' BertModel. Float32 throughout.
"""

from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.chain import Chain, Weights, assemble
from nodes.models.config import MiniLmConfig


def chain(config: MiniLmConfig) -> Chain:
    layers = [partial(layer, config, f"encoder.layer.{i}.") for i in range(config.layers)]
    return assemble(config, [partial(embed, config), *layers, pool])


def embed(c: MiniLmConfig, w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """int64 (B, T) -> (B, T, D); ids begin with CLS and end with SEP."""
    at = "embeddings."
    x = F.embedding(ids, w[at + "word_embeddings.weight"])
    x.add_(w[at + "token_type_embeddings.weight"][0])  # one sentence: all of type 0
    x.add_(w[at + "position_embeddings.weight"][: ids.shape[1]])
    return norm(c, at + "LayerNorm", w, x)


def layer(c: MiniLmConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> (B, T, D)."""
    x = norm(c, at + "attention.output.LayerNorm", w, attention(c, at + "attention.", w, x).add_(x))
    y = linear(at + "output.dense", w, F.gelu(linear(at + "intermediate.dense", w, x)))  # 4 D wide inside
    return norm(c, at + "output.LayerNorm", w, y.add_(x))


def attention(c: MiniLmConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (
        linear(at + name, w, x).view(1, x.shape[1], c.heads, -1).transpose(1, 2)  # (B, h, T, d)
        for name in ("self.query", "self.key", "self.value")
    )
    y = F.scaled_dot_product_attention(q, k, v)  # (B, h, T, d); all tokens see all
    return linear(at + "output.dense", w, y.transpose(1, 2).reshape(x.shape))


def pool(_: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> (B, D), the mean of the tokens, brought to length 1."""
    return F.normalize(x.mean(dim=1), dim=1)


def linear(name: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, w[name + ".weight"], w[name + ".bias"])


def norm(c: MiniLmConfig, name: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (c.width,), w[name + ".weight"], w[name + ".bias"], c.norm_eps)
