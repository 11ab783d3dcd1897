"""Answers that a phone keeps by what was asked: the same input again is answered at once. Pure.

Rules: the key is the SHA-256 of the input's type, shape and bytes: only the same bits are the same question; the answer
that was not asked for longest gives way (LRU). Models keep nothing between requests, so what was right stays right.
"""

from collections import OrderedDict
from hashlib import sha256

from nodes.wire.codec import Tensor


class ResultCache:
    """Of one model; for one thread at a time. ValueError for less than one entry."""

    def __init__(self, entries: int) -> None:
        if entries < 1:
            raise ValueError(f"a cache of {entries} answers; 1 at least is right")
        self._entries = entries
        self._held: OrderedDict[bytes, Tensor] = OrderedDict()

    def get(self, asked: bytes) -> Tensor | None:
        """The answer to the input of this `key`, which is then the newest."""
        answer = self._held.get(asked)
        if answer is not None:
            self._held.move_to_end(asked)
        return answer

    def put(self, asked: bytes, answer: Tensor) -> None:
        """A copy: what arrived lies in a buffer that is used again."""
        self._held[asked] = Tensor(answer.dtype, answer.shape, bytes(answer.data), answer.wire)
        self._held.move_to_end(asked)
        while len(self._held) > self._entries:
            self._held.popitem(last=False)

    def __len__(self) -> int:
        return len(self._held)


def key(tensor: Tensor) -> bytes:
    digest = sha256(f"{tensor.dtype} {tensor.shape} ".encode())
    digest.update(tensor.data)
    return digest.digest()
