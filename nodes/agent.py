"""The agent of a host: takes tensors in, runs its slices on the modelled device, passes the output on.

A request carries its whole route, so it ends on the epoch it began on whatever the controller switches meanwhile.
Every host runs an agent, a phone too: its answers come in by the same door, and it may hold the first slices itself.

Rules: what goes wrong at a hop goes straight to the phone by name (UNKNOWN_SLICE, OUT_OF_MEMORY, BAD_TENSOR,
PEER_LOST, BUSY, BAD_ROUTE, CACHE_LOST, DEADLINE); nothing is tried twice; a node that is down drops what arrives,
loses what it has and answers nothing; work whose request has already been given up is not begun.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from nodes.clock import Clock, Timer
from nodes.compute.device import Discipline, device_of
from nodes.compute.memory import Memory
from nodes.compute.processor import Speed
from nodes.hopfailure import HopFailed
from nodes.inlayer.frames import farewells
from nodes.inlayer.partwork import LAYER, PartWork
from nodes.intake import Intake, Task
from nodes.permit import Permit
from nodes.pieces import Piece
from nodes.proto.data_pb2 import Header, Held, Span, WeightsRequest
from nodes.session.replicas import Replicas
from nodes.session.sessions import Sessions
from nodes.shelf import Prepared, PrepareRefused, Shelf
from nodes.slices import BadTensor, Costs, Kept, Loader, Work, step_work
from nodes.wire import shipping
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.outbox import Outbox
from nodes.wire.quantise import Wish, restore
from nodes.wire.sealing import Sealing
from nodes.wire.transport import Busy

OPENER_ID = 2**63  # no request has it
OPEN_LIMIT_US = 1_000_000

Answer = Callable[[Header, Tensor | None], None]


class Record(Protocol):
    def __call__(self, kind: str, t_us: int, **fields: Any) -> None:
        """One line of the journal; may be called from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class HostSpec:
    name: str
    address: str  # "10.0.0.4:5000"
    flops_per_s: int
    memory_bytes: int
    memory_bytes_per_s: int = 0  # 0: not known, memory costs no time
    discipline: Discipline = "fifo"
    modelled: bool = True  # False: a slice takes the time that it takes


