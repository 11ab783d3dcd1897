"""One generation as the phone drives it: which round comes next, what an answer means, where the caches lie. Pure.

Rules: the phone alone knows the history, the input and all tokens so far; a round carries only what the caches lack.
A token that has come is never asked for again: a life that is lost is followed by one that takes the whole input, then
all tokens so far in one step, over the route of then; or, where others have stood by, it goes on from the tokens that
they all have, with the few that follow in one step. Caches follow a switch at a token's end: each hop, and
each part of a layer, is told who held its blocks or heads before.

    round = session.next(route, epoch);  session.took(round, token)  or  session.lost()  or  session.resume(tokens)
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from nodes.models.shares import Heads, share_of
from nodes.proto.data_pb2 import Held, Hop
from nodes.session.slots import within

Kv = Literal["copy", "prefill", "replica", "auto"]
LOST = frozenset({"PEER_LOST", "BUSY", "UNKNOWN_SLICE", "CACHE_LOST", "DEADLINE", "NO_ROUTE"})  # is begun anew


@dataclass(frozen=True, slots=True)
class Generate:
    """What a flow asks for: `tokens` of each session, fewer if `end` comes (which is the last then)."""

    tokens: int
    deadline_us: int  # of a whole session, from its arrival
    end: int | None = None
    enters: int = 0  # the block that takes the next tokens
    starts: int = 0  # tokens that the model begins a text with; 0: the input is the text
    kv: Kv = "copy"


@dataclass(frozen=True, slots=True)
class Round:
    """From the phone through the slices and back: one token."""

    life: int
    position: int
    given: tuple[int, ...]  # the tokens that go; (): the input goes
    count: int  # tokens that the caches hold more afterwards
    ordinal: int  # of the token that comes, from 0
    replay: bool
    epoch: int
    route: tuple[Hop, ...]
    resumed: bool = False  # some caches may have more tokens, and let them go

    def touches(self, nodes: Collection[str]) -> bool:
        return _touches(self.route, nodes)

    def first_step(self, enters: int) -> int:
        """The hop that it begins at: what has heard the input has no part in the next tokens."""
        if not self.given:
            return 0
        return next(i for i, hop in enumerate(self.route) if hop.last > enters)


class Session:
    """`prompt` is the length of the input in tokens."""

    def __init__(self, name: str, spec: Generate, prompt: int) -> None:
        self.name, self.spec, self.prompt = name, spec, prompt
        self.tokens: list[int] = []
        self.life = 0
        self.epoch = 0  # of the route along which the caches lie
        self.held: tuple[Hop, ...] = ()  # that route; (): there are none
        self._given = 0  # tokens that the caches have, beside the input's
        self._known = 0  # tokens that had come when this life began
        self._resumes = False  # the next round is the first after a loss, from what others have

    @property
    def finished(self) -> bool:
        return len(self.tokens) >= self.spec.tokens or (bool(self.tokens) and self.tokens[-1] == self.spec.end)

    @property
    def length(self) -> int:
        """Tokens that the caches hold."""
        return self.prompt + self._given if self.held else 0

    def next(self, route: Sequence[Hop], epoch: int) -> Round:
        """The round for the next token, or in a new life the one that brings the input back."""
        given = tuple(self.tokens[self._given :]) if self.held else ()
        there = (
            bool(self.held) and epoch == self.epoch and not self._resumes
        )  # an epoch has one route, and the caches lie along it
        return Round(
            life=self.life,
            position=self.length,
            given=given,
            count=len(given) or self.prompt,
            ordinal=len(self.tokens) if given or not self.life else 0,
            replay=self.life > 0 and self._given == 0 and not self._resumes and (not given or self._known > 0),
            epoch=epoch,
            route=tuple(route) if there else tuple(_with_sources(self.held, hop, self._resumes) for hop in route),
            resumed=self._resumes,
        )

    def took(self, done: Round, token: int) -> bool:
        """The round ended well; whether the token is a new one."""
        self.held, self.epoch, self._resumes = done.route, done.epoch, False
        self._given += len(done.given)
        new = bool(done.given) or not self.tokens
        if new:
            self.tokens.append(token)
        return new

    def lost(self) -> None:
        """The caches are gone, or not where they should be."""
        self.life += 1
        self.held, self._given, self._known, self._resumes = (), 0, len(self.tokens), False

    def standing_by(self, down: Collection[str], keeps: Callable[[Hop], bool]) -> list[Held]:
        """Who has stood by the nodes that are down, or by any if it is not known which failed; []: begin anew.

        `keeps`: whether a hop has anything that grows with the tokens.
        """
        if self._resumes or not self.tokens:
            return []
        holders = [holder for hop in self.held if keeps(hop) for holder in _holders(hop)]
        if lost := [replicas for node, replicas in holders if node in down]:
            return [held for replicas in lost for held in replicas] if all(lost) else []
        return [held for _, replicas in holders for held in replicas]

    def resume(self, tokens: int) -> bool:
        """Goes on from so many tokens, that all who stand by have; False: they are too few."""
        if tokens < self.prompt:
            return False
        self._given, self._resumes = tokens - self.prompt, True
        return True

    def moves(self, route: Sequence[Hop]) -> bool:
        """Whether keys and values would have to travel."""
        return any(True for hop in route for _ in transfers(self.held, hop))

    def lacking(self, route: Sequence[Hop]) -> Iterator[tuple[str, Held, bool]]:
        """What would travel, and to which address; whether the node there has stood by, and lacks the last token alone.

        After a loss it comes from who has stood by, if anybody has; whoever has lacks nothing then.
        """
        replicas = [held for hop in self.held for held in _replicas(hop)]
        for hop in route:
            for address, old in transfers(self.held, hop):
                standing = [one for one in replicas if covers(one, old)]
                if any(one.address == address for one in standing):
                    yield from [] if self._resumes else [(address, old, True)]
                elif self._resumes and standing:
                    yield (
                        address,
                        Held(address=standing[0].address, first=old.first, last=old.last, heads=old.heads),
                        False,
                    )
                else:
                    yield address, old, False

    @property
    def resuming(self) -> bool:
        """The next round is the first after a loss, and goes on from what others have."""
        return self._resumes

    def touches(self, nodes: Collection[str]) -> bool:
        return _touches(self.held, nodes)


def sources(held: Sequence[Hop], hop: Hop) -> list[Held]:
    """Who has caches of the blocks of a hop, other than its own node."""
    return _elsewhere(held, hop.address, hop)


def covers(one: Held, other: Held) -> bool:
    """Whether all blocks and heads of the other are among those of the one."""
    inside = one.first <= other.first and other.last <= one.last
    return inside and (not one.heads or (bool(other.heads) and set(other.heads) <= set(one.heads)))


def transfers(held: Sequence[Hop], hop: Hop) -> Iterator[tuple[str, Held]]:
    """What would travel, and to which address: to the hop, or to each node that has heads of it."""
    if not hop.parts:
        yield from ((hop.address, old) for old in sources(held, hop))
    for placed in hop.parts:
        yield from ((placed.address, old) for old in _elsewhere(held, placed.address, hop, heads_of(placed.part)))


@lru_cache(maxsize=4096)
def heads_of(part: str) -> tuple[int, ...]:
    """Whose keys and values a part of a layer needs; () of "", the whole."""
    share = share_of(part) if part else None
    return share.numbers if isinstance(share, Heads) else ()


def _elsewhere(held: Sequence[Hop], address: str, hop: Hop, heads: Sequence[int] | None = None) -> list[Held]:
    """Who, but for this address, has caches of the blocks of a hop, and of these heads (None: all)."""
    if heads is not None and not heads:
        return []
    return _among([one for old in held if old.part == hop.part for one in _kept(old)], address, hop, heads)


def _kept(hop: Hop) -> Iterator[Held]:
    """What of a session lies along a hop, and where."""
    if not hop.parts:
        yield Held(address=hop.address, first=hop.first, last=hop.last)
    for placed in hop.parts:
        if heads := heads_of(placed.part):
            yield Held(address=placed.address, first=hop.first, last=hop.last, heads=heads)


def _holders(hop: Hop) -> Iterator[tuple[str, Sequence[Held]]]:
    """Each node that keeps something along a hop, and who stands by it."""
    if not hop.parts:
        yield hop.node, hop.replicas
    yield from ((placed.node, placed.replicas) for placed in hop.parts if heads_of(placed.part))


def _replicas(hop: Hop) -> Iterator[Held]:
    return (held for _, replicas in _holders(hop) for held in replicas)


def witnesses(route: Sequence[Hop]) -> set[str]:
    """The addresses of all who stand by along a route."""
    return {held.address for hop in route for held in _replicas(hop)}


def _with_sources(held: Sequence[Hop], hop: Hop, resumed: bool) -> Hop:
    """Told who has what it may lack: whoever had it before; after a loss those first who have stood by."""
    told = Hop()
    told.CopyFrom(hop)
    behind = [one for old in held for one in _replicas(old)] if resumed else []
    del told.kv_sources[:]
    if not told.parts:
        told.kv_sources.extend([*_among(behind, told.address, hop), *sources(held, hop)])
    for placed in told.parts:
        del placed.kv_sources[:]
        heads = heads_of(placed.part)
        if heads:
            placed.kv_sources.extend(_among(behind, placed.address, hop, heads))
            placed.kv_sources.extend(_elsewhere(held, placed.address, hop, heads))
    return told


def _among(kept: Sequence[Held], address: str, hop: Hop, heads: Sequence[int] | None = None) -> list[Held]:
    """What of it, but at this address, belongs to the blocks of a hop and these heads (None: all)."""
    found = (within(one, hop.first, hop.last, heads) for one in kept if one.address != address)
    return [one for one in found if one is not None]


def _touches(route: Sequence[Hop], nodes: Collection[str]) -> bool:
    return any(hop.node in nodes or any(placed.node in nodes for placed in hop.parts) for hop in route)
