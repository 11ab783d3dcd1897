"""What a unit keeps of one generation: how many tokens it has seen, and their keys and values.

Rules: a cache belongs to one unit and one generation, whoever runs the unit passes it. How it lies in memory depends
on its length alone, not on how it grew, so that one which was moved gives the same bits.
"""

from collections.abc import Mapping

import torch

GROWTH = 64  # tokens


class Cache:
    """`length` is the position of the next token. The embedding of words keeps nothing else."""

    def __init__(self) -> None:
        self.length = 0
        self._grown: dict[str, torch.Tensor] = {}  # (1, heads, capacity, d)
        self._fixed: dict[str, torch.Tensor] = {}

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, heads, T, d) of the next T tokens -> those of all tokens so far."""
        before, self.length = self.length, self.length + keys.shape[2]
        for name, new in (("keys", keys), ("values", values)):
            self._room(name, new)[:, :, before : self.length] = new
        if not before:
            return keys, values  # as they lie without a cache
        return self._view("keys"), self._view("values")

    def advance(self, tokens: int) -> None:
        """Of a unit that keeps its position only."""
        self.length += tokens

    def keep(self, **tensors: torch.Tensor) -> None:
        """What does not grow with the tokens."""
        self._fixed |= tensors

    def kept(self, name: str) -> torch.Tensor:
        return self._fixed[name]

    def tensors(self) -> dict[str, torch.Tensor]:
        """By the names that the unit declares (UnitShape.keeps): views, which the next token may leave behind."""
        return {name: self._view(name) for name in self._grown} | self._fixed

    @classmethod
    def of(cls, length: int, tensors: Mapping[str, torch.Tensor], grows: frozenset[str]) -> "Cache":
        """A cache that goes on where `tensors()` of another of `length` tokens left off."""
        cache = cls()
        cache.length = length
        for name, tensor in tensors.items():
            if name in grows:
                cache._room(name, tensor)[:, :, :length] = tensor
            else:
                cache._fixed[name] = tensor
        return cache

    def _view(self, name: str) -> torch.Tensor:
        return self._grown[name][:, :, : self.length]

    def _room(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """The buffer of `name`, for `length` tokens at least."""
        capacity = -(-self.length // GROWTH) * GROWTH
        held = self._grown.get(name)
        if held is None or held.shape[2] < capacity:
            buffer = like.new_empty(*like.shape[:2], capacity, like.shape[3])
            if held is not None:
                buffer[:, :, : held.shape[2]] = held
            self._grown[name] = buffer
        return self._grown[name]
