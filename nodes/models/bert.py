"""BERT in plain torch functions, after Devlin et al. (2018), and MiniLM, which is one with another last unit.

Read top-down: token ids -> layers -> one vector. Shapes are in comments for BERT-large: B = 1 sentence of T tokens,
D = 1024 wide, h = 16 heads of d = 64. No sentence is padded, so no mask is needed and none crosses a cut. `w` holds
the weights under the names of transformers' BertModel. Float32 throughout.
"""

from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.chain import Chain, Weights, assemble
from nodes.models.encoders import BertConfig
from nodes.models.layers import heads, joined, linear, norm


def chain(config: BertConfig) -> Chain:
    layers = [partial(layer, config, f"encoder.layer.{i}.") for i in range(config.layers)]
    return assemble(config, [partial(embed, config), *layers, first if config.pooling == "first" else mean])


def embed(c: BertConfig, w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """int64 (B, T) -> (B, T, D); ids begin with CLS and end with SEP."""
    at = "embeddings."
    x = F.embedding(ids, w[at + "word_embeddings.weight"])
    x.add_(w[at + "token_type_embeddings.weight"][0])  # one sentence: all of type 0
    x.add_(w[at + "position_embeddings.weight"][: ids.shape[1]])
    return norm(at + "LayerNorm", w, x, c.norm_eps)


def layer(c: BertConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> (B, T, D)."""
    x = norm(at + "attention.output.LayerNorm", w, attention(c, at + "attention.", w, x).add_(x), c.norm_eps)
    y = linear(at + "output.dense", w, F.gelu(linear(at + "intermediate.dense", w, x)))  # 4 D wide inside
    return norm(at + "output.LayerNorm", w, y.add_(x), c.norm_eps)


def attention(c: BertConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (heads(linear(at + name, w, x), c.heads) for name in ("self.query", "self.key", "self.value"))
    y = F.scaled_dot_product_attention(q, k, v)  # (B, h, T, d); all tokens see all
    return linear(at + "output.dense", w, joined(y))


def mean(_: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> (B, D), the mean of the tokens, brought to length 1: MiniLM's."""
    return F.normalize(x.mean(dim=1), dim=1)


def first(w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> (B, D), from CLS alone: BERT's."""
    return torch.tanh(linear("pooler.dense", w, x[:, 0]))
