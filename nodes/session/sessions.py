"""Which caches of which session a node holds, and how they come and go.

Rules: a round is computed only when every block of its slice holds exactly the tokens before it (CACHE_LOST); what is
missing is pulled from those who held the blocks before, if the route names them. Bytes are charged to the modelled
memory before they are there, and freed when the session ends, is idle, or no slice needs its blocks any more. A new
life of a session ends its older ones. A position alone (the embedding of words) is no cache: it is told. What is here
only to stand by for another node (nodes/session/replicas.py) gives way to anything else that needs its memory.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from nodes.clock import Clock, Timer
from nodes.compute.memory import Memory, MemoryRefused
from nodes.proto.data_pb2 import Header, Held, KeptRows, WeightsRequest
from nodes.session.book import IDLE_US, Book, CacheLost, Heads, Life
from nodes.session.slots import WHOLE, Pull, Slot, plan
from nodes.slices import BadTensor, Costs, Kept, Loader, rows_bytes
from nodes.wire import kvshipping
from nodes.wire.codec import Tensor
from nodes.wire.kvshipping import Entry, Rows
from nodes.wire.sealing import Sealing
from nodes.wire.shipping import ShippingError
from nodes.wire.transport import Refused

COPY_AHEAD_S = 2.0  # who does not answer in that time keeps a move from nothing
__all__ = ["CacheLost", "Sessions"]

OF_HEAD = "/"  # "3/keys"
NEVER = 2**32 - 1  # no session is so long
OVER_US = 5_000_000  # until when another node may not have heard that a session is over
NEWS_ENTRIES_BYTES = 1 << 20  # which sessions they are of
GONE = "it has gone on or away here"

Compute = Callable[[Kept], Tensor]


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
        self._node, self._lock, self._costs = node, lock, costs
        self._clock, self._record, self._sealing = clock, record, sealing
        self._book = Book(lock, memory, costs, loader, clock, timer, idle_us)
        self._changed = threading.Condition(lock)
        self._closed = False

    def close(self) -> None:
        """Nobody waits for news any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- rounds

    def admit(self, header: Header, first: int, last: int, sources: Sequence[Held], heads: Heads = None) -> list[Rows]:
        """What must be pulled before the round can run; its bytes are charged. Raises CacheLost, MemoryRefused."""
        name, position = header.session, header.position
        with self._lock:
            held = self._book.open(name, header.model, header.life)
            slots = self._book.slots(header.model, first, last, heads)
            have = {slot: held.rows.get(slot, 0) for slot in slots}
            wanted = {slot: tokens for slot, tokens in have.items() if tokens < position}
            pulls, missing = plan(wanted, sources, self._book.counts(header.model))
            if missing or (not header.resumed and any(tokens > position for tokens in have.values())):
                raise CacheLost(f"session {name} has {_text(have)} tokens here, not {position}")
            held.standby.difference_update(slots)
            self._book.charge(name, held, dict.fromkeys(slots, position + header.tokens))
            return [_rows(name, header.model, header.life, pull, position) for pull in pulls]

    def run(self, header: Header, first: int, last: int, compute: Compute, heads: Heads = None) -> Tensor:
        """One round; raises CacheLost and BadTensor."""
        name, position = header.session, header.position
        with self._lock:
            held, slots = self._book.held.get(name), self._book.slots(header.model, first, last, heads)
        if held is None:
            raise CacheLost(f"session {name} has gone away")
        with held.writing:
            with self._lock:
                if header.resumed:
                    self._book.cut(held, slots, position)
                same = self._book.held.get(name) is held and held.life == header.life
                if not same or any(held.rows.get(slot, 0) != position for slot in slots):
                    raise CacheLost(f"session {name} has gone on or away")
            try:
                output = compute(held.kept)
            except BadTensor:
                self.end(name, header.life)
                raise
            with self._changed:
                held.rows.update(dict.fromkeys(slots, position + header.tokens))
                self._changed.notify_all()
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
            held = self._book.held.get(name)
            if held is not None and held.life <= life:
                self._book.drop(name)
            self._book.do_not_want(name, life, OVER_US)

    # --- moves

    def copy_ahead(self, model: str, sources: Sequence[Held]) -> int:
        """Pulls what live sessions have at the sources, so that a switch finds little missing: bytes.

        Raises MemoryRefused. A holder that does not give it is left alone: its sessions are begun anew.
        """
        total = 0
        for source in sources:
            if not self._book.slots(model, source.first, source.last):
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
            held = self._book.open(entry.session, model, entry.life)
            have = {
                slot: held.rows.get(slot, 0)
                for slot in self._book.slots(model, source.first, source.last, source.heads)
            }
            wanted = {slot: tokens for slot, tokens in have.items() if tokens < entry.tokens}
            self._book.charge(entry.session, held, dict.fromkeys(wanted, entry.tokens))
        pulls, _ = plan(wanted, [source], self._book.counts(model))
        return [_rows(entry.session, model, entry.life, pull, entry.tokens) for pull in pulls]

    def ship(self, asked: WeightsRequest) -> Iterator[tuple[int, str, Tensor]]:
        """What another node asks for, less the sessions that are not here; raises Refused when none of them is."""
        if asked.news:
            yield from self._news(asked)
            return
        with self._lock:
            slots = self._book.slots(asked.model, asked.first, asked.last, asked.heads)
            entries = list(self._book.entries(asked.model, slots)) if asked.catalogue else []
            wanted = [(rows, self._book.held.get(rows.session)) for rows in kvshipping.asked_rows(asked)]
            there = [(r, k.kept) for r, k in wanted if k and k.life == r.life and k.has(slots, r.end)]
        if asked.catalogue:
            yield from kvshipping.listed(asked.first, entries)
            return
        if not there:
            raise Refused(f"{self._node} has no {asked.end} tokens of session {asked.session}")
        yield from _shipped(asked, slots, there)

    def _news(self, asked: WeightsRequest) -> Iterator[tuple[int, str, Tensor]]:
        """What is here behind the rows that the other node knows; waits a while until there is any."""
        known = {rows.session: rows for rows in asked.others}
        with self._changed:
            slots = self._book.slots(asked.model, asked.first, asked.last, asked.heads)
            self._changed.wait_for(lambda: self._closed or self._newer(asked, slots, known), kvshipping.NEWS_WAIT_S)
            if self._closed:
                raise Refused(f"{self._node} ends")
            there = self._newer(asked, slots, known)
        for rows, _ in there:
            yield asked.first, *kvshipping.told(rows)
        yield from _shipped(asked, slots, there)

    def _newer(
        self, asked: WeightsRequest, slots: Sequence[Slot], known: Mapping[str, KeptRows]
    ) -> list[tuple[KeptRows, Kept]]:
        """As many rows as go into one answer, of one session at least."""
        found, left_bytes = list[tuple[KeptRows, Kept]](), kvshipping.NEWS_MAX_BYTES
        costs = self._costs[asked.model]
        row_bytes = max(1, sum(rows_bytes(costs[slot.block], 1, 2, slot.head != WHOLE) for slot in slots))
        for entry in self._book.entries(asked.model, slots):
            have = known.get(entry.session)
            if have is not None and have.life > entry.life:
                continue
            begin = have.end if have is not None and have.life == entry.life else 0
            fixed_bytes = 0 if begin else sum(cost.kept_bytes for cost in costs[asked.first : asked.last])
            most = (left_bytes - (fixed_bytes if found else 0)) // row_bytes
            end = min(entry.tokens, begin + (most if found else max(1, most)))
            if begin < end:
                rows = KeptRows(session=entry.session, life=entry.life, begin=begin, end=end)
                found.append((rows, self._book.held[entry.session].kept))
                left_bytes -= (end - begin) * row_bytes + fixed_bytes
        return found

    def news_bytes(self, model: str, source: Held) -> int:
        """The most that one answer may have."""
        costs = self._costs[model][source.first : source.last]
        return kvshipping.NEWS_MAX_BYTES + sum(rows_bytes(cost, 0, 1) for cost in costs) + NEWS_ENTRIES_BYTES

    # --- standing by

    def stands_by(self, follows: Sequence[tuple[str, Held]]) -> None:
        """What is followed from now on: what a slice leaves behind of it stays."""
        with self._lock:
            self._book.follows = tuple(follows)

    def known(self, model: str, source: Held) -> list[KeptRows]:
        """What is here of the sessions of a model that a source may have: news of it are to begin behind."""
        with self._lock:
            slots = self._book.slots(model, source.first, source.last, source.heads)
            found = {name: (life, NEVER) for name, life in self._book.unwanted().items()}
            for name, held in self._book.held.items():
                if held.model != model or not slots or found.get(name, (-1, 0))[0] >= held.life:
                    continue
                served = any(slot in held.charged and slot not in held.standby for slot in slots)
                found[name] = held.life, NEVER if served else min(held.rows.get(slot, 0) for slot in slots)
            return [KeptRows(session=name, life=life, end=end) for name, (life, end) in found.items()]

    def take_news(self, rows: Rows, blocks: Mapping[int, Mapping[str, Tensor]], begun_us: int) -> bool:
        """Keeps rows that stand by; False: they are not wanted, or there is no room."""
        with self._lock:
            if self._book.unwanted().get(rows.session, -1) >= rows.life:
                return False
            slots = self._book.slots(rows.model, rows.first, rows.last, rows.heads)
            try:
                held = self._book.open(rows.session, rows.model, rows.life)
                if any(slot in held.charged and slot not in held.standby for slot in slots):
                    return False
                held.standby.update(slots)
                self._book.charge(rows.session, held, dict.fromkeys(slots, rows.end), modestly=True)
            except CacheLost:
                return False
            except MemoryRefused:
                self._book.stand_down(rows.session, held)
                return False
        failed = self._append(rows, blocks)
        self._note(rows, 0 if failed else self._bytes(rows), begun_us, "replica", failed)
        return not failed

    def kept_at(self, source: Held, model: str, deadline_s: float) -> Mapping[tuple[str, int], int]:
        """(session, life) -> tokens, of the sessions at another node; empty when it does not answer."""
        try:
            entries = kvshipping.catalogue(source, model, deadline_s, self._sealing)
        except ShippingError:
            return {}
        return {(entry.session, entry.life): entry.tokens for entry in entries}

    def narrow(self, model: str, needed: Mapping[int, Collection[int] | None]) -> None:
        """Only these blocks of a model, and of each only these heads (None: all), are needed here from now on."""
        self._book.narrow(model, needed)

    def clear(self) -> None:
        """The node is down: the memory is cleared by its owner. The lock is held, as for `narrow`."""
        self._book.clear()
        self._changed.notify_all()

    # --- rows that come

    def _append(self, rows: Rows, blocks: Mapping[int, Mapping[str, Tensor]]) -> str:
        """Why it cannot be; "": it is done, or they came by another way."""
        with self._lock:
            held, slots = (
                self._book.held.get(rows.session),
                self._book.slots(rows.model, rows.first, rows.last, rows.heads),
            )
        if held is None:
            return GONE
        with held.writing:
            with self._lock:
                if self._book.held.get(rows.session) is not held or held.life != rows.life:
                    return GONE
                short = {slot for slot in slots if held.rows.get(slot, 0) < rows.end}
                blocks_short = {slot.block for slot in short}
                slots = [slot for slot in slots if slot in short or (not rows.heads and slot.block in blocks_short)]
                if not slots:
                    return ""
                if any(held.rows.get(slot, 0) < rows.begin for slot in slots):
                    return GONE
                self._book.cut(held, slots, rows.begin)  # some came by another way
            if sum(tensor.size_bytes for b in blocks.values() for tensor in b.values()) != self._bytes(rows):
                return f"{rows.address} has no {rows.end} tokens of it"
            return self._put(held, rows, blocks, slots)

    def _put(self, held: Life, rows: Rows, blocks: Mapping[int, Mapping[str, Tensor]], slots: Sequence[Slot]) -> str:
        """The same, with `writing` held."""
        for block, head in slots if rows.heads else dict.fromkeys((slot.block, WHOLE) for slot in slots):
            arrived = blocks.get(block, {}) if head == WHOLE else _of_head(blocks.get(block, {}), head)
            try:
                held.kept.put(block, arrived, head)
            except BadTensor as error:
                self.end(rows.session, rows.life)
                return str(error)
            with self._lock:
                for slot in slots:
                    if slot.block == block and head in {WHOLE, slot.head}:
                        self._came(held, slot, rows.end)
        return ""

    def _came(self, held: Life, slot: Slot, tokens: int) -> None:
        if slot in held.charged:
            held.rows[slot] = tokens
        else:
            held.kept.drop(*slot)  # it was let go of while it came

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


def _shipped(
    asked: WeightsRequest, slots: Sequence[Slot], there: Sequence[tuple[KeptRows, Kept]]
) -> Iterator[tuple[int, str, Tensor]]:
    for block, head in slots if asked.heads else dict.fromkeys((slot.block, WHOLE) for slot in slots):
        for rows, kept in there:
            for name, tensor in kept.rows(block, rows.begin, rows.end, head):
                label = name if head == WHOLE else f"{head}{OF_HEAD}{name}"
                yield block, kvshipping.labelled(rows.session, label), tensor


def _rows(session: str, model: str, life: int, pull: Pull, end: int) -> Rows:
    return Rows(pull.address, session, model, life, pull.first, pull.last, pull.begin, end, pull.heads)


def _of_head(tensors: Mapping[str, Tensor], head: int) -> dict[str, Tensor]:
    before = f"{head}{OF_HEAD}"
    return {name.removeprefix(before): tensor for name, tensor in tensors.items() if name.startswith(before)}


def _text(have: dict[Slot, int]) -> str:
    return " or ".join(str(tokens) for tokens in sorted(set(have.values()))) or "no"
