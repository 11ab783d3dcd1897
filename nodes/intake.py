"""From a tensor that came in for a slice, or for a part of a layer, to its turn on the modelled device.

Rules: a tensor is charged to the memory until its turn is over; keys and values that a move left behind come before
it; work whose request has already been given up is not begun; what is wrong has one name (HopFailed), wherever it is
found; what belongs to an earlier life of the node ends in silence.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nodes.clock import Clock
from nodes.compute.device import Device, Job
from nodes.compute.memory import Memory, MemoryRefused
from nodes.hopfailure import HopFailed
from nodes.pieces import Piece
from nodes.proto.data_pb2 import Header, Held
from nodes.session.sessions import CacheLost, Sessions
from nodes.shelf import Shelf
from nodes.slices import BadTensor, Kept, Work
from nodes.wire.codec import Tensor
from nodes.wire.kvshipping import Rows


class Around(Protocol):
    """The agent."""

    clock: Clock
    device: Device

    def fail(self, header: Header, code: str, why: str) -> None: ...


@dataclass(slots=True, eq=False)
class Task:
    """One tensor with what is to be done with it."""

    header: Header
    piece: Piece
    work: tuple[Work, ...]
    ready_us: int  # when all of it was there
    charged_bytes: int
    life: int  # of the node
    run: Callable[[Kept | None], Tensor]  # with the caches of its session, if it needs any; raises BadTensor
    done: Callable[[int, int, Tensor | HopFailed], None]  # its turn was from when to when, and gave that

    @property
    def keeps(self) -> bool:
        """Whether it goes on with what a session keeps."""
        return bool(self.header.session) and self.piece.heads != ()


class Intake:
    """`lock` is the agent's, which guards memory and shelf; `batch`: how many jobs may run together, by model."""

    def __init__(  # noqa: PLR0917 the parts of an agent
        self,
        name: str,
        agent: Around,
        lock: threading.Lock,
        memory: Memory,
        shelf: Shelf,
        sessions: Sessions,
        record: Any,
        batch: Mapping[str, int],
    ) -> None:
        self._name, self._agent, self._lock, self._memory = name, agent, lock, memory
        self._shelf, self._sessions, self._record, self._batch = shelf, sessions, record, batch

    def put(self, task: Task, sources: Sequence[Held]) -> None:
        """Its memory is charged; `sources`: who has the keys and values that it may lack. Raises HopFailed."""
        pulls = self._admit(task, sources) if task.keeps else ()
        if pulls:
            threading.Thread(target=self._pull_first, args=(task, pulls), name="pull", daemon=True).start()
        else:
            self._submit(task)

    def _admit(self, task: Task, sources: Sequence[Held]) -> Sequence[Rows]:
        """The keys and values that have to come first."""
        piece = task.piece
        try:
            return self._sessions.admit(task.header, piece.first, piece.last, sources, piece.heads)
        except (CacheLost, MemoryRefused) as error:
            self.give_back(task.charged_bytes, task.life)
            code = "CACHE_LOST" if isinstance(error, CacheLost) else "OUT_OF_MEMORY"
            raise HopFailed(code, str(error)) from error

    def _pull_first(self, task: Task, pulls: Sequence[Rows]) -> None:
        left_us = task.header.deadline_us - self._agent.clock.now_us()
        try:
            self._sessions.pull(pulls, max(left_us, 1) / 1e6, "switch")
        except CacheLost as lost:
            self.give_back(task.charged_bytes, task.life)
            self._agent.fail(task.header, "CACHE_LOST", str(lost))
            return
        if task.life == self._shelf.life:
            task.ready_us = self._agent.clock.now_us()
            self._submit(task)

    def _submit(self, task: Task) -> None:
        header = task.header

        def done(start_us: int, end_us: int, late_us: int, output: Tensor | HopFailed) -> None:
            self.give_back(task.charged_bytes, task.life)
            if late_us and any(block.flops for block in task.work):  # what counts nothing in the model is no yardstick
                self._record("overrun", end_us, node=self._name, request=header.request_id, late_us=late_us)
            task.done(start_us, end_us, output)

        batch = self._batch.get(header.model, 1)
        self._agent.device.submit(Job(task.work, task.ready_us, lambda: self._run(task), done, task.piece, batch))

    def _run(self, task: Task) -> Tensor | HopFailed:
        header, piece = task.header, task.piece
        if header.deadline_us and self._agent.clock.now_us() > header.deadline_us:
            return HopFailed("DEADLINE", "the request was given up before it could begin")
        try:
            if task.keeps:
                return self._sessions.run(header, piece.first, piece.last, task.run, piece.heads)
            return task.run(None)
        except BadTensor as error:
            return HopFailed("BAD_TENSOR", str(error))
        except CacheLost as error:
            return HopFailed("CACHE_LOST", str(error))

    def take(self, what: str, x: Tensor, life: int) -> int:
        """The bytes that are charged for it now. Raises HopFailed."""
        with self._lock:
            if life != self._shelf.life:
                return 0
            try:
                self._memory.take(what, x.size_bytes)
            except MemoryRefused as refusal:
                raise HopFailed("OUT_OF_MEMORY", str(refusal)) from refusal
        return x.size_bytes

    def give_back(self, size_bytes: int, life: int) -> None:
        """What was charged in that life of the node."""
        with self._lock:
            if life == self._shelf.life:
                self._memory.give(size_bytes)
