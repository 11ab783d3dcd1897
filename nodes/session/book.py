"""Which sessions a node has caches of, and what memory they take. Its owner holds the lock whenever it calls.

Rules: bytes are charged to the modelled memory before they are there, and freed with what they are charged for. A new
life of a session ends its older ones. What nobody has used for long is let go. What only stands by for another node
(nodes/session/replicas.py) gives way to anything else that needs its memory, and is not taken again for a while.
"""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nodes.clock import Alarm, Clock, Timer
from nodes.compute.memory import Memory, MemoryRefused
from nodes.proto.data_pb2 import Held
from nodes.session.slots import WHOLE, Slot, has, slots_of
from nodes.slices import Costs, Kept, Loader, rows_bytes
from nodes.wire.kvshipping import Entry

IDLE_US = 60_000_000

Heads = Collection[int] | None  # of a layer that is there in parts; None: all of it


class CacheLost(Exception):
    """The caches are not what the round goes on from."""


@dataclass(slots=True, eq=False)
class Life:
    """Of one life of a session on this node."""

    model: str
    life: int
    kept: Kept
    used_us: int
    rows: dict[Slot, int] = field(default_factory=dict)  # of what -> tokens
    charged: dict[Slot, int] = field(default_factory=dict)  # of what -> bytes
    standby: set[Slot] = field(default_factory=set)  # what no round has used here
    writing: threading.Lock = field(default_factory=threading.Lock)  # of the rows; taken before the owner's lock
    alarm: Alarm | None = None

    def has(self, slots: Sequence[Slot], tokens: int) -> bool:
        return all(self.rows.get(slot, 0) >= tokens for slot in slots)


