"""The agent's work on layers by parts: each part a job of the modelled device, each output sent to where it is needed.

Where what goes is in `frames`, what waits for what in `gather`. What stays on a node does not travel.

Rules: as for slices: a part that is not here, and caches that are not what the round goes on from, go straight to the
phone by name; nothing is tried twice. What travels within a layer may have fewer bits, as between layers, partial sums
too: each is rounded once, and added up in float32. The layer is one span of the request, each part a `part` record of
the journal, with the error of each rounding.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nodes.clock import Clock, Timer
from nodes.compute.memory import Memory, MemoryRefused
from nodes.costing.partcost import part_work
from nodes.hopfailure import HopFailed
from nodes.inlayer.frames import Layer, back, layer_of, passed, to_end, to_middle, to_shares
from nodes.inlayer.gather import Gather, Gathered
from nodes.intake import Intake, Task
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
    share_of,
)
from nodes.pieces import Piece
from nodes.proto.data_pb2 import Header, Span
from nodes.shelf import Shelf
from nodes.slices import Costs, Work
from nodes.wire.codec import Tensor
from nodes.wire.outbox import Outbox
from nodes.wire.transport import Busy

LAYER = "layer"


class Around(Protocol):
    """The agent."""

    clock: Clock
    costs: Costs
    outbox: Outbox

    def fail(self, header: Header, code: str, why: str) -> None: ...

    def forward(self, header: Header, output: Tensor, end_us: int) -> None:
        """To the next hop, or to the phone."""
        ...


@dataclass(frozen=True, slots=True)
class _Sent:
    """A tensor that travels within the layer."""

    size_bytes: int
    wire: str  # "": as it was
    relative_error: float


class PartWork:
    """`lock` is the agent's, which guards memory and shelf."""

    def __init__(  # noqa: PLR0917 the parts of an agent
        self,
        name: str,
        agent: Around,
        intake: Intake,
        lock: threading.Lock,
        memory: Memory,
        shelf: Shelf,
        timer: Timer,
        record: Any,
    ) -> None:
        self._name, self._agent, self._intake, self._lock, self._memory = name, agent, intake, lock, memory
        self._shelf, self._record = shelf, record
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
            share = share_of(header.part)
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
            self._take(whole.header, close, whole.x, whole)

    def _take(self, header: Header, share: Share, x: Tensor, whole: Gathered | None = None) -> None:
        """Makes a job of it; `whole`: with what it adds up, all of which is charged already."""
        layer, given, taken_bytes = layer_of(header), whole.arrived if whole else {}, whole.size_bytes if whole else 0
        piece = Piece(header.model, layer.block, layer.block + 1, str(share))
        with self._lock:
            loaded, life = self._shelf.parts.get(piece), self._shelf.life
        if whole is not None and whole.life != life:
            return  # it went down with the node
        try:
            if loaded is None:
                raise HopFailed("UNKNOWN_SLICE", f"{piece} is not here")
            work = self._work(header, share, x, given)
            sources = layer.placed(share)[1].kv_sources if header.session and piece.heads else ()
            if whole is None:
                taken_bytes = self._intake.take(f"the input of {share} of request {header.request_id}", x, life)
        except (HopFailed, ShareError):
            self._intake.give_back(taken_bytes, life)
            raise
        task = Task(
            header,
            piece,
            (work,),
            self._agent.clock.now_us(),
            taken_bytes,
            life,
            lambda kept: loaded.run(x, kept, given),
            lambda start_us, end_us, output: self._done(task, share, x, (start_us, end_us), output),
        )
        self._intake.put(task, sources)

    def _work(self, header: Header, share: Share, x: Tensor, arrived: Mapping[str, Tensor]) -> Work:
        split = self._agent.costs[header.model][layer_of(header).block].split
        assert split is not None  # it has been loaded
        before = header.position if header.session else 0
        return part_work(split, share, x.shape[1], before, [share_of(name) for name in arrived])

    def _done(self, task: Task, share: Share, x: Tensor, turn_us: tuple[int, int], output: Tensor | HopFailed) -> None:
        header, (start_us, end_us) = task.header, turn_us
        if isinstance(output, HopFailed):
            self._agent.fail(header, output.code, str(output))
            return
        request, place = header.request_id, {"session": header.session, "position": header.position}
        try:
            sent = self._send_on(header, share, x, output, end_us)
        except (HopFailed, MemoryRefused) as failure:
            code = failure.code if isinstance(failure, HopFailed) else "OUT_OF_MEMORY"
            self._agent.fail(header, code, str(failure))
            return
        except ShareError as error:
            self._agent.fail(header, "BAD_ROUTE", str(error))
            return
        times = {"queue_us": start_us - task.ready_us, "compute_us": end_us - start_us}
        told = {"layer": task.piece.first, "part": task.piece.part, **times}
        told["sent_bytes"] = sum(one.size_bytes for one in sent)
        if rounded := [{"wire": one.wire, "relative_error": one.relative_error} for one in sent if one.wire]:
            told["rounded"] = rounded
        self._record("part", end_us, node=self._name, request=request, **place, **told)

    # --- what comes of it

    def _send_on(self, header: Header, share: Share, x: Tensor, output: Tensor, end_us: int) -> list[_Sent]:
        """What came of `x`, to all who need it; what of it travels within the layer."""
        layer = layer_of(header)
        if share == NORM:
            sent = self._send_all(header, layer.close, output)
            return sent + self._send(*to_middle(header, layer.close), x)
        if isinstance(share, Heads | Columns):
            return self._send(*back(header), output)
        if share in {PROJ, SUM}:
            if not layer.split.columns:
                return self._send(*to_end(header), output)
            self._take(header, MLP_NORM, output)
            return []
        if share == MLP_NORM:
            self._wait(header, MLP_SUM, x, layer.shares(MLP_SUM))
            return self._send_all(header, MLP_SUM, output)
        self._end(header, end_us)
        self._agent.forward(header, output, end_us)
        return []

    def _end(self, header: Header, end_us: int) -> None:
        """The layer's result is there."""
        passed(header)
        for span in header.spans:
            if span.kind == LAYER and not span.end_us:
                span.node, span.end_us = self._name, end_us

    def _send_all(self, header: Header, close: Whole, output: Tensor) -> list[_Sent]:
        return [one for address, sent in to_shares(header, close) for one in self._send(address, sent, output)]

    def _send(self, address: str, header: Header, tensor: Tensor) -> list[_Sent]:
        """Nothing, where it stays on the node: then it is not rounded either."""
        sent: list[_Sent] = []
        if address != self._agent.outbox.address:
            tensor, error = self._agent.outbox.pack(address, header, tensor)
            sent.append(_Sent(tensor.size_bytes, tensor.wire, error))
        header.sent_us = self._agent.clock.now_us()
        try:
            self._agent.outbox.send(address, header, tensor)
        except Busy as busy:
            self._agent.fail(header, "BUSY", str(busy))
            return []
        return sent


def _closing(share: Share) -> Whole:
    """Raises ShareError for what nothing gathers."""
    close = closing(share)
    if close is None:
        raise ShareError(f"{share}: nothing waits for it")
    return close
