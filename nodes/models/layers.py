"""What several families are built from: matrix products, norms, and attention that looks back."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from nodes.models.chain import Step, Weights


@dataclass(frozen=True, slots=True)
class Steps:
    """What a layer of a decoder does one after the other: functions of weights, under their whole names, and a tensor.

    Given a part of the rows or columns, `mix`, `project` and `mlp` give that part of the result or of the sum.
    """

    norm: Step  # (1, T, D) -> (1, T, D)
    mix: Step  # of one head or group, with its cache or None: (1, T, D) -> (1, T, its width)
    project: Step  # (1, T, widths of the heads) -> (1, T, D)
    mlp_norm: Step  # (1, T, D) -> (1, T, D)
    mlp: Step  # (1, T, D) -> (1, T, D)


def linear(name: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(..., inputs) -> (..., outputs); a layer without a bias has none among its weights."""
    return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))


def norm(name: str, w: Weights, x: torch.Tensor, eps: float) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    """(B, T, h d) -> (B, h, T, d)."""
    return x.view(*x.shape[:2], count, -1).transpose(1, 2)


def joined(x: torch.Tensor) -> torch.Tensor:
    """(B, h, T, d) -> (B, T, h d)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q (B, h, T, d) of the last T of n tokens, k and v (B, g, n, d), g a divisor of h -> (B, h, T, d).

    A token sees those before it and itself. Query heads i h/g .. (i + 1) h/g - 1 share K/V head i.
    """
    count, total, grouped = q.shape[2], k.shape[2], k.shape[1] != q.shape[1]
    if count in {1, total}:
        return F.scaled_dot_product_attention(q, k, v, is_causal=count > 1, enable_gqa=grouped)
    seen = torch.ones(count, total, dtype=torch.bool).tril_(total - count)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=grouped)


def words(table: torch.Tensor, positions: int, ids: torch.Tensor, before: int) -> torch.Tensor:
    """int64 (B, T), after `before` others -> (B, T, D). Raises IndexError for a text that is too long."""
    if before + ids.shape[1] > positions:
        raise IndexError(f"{before + ids.shape[1]} tokens, at most {positions} have a position")
    return F.embedding(ids, table)