class Agent:
    """`answer` takes what is for the phone on this host; without it answers are dropped.

    `batch`: how many waiting requests of a model may run together, by model; one of those not named.
    """

    def __init__(
        self,
        spec: HostSpec,
        clock: Clock,
        timer: Timer,
        *,
        loader: Loader,
        costs: Costs,
        record: Record,
        batch: Mapping[str, int] | None = None,
        wire: Wish = "fp32",
        sealing: Sealing | None = None,
        permit: Permit | None = None,
    ) -> None:
        self.spec = spec
        self._permit = permit or Permit()
        self.answer: Answer | None = None
        self.clock = clock
        self.costs = costs
        self._record = record
        self._lock = threading.Lock()
        self._memory = Memory(spec.name, spec.memory_bytes)
        self._sessions = Sessions(spec.name, self._lock, self._memory, costs, loader, clock, timer, record, sealing)
        self._replicas = Replicas(self._sessions, clock, sealing)
        self._shelf = Shelf(spec.name, self._lock, self._memory, costs, loader, self._sessions, sealing)
        self._intake = Intake(
            spec.name, self, self._lock, self._memory, self._shelf, self._sessions, record, batch or {}
        )
        self._parts = PartWork(spec.name, self, self._intake, self._lock, self._memory, self._shelf, timer, record)
        self.served = 0
        self.refused = 0
        speed = Speed(spec.flops_per_s, spec.memory_bytes_per_s)
        self.device = device_of(spec.discipline, speed, clock, modelled=spec.modelled)
        self.outbox = Outbox(
            spec.address, clock, timer, self.enter, self._lost, receiver=self, wire=wire, sealing=sealing
        )

    def close(self) -> None:
        self._replicas.close()
        self._sessions.close()
        self.device.close()
        self.outbox.close()

    # --- data

    def deliver(self, header: Header, tensor: Tensor | None) -> bool:
        """From the network."""
        if not self._shelf.up:
            return False
        if header.spans and header.spans[-1].kind == "network" and header.spans[-1].end_us == 0:
            header.spans[-1].end_us = self.clock.now_us()
        try:
            whole = None if tensor is None else restore(tensor)
        except FrameError as error:
            return self.refuse(FrameError(error.why, header))
        return self.enter(header, whole)

    def refuse(self, error: FrameError) -> bool:
        """A bad tensor from the network."""
        if not self._shelf.up:
            return False
        if error.header is not None:
            self.fail(error.header, "BAD_TENSOR", error.why)
        return True

    def enter(self, header: Header, tensor: Tensor | None) -> bool:
        """From the network or from this host."""
        if header.request_id == OPENER_ID:
            return True  # it has opened the way, nothing more
        if header.ended and tensor is not None:
            self._end(header, tensor)
            return True
        if header.step == len(header.route) or tensor is None:
            if self.answer is not None:
                self.answer(header, tensor)
            return True
        try:
            if header.step < len(header.route) and header.route[header.step].parts:
                self._parts.enter(header, tensor)
            else:
                self._queue(header, tensor)
        except HopFailed as failure:
            self.fail(header, failure.code, str(failure))
        return True

    def fail(self, header: Header, code: str, why: str) -> None:
        """Tells the phone, once; an error that cannot reach it is not followed by another."""
        if header.error_code or not header.reply_to:
            return
        with self._lock:
            self.refused += 1
        error = Header(
            request_id=header.request_id,
            stream=header.stream,
            model=header.model,
            epoch=header.epoch,
            step=len(header.route),
            route=header.route,
            spans=[s for s in header.spans if s.end_us or s.kind not in {"network", LAYER}],  # what did arrive
            deadline_us=header.deadline_us,
            error=f"{self.spec.name}: {why}"[:1000],
            error_code=code,
        )
        self._send(header.reply_to, error, None)

    def _queue(self, header: Header, tensor: Tensor) -> None:
        if header.step > len(header.route) or header.route[header.step].node != self.spec.name:
            raise HopFailed("BAD_ROUTE", f"step {header.step} is not for this node")
        hop, arrival_us = header.route[header.step], self.clock.now_us()
        piece = Piece(header.model, hop.first, hop.last, hop.part)
        with self._lock:
            loaded, life = self._shelf.slices.get(piece), self._shelf.life
        if loaded is None:
            raise HopFailed("UNKNOWN_SLICE", f"{piece} is not here")
        charged_bytes = self._intake.take(f"the input of request {header.request_id}", tensor, life)

        def run(kept: Kept | None) -> Tensor:
            if kept is None:
                return loaded.run(tensor)
            if loaded.go_on is None:
                raise BadTensor(f"{header.model} generates nothing")
            return loaded.go_on(tensor, kept, header.position, header.tokens)

        def done(start_us: int, end_us: int, output: "Tensor | HopFailed") -> None:
            self._span(header, "queue", arrival_us, start_us)
            self._span(header, "compute", start_us, end_us)
            if isinstance(output, HopFailed):
                self.fail(header, output.code, str(output))
            else:
                self.forward(header, output, end_us)

        task = Task(header, piece, self._work(header, piece), arrival_us, charged_bytes, life, run, done)
        self._intake.put(task, hop.kv_sources)

    def _work(self, header: Header, piece: Piece) -> tuple[Work, ...]:
        costs = self.costs[header.model]
        if header.session:
            return step_work(costs, piece.first, piece.last, header.position, header.tokens)
        return tuple(block.work for block in costs[piece.first : piece.last])

    def _end(self, header: Header, tensor: Tensor) -> None:
        """A session is over: lets go of it, and tells the next hop."""
        self._sessions.end(header.session, header.life)
        for address, farewell in farewells(header) if header.step < len(header.route) else ():
            self._tell(address, farewell, tensor)
        header.step += 1
        if header.step < len(header.route):
            self.tell(header, tensor)

    def forward(self, header: Header, output: Tensor, end_us: int) -> None:
        """To the next hop, or to the phone."""
        self.served += 1
        header.step += 1
        last = header.step == len(header.route)
        self._span(header, "serialise", end_us, self.clock.now_us())
        self._send(header.reply_to if last else header.route[header.step].address, header, output)

    def _span(self, header: Header, kind: str, start_us: int, end_us: int) -> None:
        """Of this hop: the phone's sending is step 0, the first slice step 1."""
        step = header.step + (kind != "serialise")
        header.spans.append(Span(node=self.spec.name, step=step, kind=kind, start_us=start_us, end_us=end_us))

    def _send(self, address: str, header: Header, tensor: Tensor | None, step: int | None = None) -> None:
        """The receiver of a network span fills in its end. `step` is the sender's, where the header does not say it."""
        step = _sender_step(header, self.spec.name) if step is None else step
        carried = Span(node=self.spec.name, step=step, kind="network")
        if address != self.spec.address and tensor is not None:
            tensor, carried.relative_error = self.outbox.pack(address, header, tensor)
            carried.wire, carried.size_bytes = tensor.wire, tensor.size_bytes
        header.sent_us = carried.start_us = self.clock.now_us()
        if header.spans and header.spans[-1].kind == "serialise":
            header.spans[-1].end_us = header.sent_us
        if address != self.spec.address:
            header.spans.append(carried)
        try:
            self.outbox.send(address, header, tensor)
        except Busy as busy:
            self.fail(header, "BUSY", str(busy))

    def start(self, header: Header, tensor: Tensor) -> None:
        """The phone's own first sending."""
        self._send(header.route[header.step].address, header, tensor, step=0)

    def tell(self, header: Header, tensor: Tensor) -> None:
        """Sends what measures nothing, such as the end of a session; who is not told lets go of it by and by."""
        self._tell(header.route[header.step].address, header, tensor)

    def _tell(self, address: str, header: Header, tensor: Tensor) -> None:
        with suppress(Busy):
            self.outbox.send(address, header, tensor)

    def _lost(self, header: Header, why: str) -> None:
        if not self._shelf.up:
            return
        self.fail(header, "PEER_LOST", why)

    def turned_away(self, why: str) -> None:
        """A peer that showed a certificate which does not allow what it wanted."""
        self._record("refusal", self.clock.now_us(), node=self.spec.name, why=why)

    def weights(self, request: bytes) -> Iterator[bytes]:
        """Blocks of models, or what a session keeps of them; raises `Refused`."""
        asked = WeightsRequest.FromString(request)
        if asked.session or asked.catalogue:
            yield from shipping.ship(self._kept(asked))
        else:
            yield from self._shelf.ship(asked)

    def _kept(self, asked: WeightsRequest) -> Iterator[tuple[int, str, Tensor]]:
        self._shelf.check(asked)
        for row in self._sessions.ship(asked):
            self._shelf.check(asked)
            yield row

    # --- control

    def connect(self, address: str) -> None:
        """Opens the way to a peer, so that no request pays for the connection; returns when it is open."""
        if address != self.spec.address:
            self.outbox.open(address, opener(self.clock.now_us()), OPEN_LIMIT_US)

    def prepare(
        self, piece: tuple[Any, ...], source: str, deadline_s: float, kv_sources: Sequence[Held] = ()
    ) -> Prepared:
        """Holds a slice (nodes/shelf.py) that may be here; raises `PrepareRefused`."""
        asked = Piece(*piece)
        why = self._permit.objection(asked.model, asked.first, asked.last, self.clock.now_us())
        if why:
            raise PrepareRefused(f"{self.spec.name}: {why}")
        return self._shelf.prepare(asked, source, deadline_s, kv_sources)

    def release(self, piece: tuple[Any, ...]) -> None:
        """Work that has begun with the slice ends well. A slice that is not here is released already."""
        self._shelf.release(Piece(*piece))

    def follow(self, wanted: Sequence[tuple[str, Held]]) -> None:
        """Keeps up with what other nodes hold of sessions of a model, from now on of these alone, as far as it may."""
        now_us, may = self.clock.now_us(), list[tuple[str, Held]]()
        for model, held in wanted if self._shelf.up else ():
            why = self._permit.objection(model, held.first, held.last, now_us)
            if why:
                self.turned_away(f"{self.spec.name}: {why}")
            else:
                may.append((model, held))
        self._replicas.follow(may)

    def kept_at(self, source: Held, model: str, deadline_s: float) -> Mapping[tuple[str, int], int]:
        """(session, life) -> tokens, of the sessions of a model at another node; empty when it does not answer."""
        return self._sessions.kept_at(source, model, deadline_s)

    def set_up(self, up: bool) -> None:
        if not up:
            self._replicas.follow(())
        with self._lock:
            if self._shelf.up and not up:
                self._shelf.clear()
                self._sessions.clear()
                self._parts.clear()
                self._memory.clear()
                self.device.clear()
            self._shelf.up = up

    def state(self) -> tuple[bool, int, tuple[Piece, ...]]:
        """Up, modelled bytes used, slices."""
        with self._lock:
            return self._shelf.up, self._memory.used_bytes, (*self._shelf.slices, *self._shelf.parts)


def opener(now_us: int) -> Header:
    """A frame that belongs to no stream: it opens the way, is acked and forgotten."""
    return Header(request_id=OPENER_ID, deadline_us=now_us + OPEN_LIMIT_US)


def _sender_step(header: Header, name: str) -> int:
    """0 for the phone; an error comes from the first hop of the node that has not been passed."""
    if not header.error_code:
        return header.step
    return next((i + 1 for i, hop in enumerate(header.route) if hop.node == name), 0)
