"""Which caches of which session a node holds, and how they come and go.

Rules: a round is computed only when every block of its slice holds exactly the tokens before it (CACHE_LOST); what is
missing is pulled from those who held the blocks before, if the route names them. Bytes are charged to the modelled
memory before they are there, and freed when the session ends, is idle, or no slice needs its blocks any more. A new
life of a session ends its older ones. A position alone (the embedding of words) is no cache: it is told.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nodes.clock import Alarm, Clock, Timer
from nodes.compute.memory import Memory
from nodes.proto.data_pb2 import Header, Held, WeightsRequest
from nodes.session.slots import WHOLE, Pull, Slot, plan, slots_of
from nodes.slices import BadTensor, Costs, Kept, Loader, rows_bytes
from nodes.wire import kvshipping
from nodes.wire.codec import Tensor
from nodes.wire.kvshipping import Entry, Rows
from nodes.wire.sealing import Sealing
from nodes.wire.shipping import ShippingError
from nodes.wire.transport import Refused

IDLE_US = 60_000_000
COPY_AHEAD_S = 2.0  # who does not answer in that time keeps a move from nothing
OF_HEAD = "/"  # "3/keys"

Heads = Collection[int] | None  # of a layer that is there in parts; None: all of it
Compute = Callable[[Kept], Tensor]


class CacheLost(Exception):
    """The caches are not what the round goes on from."""


@dataclass(slots=True, eq=False)
class _Kept:
    """Of one life of a session on this node."""

    model: str
    life: int
    kept: Kept
    used_us: int
    rows: dict[Slot, int] = field(default_factory=dict)  # of what -> tokens
    charged: dict[Slot, int] = field(default_factory=dict)  # of what -> bytes
    alarm: Alarm | None = None

    def has(self, slots: Sequence[Slot], tokens: int) -> bool:
        return all(self.rows.get(slot, 0) >= tokens for slot in slots)


class Sessions:
    """`lock` is the owner's, which guards the memory too; `record` writes a line of the journal."""

    def __init__(  # noqa: PLR0917 the parts of an agent
        self,
        node: str,
        lock: threading.Lock,
        memory: Memory,
        costs: Costs,
        loader: Loader,
        clock: Clock,
        timer: Timer,
        record: Any,
        sealing: Sealing | None = None,
        idle_us: int = IDLE_US,
    ) -> None:
        self._node, self._lock, self._memory, self._costs, self._loader = node, lock, memory, costs, loader
        self._clock, self._timer, self._record, self._idle_us = clock, timer, record, idle_us
        self._sealing = sealing
        self._held: dict[str, _Kept] = {}

    # --- rounds

    def admit(self, header: Header, first: int, last: int, sources: Sequence[Held], heads: Heads = None) -> list[Rows]:
        """What must be pulled before the round can run; its bytes are charged. Raises CacheLost, MemoryRefused."""
        name, position = header.session, header.position
        with self._lock:
            held = self._open(name, header.model, header.life)
            slots = self._slots(header.model, first, last, heads)
            have = {slot: held.rows.get(slot, 0) for slot in slots}
            wanted = {slot: tokens for slot, tokens in have.items() if tokens < position}
            pulls, missing = plan(wanted, sources, self._counts(header.model))
            if missing or any(tokens > position for tokens in have.values()):
                raise CacheLost(f"session {name} has {_text(have)} tokens here, not {position}")
            self._charge(name, held, dict.fromkeys(slots, position + header.tokens))
            return [_rows(name, header.model, header.life, pull, position) for pull in pulls]

    def run(self, header: Header, first: int, last: int, compute: Compute, heads: Heads = None) -> Tensor:
        """One round; raises CacheLost and BadTensor."""
        name, position = header.session, header.position
        with self._lock:
            held, slots = self._held.get(name), self._slots(header.model, first, last, heads)
            if held is None or held.life != header.life or any(held.rows.get(slot, 0) != position for slot in slots):
                raise CacheLost(f"session {name} has gone on or away")
        try:
            output = compute(held.kept)
        except BadTensor:
            self.end(name, header.life)
            raise
        with self._lock:
            held.rows.update(dict.fromkeys(slots, position + header.tokens))
        return output

    def pull(self, pulls: Sequence[Rows], deadline_s: float, phase: str) -> None:
        """Fetches rows behind those that are here; raises CacheLost when not all of them come."""
        _, missing = self._fetch(pulls, deadline_s, phase)
        if missing:
            raise CacheLost("; ".join(missing))

    def _fetch(self, pulls: Sequence[Rows], deadline_s: float, phase: str) -> tuple[int, list[str]]:
        """(bytes that came, why the rest did not)."""
        total, missing = 0, list[str]()
        for group in kvshipping.together(pulls):
            begun_us, found, why = self._clock.now_us(), dict[str, Any](), ""
            try:
                limit_bytes = sum(self._bytes(rows) for rows in group)
                found |= kvshipping.fetch(group, limit_bytes, deadline_s, self._sealing)
            except ShippingError as error:
                why = str(error)
            for rows in group:
                failed = why or self._append(rows, found.get(rows.session, {}))
                size_bytes = 0 if failed else self._bytes(rows)
                missing += [f"session {rows.session}: {failed}"] if failed else []
                total += size_bytes
                self._note(rows, size_bytes, begun_us, phase, failed)
        return total, missing

    def _bytes(self, rows: Rows) -> int:
        costs = self._costs[rows.model][rows.first : rows.last]
        return sum(rows_bytes(cost, rows.begin, rows.end, len(rows.heads)) for cost in costs)

    def end(self, name: str, life: int) -> None:
        """The session is over, or this life of it."""
        with self._lock:
            held = self._held.get(name)
            if held is not None and held.life <= life:
                self._drop(name)

    # --- moves

    def copy_ahead(self, model: str, sources: Sequence[Held]) -> int:
        """Pulls what live sessions have at the sources, so that a switch finds little missing: bytes.

        Raises MemoryRefused. A holder that does not give it is left alone: its sessions are begun anew.
        """
        total = 0
        for source in sources:
            if not self._slots(model, source.first, source.last):
                continue
            try:
                entries = kvshipping.catalogue(source, model, COPY_AHEAD_S, self._sealing)
            except ShippingError:
                continue
            pulls: list[Rows] = []
            for entry in entries:
                with suppress(CacheLost):  # it has begun anew meanwhile
                    pulls += self._behind(model, source, entry)
            total += self._fetch(pulls, COPY_AHEAD_S, "prepare")[0]
        return total

    def _behind(self, model: str, source: Held, entry: Entry) -> list[Rows]:
        """What is missing here of a session that is elsewhere; its bytes are charged."""
        with self._lock:
            held = self._open(entry.session, model, entry.life)
            have = {
                slot: held.rows.get(slot, 0) for slot in self._slots(model, source.first, source.last, source.heads)
            }
            wanted = {slot: tokens for slot, tokens in have.items() if tokens < entry.tokens}
            self._charge(entry.session, held, dict.fromkeys(wanted, entry.tokens))
        pulls, _ = plan(wanted, [source], self._counts(model))
        return [_rows(entry.session, model, entry.life, pull, entry.tokens) for pull in pulls]

    def ship(self, asked: WeightsRequest) -> Iterator[tuple[int, str, Tensor]]:
        """What another node asks for, less the sessions that are not here; raises Refused when none of them is."""
        with self._lock:
            slots = self._slots(asked.model, asked.first, asked.last, asked.heads)
            entries = list(self._entries(asked.model, slots)) if asked.catalogue else []
            wanted = [(rows, self._held.get(rows.session)) for rows in kvshipping.asked_rows(asked)]
            there = [(r, k.kept) for r, k in wanted if k and k.life == r.life and k.has(slots, r.end)]
        if asked.catalogue:
            yield from kvshipping.listed(asked.first, entries)
            return
        if not there:
            raise Refused(f"{self._node} has no {asked.end} tokens of session {asked.session}")
        for block, head in slots if asked.heads else dict.fromkeys((slot.block, WHOLE) for slot in slots):
            for rows, kept in there:
                for name, tensor in kept.rows(block, rows.begin, rows.end, head):
                    label = name if head == WHOLE else f"{head}{OF_HEAD}{name}"
                    yield block, kvshipping.labelled(rows.session, label), tensor

    # --- under the owner's lock

    def narrow(self, model: str, needed: Mapping[int, Collection[int] | None]) -> None:
        """Only these blocks of a model, and of each only these heads (None: all), are needed here from now on."""
        for name, held in list(self._held.items()):
            if held.model != model:
                continue
            for slot in [slot for slot in held.charged if not _among(needed, slot)]:
                held.rows.pop(slot, None)
                held.kept.drop(*slot)
                del held.charged[slot]
            if held.charged:
                self._memory.keep(name, sum(held.charged.values()))
            else:
                self._drop(name)

    def clear(self) -> None:
        """The node is down: the memory is cleared by its owner."""
        self._held.clear()

    def _open(self, name: str, model: str, life: int) -> _Kept:
        held = self._held.get(name)
        if held is not None and held.life > life:
            raise CacheLost(f"session {name} has begun anew")
        if held is None or held.life < life:
            self._drop(name)
            held = self._held[name] = _Kept(model, life, self._loader.keep(model), 0)
            self._watch(name, held, self._clock.now_us())
        held.used_us = self._clock.now_us()
        return held

    def _charge(self, name: str, held: _Kept, tokens: dict[Slot, int]) -> None:
        charged = dict(held.charged)
        for slot, count in tokens.items():
            size = rows_bytes(self._costs[held.model][slot.block], 0, count, heads=slot.head != WHOLE)
            charged[slot] = max(charged.get(slot, 0), size)
        self._memory.keep(name, sum(charged.values()))
        held.charged = charged

    def _drop(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None and held.alarm is not None:
            held.alarm.cancel()  # it would keep the caches
        self._memory.forget(name)

    def _slots(self, model: str, first: int, last: int, heads: Heads = None) -> list[Slot]:
        """What keeps something of each token, in the order of blocks."""
        costs, counts = self._costs[model], self._counts(model)
        growing = [b for b in range(first, last) if (step := costs[b].step) and step.kv_bytes_per_token]
        return [slot for block in growing for slot in slots_of(block, counts[block], heads or ())]

    def _counts(self, model: str) -> list[int]:
        """The heads of each block that could be apart."""
        return [cost.split.movable if cost.split else 0 for cost in self._costs[model]]

    def _entries(self, model: str, slots: Sequence[Slot]) -> Iterator[Entry]:
        for name, held in self._held.items():
            tokens = min((held.rows.get(slot, 0) for slot in slots), default=0)
            if held.model == model and tokens:
                yield Entry(name, held.life, tokens)

    # ---

    def _append(self, rows: Rows, blocks: Mapping[int, Mapping[str, Tensor]]) -> str:
        """Why it cannot be; "": it is done."""
        with self._lock:
            held, slots = self._held.get(rows.session), self._slots(rows.model, rows.first, rows.last, rows.heads)
            if held is None or held.life != rows.life or any(held.rows.get(slot, 0) != rows.begin for slot in slots):
                return "it has gone on or away here"
        if any(slot.block not in blocks for slot in slots):
            return f"{rows.address} has no {rows.end} tokens of it"
        for block, head in slots if rows.heads else dict.fromkeys((slot.block, WHOLE) for slot in slots):
            arrived = blocks[block] if head == WHOLE else _of_head(blocks[block], head)
            try:
                held.kept.put(block, arrived, head)
            except BadTensor as error:
                self.end(rows.session, rows.life)
                return str(error)
            with self._lock:
                held.rows.update(
                    (slot, rows.end) for slot in slots if slot.block == block and head in {WHOLE, slot.head}
                )
        return ""

    def _watch(self, name: str, held: _Kept, now_us: int) -> None:
        held.alarm = self._timer.at(now_us + self._idle_us, lambda: self._tire(name, held))

    def _tire(self, name: str, held: _Kept) -> None:
        """Nobody has used it for long: it is let go."""
        with self._lock:
            if self._held.get(name) is not held:
                return
            if self._clock.now_us() >= held.used_us + self._idle_us:
                self._drop(name)
            else:
                self._watch(name, held, held.used_us)

    def _note(self, rows: Rows, size_bytes: int, begun_us: int, phase: str, why: str) -> None:
        self._record(
            "kv",
            self._clock.now_us(),
            node=self._node,
            source=rows.address,
            session=rows.session,
            blocks=[rows.first, rows.last],
            heads=list(rows.heads),
            tokens=[rows.begin, rows.end],
            bytes=size_bytes,
            took_us=self._clock.now_us() - begun_us,
            phase=phase,
            why=why,
        )


def _rows(session: str, model: str, life: int, pull: Pull, end: int) -> Rows:
    return Rows(pull.address, session, model, life, pull.first, pull.last, pull.begin, end, pull.heads)


def _of_head(tensors: Mapping[str, Tensor], head: int) -> dict[str, Tensor]:
    before = f"{head}{OF_HEAD}"
    return {name.removeprefix(before): tensor for name, tensor in tensors.items() if name.startswith(before)}


def _among(needed: Mapping[int, Collection[int] | None], slot: Slot) -> bool:
    heads = needed.get(slot.block, ())
    return heads is None or slot.head in heads


def _text(have: dict[Slot, int]) -> str:
    return " or ".join(str(tokens) for tokens in sorted(set(have.values()))) or "no"