class Book:
    """`lock` is the owner's, which guards the memory too."""

    def __init__(  # noqa: PLR0917 the parts of an agent
        self,
        lock: threading.Lock,
        memory: Memory,
        costs: Costs,
        loader: Loader,
        clock: Clock,
        timer: Timer,
        idle_us: int,
    ) -> None:
        self._lock, self._memory, self._costs, self._loader = lock, memory, costs, loader
        self._clock, self._timer, self._idle_us = clock, timer, idle_us
        self.held: dict[str, Life] = {}
        self.follows: Sequence[tuple[str, Held]] = ()  # by model: what is kept when no slice needs it any more
        self._unwanted: dict[str, tuple[int, int]] = {}  # session -> life that is not to stand by, until when
        self._charging, self._modestly = "", False  # which session, and whether others are to be spared
        memory.give_way = self._give_way

    def narrow(self, model: str, needed: Mapping[int, Collection[int] | None]) -> None:
        """Only these blocks of a model, and of each only these heads (None: all), are needed here from now on."""
        for name, held in list(self.held.items()):
            if held.model != model:
                continue
            loose = [slot for slot in held.charged if not _among(needed, slot)]
            held.standby.update(slot for slot in loose if self._followed(model, slot))
            self._let_go(name, held, [slot for slot in loose if slot not in held.standby])

    def clear(self) -> None:
        """The node is down: the memory is cleared by its owner."""
        self.held.clear()
        self._unwanted.clear()

    def _let_go(self, name: str, held: Life, slots: Collection[Slot]) -> None:
        for slot in slots:
            held.rows.pop(slot, None)
            held.kept.drop(*slot)
            held.standby.discard(slot)
            held.charged.pop(slot, None)
        if held.charged:
            self._memory.keep(name, sum(held.charged.values()))
        elif name != self._charging:
            self.drop(name)

    def _give_way(self) -> bool:
        """Lets go of what has stood by for longest without news; False: nothing stands by."""
        waiting = [(held.used_us, name) for name, held in self.held.items() if held.standby & held.charged.keys()]
        waiting = [] if self._modestly else [(used_us, name) for used_us, name in waiting if name != self._charging]
        if waiting:
            name = min(waiting)[1]
            self.stand_down(name, self.held[name])
        return bool(waiting)

    def stand_down(self, name: str, held: Life) -> None:
        self.do_not_want(name, held.life, IDLE_US)
        self._let_go(name, held, list(held.standby))

    def do_not_want(self, name: str, life: int, for_us: int) -> None:
        self._unwanted[name] = life, self._clock.now_us() + for_us

    def _followed(self, model: str, slot: Slot) -> bool:
        return any(model == name and has(held, slot) for name, held in self.follows)

    def cut(self, held: Life, slots: Collection[Slot], tokens: int) -> None:
        """Of what has more than so many tokens the rest goes, and nothing of other heads; `writing` is held, too."""
        over = {slot for slot in slots if held.rows.get(slot, 0) > tokens}
        for block in {slot.block for slot in over}:
            mine = {slot for slot in over if slot.block == block}
            others = any(
                slot.block == block and count > tokens for slot, count in held.rows.items() if slot not in mine
            )
            for head in [slot.head for slot in mine] if others else [WHOLE]:
                held.kept.cut(block, tokens, head)
        held.rows.update(dict.fromkeys(over, tokens))

    def open(self, name: str, model: str, life: int) -> Life:
        held = self.held.get(name)
        if held is not None and held.life > life:
            raise CacheLost(f"session {name} has begun anew")
        if held is None or held.life < life:
            self.drop(name)
            held = self.held[name] = Life(model, life, self._loader.keep(model), 0)
            self._watch(name, held, self._clock.now_us())
        held.used_us = self._clock.now_us()
        return held

    def charge(self, name: str, held: Life, tokens: dict[Slot, int], *, modestly: bool = False) -> None:
        """Raises MemoryRefused. What stands by goes first, unless `modestly`; the session's own last."""
        self._charging, self._modestly = name, modestly
        try:
            try:
                self._keep(name, held, tokens)
            except MemoryRefused:
                own = held.standby - tokens.keys()
                if not own:
                    raise
                self._let_go(name, held, own)
                self._keep(name, held, tokens)
        finally:
            self._charging, self._modestly = "", False

    def _keep(self, name: str, held: Life, tokens: dict[Slot, int]) -> None:
        charged = dict(held.charged)
        for slot, count in tokens.items():
            size = rows_bytes(self._costs[held.model][slot.block], 0, count, heads=slot.head != WHOLE)
            charged[slot] = max(charged.get(slot, 0), size)
        self._memory.keep(name, sum(charged.values()))
        held.charged = charged

    def drop(self, name: str) -> None:
        held = self.held.pop(name, None)
        if held is not None and held.alarm is not None:
            held.alarm.cancel()  # it would keep the caches
        self._memory.forget(name)

    def slots(self, model: str, first: int, last: int, heads: Heads = None) -> list[Slot]:
        """What keeps something of each token, in the order of blocks."""
        costs, counts = self._costs[model], self.counts(model)
        growing = [b for b in range(first, last) if (step := costs[b].step) and step.kv_bytes_per_token]
        return [slot for block in growing for slot in slots_of(block, counts[block], heads or ())]

    def counts(self, model: str) -> list[int]:
        """The heads of each block that could be apart."""
        return [cost.split.movable if cost.split else 0 for cost in self._costs[model]]

    def entries(self, model: str, slots: Sequence[Slot]) -> Iterator[Entry]:
        for name, held in self.held.items():
            tokens = min((held.rows.get(slot, 0) for slot in slots), default=0)
            if held.model == model and tokens:
                yield Entry(name, held.life, tokens)

    def unwanted(self) -> dict[str, int]:
        """Session -> the life that is not to stand by."""
        now_us = self._clock.now_us()
        self._unwanted = {name: kept for name, kept in self._unwanted.items() if kept[1] > now_us}
        return {name: life for name, (life, _) in self._unwanted.items()}

    def _watch(self, name: str, held: Life, now_us: int) -> None:
        held.alarm = self._timer.at(now_us + self._idle_us, lambda: self._tire(name, held))

    def _tire(self, name: str, held: Life) -> None:
        """Nobody has used it for long: it is let go."""
        with self._lock:
            if self.held.get(name) is not held:
                return
            if self._clock.now_us() >= held.used_us + self._idle_us:
                self.drop(name)
            else:
                self._watch(name, held, held.used_us)


def _among(needed: Mapping[int, Collection[int] | None], slot: Slot) -> bool:
    heads = needed.get(slot.block, ())
    return heads is None or slot.head in heads
