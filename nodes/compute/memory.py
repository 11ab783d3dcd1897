"""The modelled memory of a node: what is held, by whom, and the refusal of what does not fit. Pure.

Counted are the weights of blocks (each once, however many slices hold it), the largest working set of a slice, tensors
that wait or run, and what sessions keep: keys and values of generations.

    memory.keep(("chat.ue1", 7), 36_864)   the session holds so much from now on, in all
    memory.forget(("chat.ue1", 7))
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

Piece = tuple[str, int, int] | tuple[str, int, int, str]  # model, first, last, part


class MemoryRefused(Exception):
    """What was asked for does not fit; nothing was taken."""

    def __init__(self, node: str, what: str, need_bytes: int, free_bytes: int) -> None:
        super().__init__(f"{node}: {what} needs {need_bytes} bytes, {free_bytes} are free")


class Memory:
    """Not for several threads at once: its owner holds a lock."""

    def __init__(self, node: str, limit_bytes: int) -> None:
        self.node = node
        self.limit_bytes = limit_bytes
        self._weights: dict[tuple[str, Any], tuple[int, int]] = {}  # block -> bytes, slices that hold it
        self._weight_bytes = 0
        self._working: dict[Piece, tuple[int, tuple[Any, ...]]] = {}  # slice -> bytes, its blocks
        self._sessions: dict[Hashable, int] = {}
        self._session_bytes = 0
        self._tensor_bytes = 0
        self.give_way: Callable[[], bool] = lambda: False  # lets go of something that can be done without, if any

    @property
    def used_bytes(self) -> int:
        return self._weight_bytes + self._most_working() + self._session_bytes + self._tensor_bytes

    @property
    def session_bytes(self) -> int:
        """Keys and values alone."""
        return self._session_bytes

    def hold(self, piece: Piece, weight_bytes: Mapping[Any, int], working_bytes: int) -> None:
        """Takes the blocks of a slice, or what blocks are made of, by name; raises `MemoryRefused`.

        A slice that is held is left alone.
        """
        if piece in self._working:
            return
        model, first, last, *_ = piece
        new_bytes = sum(size for block, size in weight_bytes.items() if (model, block) not in self._weights)
        more_bytes = max(0, working_bytes - self._most_working())
        self._need(f"{model}[{first}:{last}]", new_bytes + more_bytes)
        for block, size in weight_bytes.items():
            self._weights[model, block] = (size, self._weights.get((model, block), (size, 0))[1] + 1)
        self._weight_bytes += new_bytes
        self._working[piece] = working_bytes, tuple(weight_bytes)

    def drop(self, piece: Piece) -> None:
        """The inverse of `hold`; dropping what is not held does nothing."""
        _, blocks = self._working.pop(piece, (0, ()))
        for block in blocks:
            size, holders = self._weights.pop((piece[0], block))
            if holders > 1:
                self._weights[piece[0], block] = (size, holders - 1)
            else:
                self._weight_bytes -= size

    def keep(self, session: Hashable, size_bytes: int) -> None:
        """A session holds so many bytes in all from now on, more or fewer than before; raises `MemoryRefused`."""
        before = self._sessions.get(session, 0)
        self._need(f"what session {session} keeps", size_bytes - before)
        self._sessions[session] = size_bytes
        self._session_bytes += size_bytes - before

    def forget(self, session: Hashable) -> int:
        """The bytes that it held; 0 for a session that held nothing."""
        size_bytes = self._sessions.pop(session, 0)
        self._session_bytes -= size_bytes
        return size_bytes

    def take(self, what: str, size_bytes: int) -> None:
        self._need(what, size_bytes)
        self._tensor_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        self._tensor_bytes -= size_bytes

    def clear(self) -> None:
        self._weights.clear()
        self._weight_bytes = 0
        self._working.clear()
        self._sessions.clear()
        self._session_bytes = 0
        self._tensor_bytes = 0

    def _most_working(self) -> int:
        return max((size for size, _ in self._working.values()), default=0)

    def _need(self, what: str, size_bytes: int) -> None:
        free_bytes = self.limit_bytes - self.used_bytes
        while size_bytes > max(0, free_bytes) and self.give_way():
            free_bytes = self.limit_bytes - self.used_bytes
        if size_bytes > max(0, free_bytes):
            raise MemoryRefused(self.node, what, size_bytes, free_bytes)
