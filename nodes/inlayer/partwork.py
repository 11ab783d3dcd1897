"""The agent's work on layers by parts: each part a job of the modelled device, each output sent to where it is needed.

Where what goes is in `inlayer`, what waits for what in `gather`. What stays on a node does not travel.

Rules: as for slices: a part that is not here, and caches that are not what the round goes on from, go straight to the
phone by name; nothing is tried twice. The layer is one span of the request, each part a `part` record of the journal.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nodes.clock import Clock, Timer
from nodes.compute.device import Device, Job
from nodes.compute.memory import Memory, MemoryRefused
from nodes.costing.partcost import part_work
from nodes.hopfailure import HopFailed
from nodes.inlayer.frames import Layer, back, layer_of, passed, share_named, to_end, to_middle, to_shares
from nodes.inlayer.gather import Gather
from nodes.models.shares import (
    MLP_NORM,
    MLP_SUM,
    NORM,
    PROJ,
    SUM,
    Columns,
    Heads,
    Share,
    ShareError,
    Whole,
    closing,
)
from nodes.pieces import Piece
from nodes.proto.data_pb2 import Header, Span
from nodes.session.sessions import CacheLost, Sessions
from nodes.shelf import Shelf
from nodes.slices import BadTensor, Costs, LoadedPart
from nodes.wire.codec import Tensor
from nodes.wire.kvshipping import Rows
from nodes.wire.outbox import Outbox
from nodes.wire.transport import Busy

LAYER = "layer"


class Around(Protocol):
    """The agent."""

    clock: Clock
    costs: Costs
    device: Device
    outbox: Outbox

    def fail(self, header: Header, code: str, why: str) -> None: ...

    def forward(self, header: Header, output: Tensor, end_us: int) -> None:
        """To the next hop, or to the phone."""
        ...


@dataclass(slots=True, eq=False)
class _Task:
    """One part with what it takes."""

    header: Header
    share: Share
    x: Tensor
    charged_bytes: int
    arrival_us: int
    life: int  # of the node
    loaded: LoadedPart
    arrived: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[int, ...]:
        return self.share.numbers if isinstance(self.share, Heads) else ()


class PartWork:
    """`lock` is the agent's, which guards memory and shelf; `batch`: how many jobs may run together, by model."""

    def __init__(  # noqa: PLR0917 the parts of an agent
        self,
        name: str,
        agent: Around,
        lock: threading.Lock,
        memory: Memory,
        shelf: Shelf,
        sessions: Sessions,
        timer: Timer,
        record: Any,
        batch: Mapping[str, int],
    ) -> None:
        self._name, self._agent, self._lock, self._memory = name, agent, lock, memory
        self._shelf, self._sessions, self._record, self._batch = shelf, sessions, record, batch
        self._gather = Gather(lock, memory, timer)

    def clear(self) -> None:
        """The node is down; the lock is held."""
        self._gather.clear()

    def enter(self, header: Header, tensor: Tensor) -> None:
        """A tensor within a layer by parts, or for its home. Raises HopFailed."""
        if len(tensor.shape) != 3 or (header.session and tensor.shape[1] != header.tokens):
            raise HopFailed("BAD_TENSOR", f"a layer takes (1, tokens, width), not {tensor.shape}")
        try:
            layer = layer_of(header)
            if not header.part:
                self._begin(header, layer, tensor)
                return
            share = share_named(header.part)
            if header.arrived:
                self._wait(header, _closing(share), tensor, None)
            elif share in {PROJ, SUM} and isinstance(share, Whole):
                self._wait(header, share, tensor, layer.shares(share))
            else:
                self._take(header, share, tensor)
        except ShareError as error:
            raise HopFailed("BAD_ROUTE", str(error)) from error
        except MemoryRefused as refusal:
            raise HopFailed("OUT_OF_MEMORY", str(refusal)) from refusal

    # --- a part

    def _begin(self, header: Header, layer: Layer, x: Tensor) -> None:
        if layer.hop.node != self._name:
            raise HopFailed("BAD_ROUTE", f"step {header.step} is not for this node")
        now_us = self._agent.clock.now_us()
        header.spans.append(Span(node=self._name, step=header.step + 1, kind=LAYER, start_us=now_us))
        self._take(header, NORM, x)

    def _wait(self, header: Header, close: Whole, tensor: Tensor, wanted: Sequence[Share] | None) -> None:
        """With the others that `close` takes."""
        whole = self._gather.put(close, header, tensor, wanted)
        if whole is not None:
            self._take(whole.header, close, whole.x, whole.arrived, whole.size_bytes)

    def _take(
        self,
        header: Header,
        share: Share,
        x: Tensor,
        arrived: Mapping[str, Tensor] | None = None,
        charged_bytes: int | None = None,
    ) -> None:
        """Makes a job of it; `charged_bytes` of memory are taken for it already (None: none)."""
        block = layer_of(header).block
        piece = Piece(header.model, block, block + 1, str(share))
        with self._lock:
            loaded, life = self._shelf.parts.get(piece), self._shelf.life
            if loaded is not None and charged_bytes is None:
                self._memory.take(f"the input of {share} of request {header.request_id}", x.size_bytes)
            elif loaded is None and charged_bytes is not None:
                self._memory.give(charged_bytes)
        if loaded is None:
            raise HopFailed("UNKNOWN_SLICE", f"{piece} is not here")
        charged_bytes = x.size_bytes if charged_bytes is None else charged_bytes
        now_us = self._agent.clock.now_us()
        task = _Task(header, share, x, charged_bytes, now_us, life, loaded, arrived or {})
        pulls = self._admit(task, block)
        if pulls:
            threading.Thread(target=self._pull_first, args=(task, pulls), name="pull", daemon=True).start()
        else:
            self._submit(task)

    def _admit(self, task: _Task, block: int) -> Sequence[Rows]:
        """The keys and values that have to come first."""
        header = task.header
        if not task.heads or not header.session:
            return ()
        _, placed = layer_of(header).placed(task.share)
        try:
            return self._sessions.admit(header, block, block + 1, placed.kv_sources, task.heads)
        except (CacheLost, MemoryRefused) as error:
            self._give_back(task)
            code = "CACHE_LOST" if isinstance(error, CacheLost) else "OUT_OF_MEMORY"
            raise HopFailed(code, str(error)) from error

    def _pull_first(self, task: _Task, pulls: Sequence[Rows]) -> None:
        left_us = task.header.deadline_us - self._agent.clock.now_us()
        try:
            self._sessions.pull(pulls, max(left_us, 1) / 1e6, "switch")
        except CacheLost as lost:
            self._give_back(task)
            self._agent.fail(task.header, "CACHE_LOST", str(lost))
            return
        if task.life == self._shelf.life:
            task.arrival_us = self._agent.clock.now_us()
            self._submit(task)

    def _submit(self, task: _Task) -> None:
        header, layer = task.header, layer_of(task.header)
        split = self._agent.costs[header.model][layer.block].split
        assert split is not None  # it has been loaded
        tokens, before = task.x.shape[1], header.position if header.session else 0
        work = part_work(split, task.share, tokens, before, [share_named(name) for name in task.arrived])

        def done(start_us: int, end_us: int, late_us: int, output: Tensor | HopFailed) -> None:
            if late_us and work.flops:  # what counts nothing in the model is no yardstick
                self._record("overrun", end_us, node=self._name, request=header.request_id, late_us=late_us)
            self._done(task, start_us, end_us, output)

        piece = Piece(header.model, layer.block, layer.block + 1, str(task.share))
        batch = self._batch.get(header.model, 1)
        self._agent.device.submit(Job((work,), task.arrival_us, lambda: self._run(task), done, piece, batch))

    def _run(self, task: _Task) -> Tensor | HopFailed:
        header, block = task.header, layer_of(task.header).block
        if header.deadline_us and self._agent.clock.now_us() > header.deadline_us:
            return HopFailed("DEADLINE", "the request was given up before it could begin")
        try:
            if task.heads and header.session:
                attend = lambda kept: task.loaded.run(task.x, kept, {})  # noqa: E731
                return self._sessions.run(header, block, block + 1, attend, task.heads)
            return task.loaded.run(task.x, None, task.arrived)
        except BadTensor as error:
            return HopFailed("BAD_TENSOR", str(error))
        except CacheLost as error:
            return HopFailed("CACHE_LOST", str(error))

    def _done(self, task: _Task, start_us: int, end_us: int, output: Tensor | HopFailed) -> None:
        self._give_back(task)
        header = task.header
        if isinstance(output, HopFailed):
            self._agent.fail(header, output.code, str(output))
            return
        request, place = header.request_id, {"session": header.session, "position": header.position}
        block, part = layer_of(header).block, str(task.share)
        try:
            sent_bytes = self._send_on(task, output, end_us)
        except (HopFailed, MemoryRefused) as failure:
            code = failure.code if isinstance(failure, HopFailed) else "OUT_OF_MEMORY"
            self._agent.fail(header, code, str(failure))
            return
        except ShareError as error:
            self._agent.fail(header, "BAD_ROUTE", str(error))
            return
        times = {"queue_us": start_us - task.arrival_us, "compute_us": end_us - start_us}
        told = {"layer": block, "part": part, **times, "sent_bytes": sent_bytes}
        self._record("part", end_us, node=self._name, request=request, **place, **told)

    # --- what comes of it

    def _send_on(self, task: _Task, output: Tensor, end_us: int) -> int:
        """To all who need it; the bytes that travel within the layer."""
        header, share = task.header, task.share
        layer = layer_of(header)
        if share == NORM:
            sent_bytes = self._send_all(header, layer.close, output)
            address, sent = to_middle(header, layer.close)
            return sent_bytes + self._send(address, sent, task.x)
        if isinstance(share, Heads | Columns):
            return self._send(*back(header), output)
        if share in {PROJ, SUM}:
            if not layer.split.columns:
                return self._send(*to_end(header), output)
            self._take(header, MLP_NORM, output)
            return 0
        if share == MLP_NORM:
            self._wait(header, MLP_SUM, task.x, layer.shares(MLP_SUM))
            return self._send_all(header, MLP_SUM, output)
        self._end(header, end_us)
        self._agent.forward(header, output, end_us)
        return 0

    def _end(self, header: Header, end_us: int) -> None:
        """The layer's result is there."""
        passed(header)
        for span in header.spans:
            if span.kind == LAYER and not span.end_us:
                span.node, span.end_us = self._name, end_us

    def _send_all(self, header: Header, close: Whole, output: Tensor) -> int:
        return sum(self._send(address, sent, output) for address, sent in to_shares(header, close))

    def _send(self, address: str, header: Header, tensor: Tensor) -> int:
        header.sent_us = self._agent.clock.now_us()
        try:
            self._agent.outbox.send(address, header, tensor)
        except Busy as busy:
            self._agent.fail(header, "BUSY", str(busy))
            return 0
        return 0 if address == self._agent.outbox.address else tensor.size_bytes

    def _give_back(self, task: _Task) -> None:
        with self._lock:
            if task.life == self._shelf.life:
                self._memory.give(task.charged_bytes)


def _closing(share: Share) -> Whole:
    """Raises ShareError for what nothing gathers."""
    close = closing(share)
    if close is None:
        raise ShareError(f"{share}: nothing waits for it")
    return close
