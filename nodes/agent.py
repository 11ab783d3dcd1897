"""The agent of a host: takes tensors in, runs its slices on the modelled device, passes the output on.

A request carries its whole route, so it ends on the epoch it began on whatever the controller switches meanwhile.
Every host runs an agent, a phone too: its answers come in by the same door, and it may hold the first slices itself.

Rules: what goes wrong at a hop goes straight to the phone by name (UNKNOWN_SLICE, OUT_OF_MEMORY, BAD_TENSOR,
PEER_LOST, BAD_ROUTE, DEADLINE); nothing is tried twice; a node that is down drops what arrives, loses what it has
and answers nothing; work whose request has already been given up is not begun.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from nodes import shipping
from nodes.clock import Clock, Timer
from nodes.codec import FrameError, Tensor
from nodes.device import Device, Job, Memory, MemoryRefused
from nodes.outbox import Outbox
from nodes.proto.data_pb2 import Header, Span, WeightsRequest
from nodes.slices import BadTensor, Costs, Loaded, Loader, LoadError
from nodes.transport import Refused

FETCH_DEADLINE_S = 60.0
OPENER_ID = 2**63  # no request has it
OPEN_LIMIT_US = 1_000_000

Piece = tuple[str, int, int]  # model, first, last
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


@dataclass(frozen=True, slots=True)
class Prepared:
    bytes_moved: int
    digest: str


class PrepareRefused(Exception):
    """Names the limit or the fault."""


class Agent:
    """`answer` takes what is for the phone on this host; without it answers are dropped."""

    def __init__(
        self, spec: HostSpec, clock: Clock, timer: Timer, *, loader: Loader, costs: Costs, record: Record
    ) -> None:
        self.spec = spec
        self.answer: Answer | None = None
        self.clock = clock
        self._loader = loader
        self._costs = costs
        self._record = record
        self._lock = threading.Lock()
        self._memory = Memory(spec.name, spec.memory_bytes)
        self._slices: dict[Piece, Loaded] = {}
        self._received: dict[tuple[str, int], Any] = {}  # blocks that came over the network
        self._preparing = threading.Lock()  # one at a time, so that the same slice is fetched once
        self._up = True
        self._life = 0
        self.served = 0
        self.refused = 0
        self.device = Device(spec.flops_per_s, clock)
        self.outbox = Outbox(spec.address, clock, timer, self.enter, self._lost)

    def close(self) -> None:
        self.device.close()
        self.outbox.close()

    # --- data

    def deliver(self, header: Header, tensor: Tensor | None) -> bool:
        """From the network."""
        if not self._up:
            return False
        if header.spans and header.spans[-1].kind == "network" and header.spans[-1].end_us == 0:
            header.spans[-1].end_us = self.clock.now_us()
        return self.enter(header, tensor)

    def refuse(self, error: FrameError) -> bool:
        """A bad tensor from the network."""
        if not self._up:
            return False
        if error.header is not None:
            self.fail(error.header, "BAD_TENSOR", error.why)
        return True

    def enter(self, header: Header, tensor: Tensor | None) -> bool:
        """From the network or from this host."""
        if header.request_id == OPENER_ID:
            return True  # it has opened the way, nothing more
        if header.step == len(header.route) or tensor is None:
            if self.answer is not None:
                self.answer(header, tensor)
            return True
        try:
            self._queue(header, tensor)
        except _HopFailed as failure:
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
            spans=[span for span in header.spans if span.end_us or span.kind != "network"],  # what did arrive
            deadline_us=header.deadline_us,
            error=f"{self.spec.name}: {why}"[:1000],
            error_code=code,
        )
        self._send(header.reply_to, error, None)

    def _queue(self, header: Header, tensor: Tensor) -> None:
        if header.step > len(header.route) or header.route[header.step].node != self.spec.name:
            raise _HopFailed("BAD_ROUTE", f"step {header.step} is not for this node")
        hop, arrival_us = header.route[header.step], self.clock.now_us()
        piece = (header.model, hop.first, hop.last)
        with self._lock:
            loaded, life = self._slices.get(piece), self._life
            if loaded is None:
                raise _HopFailed("UNKNOWN_SLICE", f"{_text(piece)} is not here")
            try:
                self._memory.take(f"the input of request {header.request_id}", tensor.size_bytes)
            except MemoryRefused as refusal:
                raise _HopFailed("OUT_OF_MEMORY", str(refusal)) from refusal
        flops = sum(block.flops for block in self._costs[header.model][hop.first : hop.last])

        def run() -> "Tensor | _HopFailed":
            if header.deadline_us and self.clock.now_us() > header.deadline_us:
                return _HopFailed("DEADLINE", "the request was given up before it could begin")
            try:
                return loaded.run(tensor)
            except BadTensor as error:
                return _HopFailed("BAD_TENSOR", str(error))

        def done(start_us: int, end_us: int, late_us: int, output: "Tensor | _HopFailed") -> None:
            self._served(life, tensor.size_bytes)
            self._span(header, "queue", arrival_us, start_us)
            self._span(header, "compute", start_us, end_us)
            if late_us:
                self._record("overrun", end_us, node=self.spec.name, request=header.request_id, late_us=late_us)
            self._forward(header, output, end_us)

        self.device.submit(Job(flops, arrival_us, run, done))

    def _served(self, life: int, size_bytes: int) -> None:
        with self._lock:
            if life == self._life:
                self._memory.give(size_bytes)

    def _forward(self, header: Header, output: "Tensor | _HopFailed", end_us: int) -> None:
        if isinstance(output, _HopFailed):
            self.fail(header, output.code, str(output))
            return
        self.served += 1
        header.step += 1
        last = header.step == len(header.route)
        self._span(header, "serialise", end_us, self.clock.now_us())
        self._send(header.reply_to if last else header.route[header.step].address, header, output)

    def _span(self, header: Header, kind: str, start_us: int, end_us: int) -> None:
        """Of this hop: the phone's sending is step 0, the first slice step 1."""
        step = header.step + (kind != "serialise")
        header.spans.append(Span(node=self.spec.name, step=step, kind=kind, start_us=start_us, end_us=end_us))

    def _send(self, address: str, header: Header, tensor: Tensor | None) -> None:
        """The receiver of a network span fills in its end."""
        header.sent_us = self.clock.now_us()
        if address != self.spec.address:
            size_bytes = 0 if tensor is None else tensor.size_bytes
            step = _sender_step(header, self.spec.name)
            header.spans.append(
                Span(node=self.spec.name, step=step, kind="network", start_us=header.sent_us, size_bytes=size_bytes)
            )
        self.outbox.send(address, header, tensor)

    def start(self, header: Header, tensor: Tensor) -> None:
        """The phone's own first sending."""
        self._send(header.route[0].address, header, tensor)

    def _lost(self, header: Header, why: str) -> None:
        if not self._up:
            return
        self.fail(header, "PEER_LOST", why)

    def weights(self, request: bytes) -> Iterator[bytes]:
        """Any block that this node can read, held or not: a server is a model repository too."""
        asked = WeightsRequest.FromString(request)
        if not self._up:
            raise Refused(f"{self.spec.name} is down")
        if asked.model not in self._costs or not asked.first < asked.last <= len(self._costs[asked.model]):
            raise Refused(f"{self.spec.name} has no {_text((asked.model, asked.first, asked.last))}")
        try:
            yield from shipping.ship(self._stock(asked.model, asked.first, asked.last))
        except LoadError as error:
            raise Refused(f"{self.spec.name}: {error}") from error

    def _stock(self, model: str, first: int, last: int) -> Iterator[tuple[int, str, Tensor]]:
        for block in range(first, last):
            received = self._received.get((model, block))
            for name, tensor in received.items() if received else self._loader.weights(model, block):
                if not self._up:
                    raise Refused(f"{self.spec.name} went down")
                yield block, name, tensor

    # --- control

    def connect(self, address: str) -> None:
        """Opens the way to a peer, so that no request pays for the connection; returns when it is open."""
        if address != self.spec.address:
            self.outbox.open(address, opener(self.clock.now_us()), OPEN_LIMIT_US)

    def prepare(self, piece: Piece, source: str, deadline_s: float) -> Prepared:
        """Holds a slice, with weights from the agent at `source` ("": they lie here); raises `PrepareRefused`.

        Doing it again does nothing. Only blocks that are not here yet travel.
        """
        with self._preparing:
            with self._lock:
                held, life = self._slices.get(piece), self._life
                if not self._up:
                    raise PrepareRefused(f"{self.spec.name} is down")
                if held is not None:
                    return Prepared(0, held.digest)
                self._hold(piece)
            try:
                loaded, moved_bytes, blocks = self._load(piece, source, deadline_s)
            except (shipping.ShippingError, LoadError) as error:
                with self._lock:
                    if life == self._life:
                        self._memory.drop(piece)
                raise PrepareRefused(f"{self.spec.name}: {error}") from error
            with self._lock:
                if life != self._life:
                    raise PrepareRefused(f"{self.spec.name} went down")
                self._received.update(blocks)
                self._slices[piece] = loaded
            return Prepared(moved_bytes, loaded.digest)

    def _hold(self, piece: Piece) -> None:
        model, first, last = piece
        if model not in self._costs or not 0 <= first < last <= len(self._costs[model]):
            raise PrepareRefused(f"{self.spec.name} knows no {_text(piece)}")
        costs = self._costs[model][first:last]
        weight_bytes = {first + i: cost.weight_bytes for i, cost in enumerate(costs)}
        try:
            self._memory.hold(piece, weight_bytes, max(cost.working_bytes for cost in costs))
        except MemoryRefused as refusal:
            raise PrepareRefused(str(refusal)) from refusal

    def _load(self, piece: Piece, source: str, deadline_s: float) -> tuple[Loaded, int, dict[tuple[str, int], Any]]:
        model, first, last = piece
        if not source:
            return self._loader.load(model, first, last, None), 0, {}
        blocks = {(model, block): self._here(model, block) for block in range(first, last)}
        moved_bytes = 0
        for a, b in _runs([block for block in range(first, last) if blocks[model, block] is None]):
            limit_bytes = sum(cost.weight_bytes for cost in self._costs[model][a:b])
            request = WeightsRequest(model=model, first=a, last=b)
            fetched, size_bytes = shipping.fetch(
                source, request, limit_bytes=limit_bytes, deadline_s=deadline_s or FETCH_DEADLINE_S
            )
            blocks.update({(model, block): tensors for block, tensors in fetched.items()})
            moved_bytes += size_bytes
        received = {block: blocks[model, block] for block in range(first, last)}
        return self._loader.load(model, first, last, received), moved_bytes, blocks

    def _here(self, model: str, block: int) -> Any:
        """The tensors of a block that some slice on this node holds already."""
        if (tensors := self._received.get((model, block))) is not None:
            return tensors
        if any(m == model and first <= block < last for m, first, last in self._slices):
            return dict(self._loader.weights(model, block))
        return None

    def release(self, piece: Piece) -> None:
        """Work that has begun with the slice ends well. A slice that is not here is released already."""
        with self._lock:
            if self._slices.pop(piece, None) is None:
                return
            self._memory.drop(piece)
            needed = {(m, block) for m, first, last in self._slices for block in range(first, last)}
            self._received = {key: tensors for key, tensors in self._received.items() if key in needed}

    def set_up(self, up: bool) -> None:
        with self._lock:
            if self._up and not up:
                self._life += 1
                self._slices.clear()
                self._received = {}
                self._memory.clear()
                self.device.clear()
            self._up = up

    def state(self) -> tuple[bool, int, tuple[Piece, ...]]:
        """Up, modelled bytes used, slices."""
        with self._lock:
            return self._up, self._memory.used_bytes, tuple(self._slices)


def opener(now_us: int) -> Header:
    """A frame that belongs to no stream: it opens the way, is acked and forgotten."""
    return Header(request_id=OPENER_ID, deadline_us=now_us + OPEN_LIMIT_US)


class _HopFailed(Exception):
    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


def _text(piece: Piece) -> str:
    return f"{piece[0]}[{piece[1]}:{piece[2]}]"


def _sender_step(header: Header, name: str) -> int:
    """0 for the phone; an error comes from the first hop of the node that has not been passed."""
    if not header.error_code:
        return header.step
    return next((i + 1 for i, hop in enumerate(header.route) if hop.node == name), 0)


def _runs(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together: [1, 2, 5] is (1, 3) and (5, 6)."""
    for i, block in enumerate(blocks):
        if i == 0 or blocks[i - 1] != block - 1:
            end = i
            while end + 1 < len(blocks) and blocks[end + 1] == blocks[end] + 1:
                end += 1
            yield block, blocks[end] + 1
