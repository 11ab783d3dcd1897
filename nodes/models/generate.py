"""Greedy generation by a model in slices: the whole input once, then one token after another."""

from collections.abc import Mapping, Sequence

import torch

from nodes.models.cache import Cache
from nodes.runtime.slicing import Slice


def generate(slices: Sequence[Slice], x: torch.Tensor, count: int, end: int | None = None) -> list[int]:
    """`count` tokens that follow `x`, fewer if `end` comes (which is the last then); the slices make up the model."""
    caches = [piece.caches() for piece in slices]
    for piece, kept in zip(slices, caches, strict=True):
        x = piece(x, kept)
    tokens = [next_token(x)]
    while len(tokens) < count and tokens[-1] != end:
        tokens.append(next_token(step(slices, caches, torch.tensor([tokens[-1:]]))))
    return tokens


def step(slices: Sequence[Slice], caches: Sequence[Mapping[str, Cache]], tokens: torch.Tensor) -> torch.Tensor:
    """Scores of what follows the next tokens, int64 (1, T)."""
    x = tokens
    for piece, kept in zip(slices, caches, strict=True):
        if piece.generates:
            x = piece.step(x, kept)
    return x


def next_token(scores: torch.Tensor) -> int:
    """The likeliest, of equals the first."""
    return int(scores.argmax(dim=-1).item())
