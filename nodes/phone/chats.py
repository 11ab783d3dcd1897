"""The sessions of a phone: what each sends next, when it tries again, how it ends.

Rules: a session sends its next round when the one before has ended; a round that is lost is followed by a new life of
the session, at once when there is another route, else when there is one, and once a second until the session's
deadline. Where others have stood by, they are asked first how much they have, and the session goes on from there. What
a session is, and which round is next, is in `generation`.
"""

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nodes.agent import Record
from nodes.clock import Alarm, Clock, Timer
from nodes.compute.processor import Speed
from nodes.costing.kvcost import ENDLESS, Reach, Stop, Transfer, copy_us, rounds_us
from nodes.phone.generation import LOST, Generate, Round, Session, witnesses
from nodes.phone.streams import Samples, StreamSpec
from nodes.proto.data_pb2 import Header, Held, Hop
from nodes.slices import Costs
from nodes.wire.codec import Tensor

RETRY_US = 1_000_000  # between two tries of a session over the same route
ASK_S = 0.3  # who stands by and does not answer in that time is not waited for
TOKEN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Known:
    """What the controller has told of the network: speeds by node, ways by two addresses."""

    speeds: Mapping[str, Speed] = field(default_factory=dict)
    reaches: Mapping[tuple[str, str], Reach] = field(default_factory=dict)
    copied_us: int = 0  # when keys and values were copied ahead to all who lack them; 0: they were not


class Ended(Protocol):
    def __call__(self, error: str, done_us: int, tensor: Tensor | None) -> None:
        """A round has ended, "" well."""
        ...


class Sender(Protocol):
    """The phone that rounds go out from."""

    def epoch(self) -> int: ...

    def take_route(self, stream: str) -> tuple[tuple[Hop, ...], int]:
        """The one of now and its epoch, for a request that follows."""
        ...

    def give_back(self, epoch: int) -> None:
        """No request follows."""
        ...

    def new_id(self) -> int: ...

    def request(  # noqa: PLR0917 a request and what is to be said of it
        self, header: Header, tensor: Tensor, sent_us: int, expected: Tensor | None, more: dict[str, Any], ended: Ended
    ) -> None:
        """Sends and measures; `more` goes into its record."""
        ...

    def give_up(self, id: int, error: str) -> None: ...

    def tell(self, header: Header, tensor: Tensor) -> None:
        """Sends without an answer."""
        ...

    def kept_at(self, source: Held, model: str, deadline_s: float) -> Mapping[tuple[str, int], int]:
        """(session, life) -> tokens, of the sessions at another node; empty when it does not answer."""
        ...


@dataclass(slots=True, eq=False)
class _Chat:
    """A session and what is measured of it."""

    session: Session
    stream: StreamSpec
    spec: Generate
    input: int
    begun_us: int
    came_us: list[int] = field(default_factory=list)  # of each token
    replays: int = 0
    resumes: int = 0
    broken: bool = False  # those who have stood by are to be asked
    last: Round | None = None
    pending: int | None = None  # the request that is on its way
    waiting: Alarm | None = None  # for a route or a second
    alarm: Alarm | None = None  # its deadline


class Chats:
    """`address` is the phone's, `costs` are of the models."""

    def __init__(  # noqa: PLR0917 the parts of a phone
        self,
        sender: Sender,
        address: str,
        costs: Costs,
        samples: Mapping[str, Samples],
        clock: Clock,
        timer: Timer,
        record: Record,
    ) -> None:
        self._sender, self._samples, self._clock, self._timer, self._record = sender, samples, clock, timer, record
        self._address, self._costs, self._known = address, costs, Known()
        self._down: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._chats: dict[str, _Chat] = {}  # not yet over
        self._closed = False

    def begin(self, stream: StreamSpec, spec: Generate, k: int, arrival_us: int) -> None:
        """Arrival `k` of a stream."""
        inputs = self._samples[stream.model].inputs
        prompt = spec.starts or inputs[k % len(inputs)].shape[1]
        session = Session(f"{stream.name}/{k}", spec, prompt)
        chat = _Chat(session, stream, spec, k % len(inputs), arrival_us)
        with self._lock:
            self._chats[session.name] = chat
        chat.alarm = self._timer.at(arrival_us + spec.deadline_us, lambda: self._over(chat, "DEADLINE"))
        self._go_on(chat, arrival_us)

    def in_flight(self) -> tuple[Counter[int], bool]:
        """Sessions by the epoch of the route along which their caches lie; whether none is left."""
        with self._lock:
            held = Counter(chat.session.epoch for chat in self._chats.values() if chat.session.held)
            return held, not self._chats

    def switched(self, lost: Collection[str], known: Known) -> None:
        """There are new routes. `lost`: nodes that are down; what is on its way over them is given up."""
        with self._lock:
            self._known, self._down = known, frozenset(lost)
            chats = list(self._chats.values())
            over = [chat.pending for chat in chats if chat.last and chat.last.touches(lost)]
            waiting = [chat for chat in chats if chat.waiting]
        for id in over:
            if id is not None:
                self._sender.give_up(id, "PEER_LOST")
        for chat in waiting:
            self._wake(chat)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            chats = list(self._chats.values())
        for chat in chats:
            self._over(chat, "UNFINISHED")

    def _go_on(self, chat: _Chat, due_us: int | None = None) -> None:
        """Sends the next round, over the route of now."""
        session, samples = chat.session, self._samples[chat.stream.model]
        with self._lock:
            if self._closed or session.name not in self._chats:
                return
            if chat.broken:
                threading.Thread(target=self._resume, args=(chat,), name="resume", daemon=True).start()
                return
            route, epoch = self._sender.take_route(chat.stream.name)
            if not route:
                self._sender.give_back(epoch)
                self._wait(chat)
                return
            if self._begins_anew(chat, route, epoch):
                session.lost()
            now = chat.last = session.next(route, epoch)
            chat.pending = self._sender.new_id()
            chat.replays += now.replay and not now.position
            chat.resumes += now.resumed
        sent_us = self._clock.now_us() if due_us is None else due_us
        header = _header(chat, now, chat.pending)
        header.step = now.first_step(chat.spec.enters)
        header.deadline_us = min(sent_us + chat.stream.deadline_us, chat.begun_us + chat.spec.deadline_us)
        tensor = tokens(now.given) if now.given else samples.inputs[chat.input]
        known = samples.tokens.get(chat.input, ())[now.ordinal : now.ordinal + 1]
        place = {"life": now.life, "position": now.position, "token": now.ordinal, "replay": now.replay}
        place |= {"resumed": True} if now.resumed else {}

        def ended(error: str, done_us: int, tensor: Tensor | None) -> None:
            self._follow(chat, now, error, done_us, tensor)

        more = {"session": session.name, **place}
        self._sender.request(header, tensor, sent_us, tokens(known) if known else None, more, ended)

    def _begins_anew(self, chat: _Chat, route: Sequence[Hop], epoch: int) -> bool:
        """Whether keys and values that would have to travel are computed again instead."""
        session = chat.session
        if chat.spec.kv in {"copy", "replica"} or not session.moves(route):
            return False
        return chat.spec.kv == "prefill" or self._cheaper_anew(chat, route, epoch)

    def _cheaper_anew(self, chat: _Chat, route: Sequence[Hop], epoch: int) -> bool:
        """What is reckoned to take longer until the next token; the choice is recorded."""
        session, known, costs = chat.session, self._known, self._costs[chat.stream.model]
        copies = [
            Transfer(old.address, address, old.first, old.last, len(old.heads), stood_by)
            for address, old, stood_by in session.lacking(route)
        ]
        replica = session.resuming or any(copy.stood_by for copy in copies)
        stops = [Stop(hop.address, hop.first, hop.last) for hop in route]
        speeds = {hop.address: known.speeds[hop.node] for hop in route if hop.node in known.speeds}
        length, said = session.length, len(session.tokens)
        before = sum(t_us <= known.copied_us for t_us in chat.came_us) if known.copied_us else 0
        begin = session.prompt + before - 1 if before and not session.resuming else 0

        def takes_us(*rounds: tuple[int, int]) -> float:
            return rounds_us(costs, rounds, self._address, stops, speeds, known.reaches)

        next_us = takes_us((length, 1))
        go_on_us = copy_us(costs, begin, length, copies, known.reaches) + next_us
        alone = [replace(copy, stood_by=False) for copy in copies]
        copy_alone_us = ENDLESS if session.resuming else copy_us(costs, begin, length, alone, known.reaches) + next_us
        again_us = takes_us((0, session.prompt), (session.prompt, said))
        self._record(
            "kv_choice",
            self._clock.now_us(),
            session=session.name,
            epoch=epoch,
            choice="prefill" if again_us < go_on_us else "replica" if replica else "copy",
            tokens=[begin, length],
            copy_us=_known_us(copy_alone_us),
            replica_us=_known_us(go_on_us if replica else ENDLESS),
            prefill_us=_known_us(again_us),
        )
        return again_us < go_on_us

    def _follow(self, chat: _Chat, done: Round, error: str, done_us: int, tensor: Tensor | None) -> None:
        """A round has ended: the next one, a new life, or the end."""
        session = chat.session
        with self._lock:
            if session.name not in self._chats:
                return
            if not error and tensor is not None and (tensor.dtype, tensor.size_bytes) == ("int64", TOKEN_BYTES):
                if session.took(done, int.from_bytes(tensor.data, "little")):
                    chat.came_us.append(done_us)
            elif error in LOST:
                chat.broken = bool(self._standing_by(chat))
                if not chat.broken:
                    session.lost()
                if done.epoch == self._sender.epoch() and (error != "CACHE_LOST" or done.replay):
                    self._wait(chat)
                    return
            else:
                error = error or "BAD_TENSOR"
        if session.finished:
            self._over(chat, "")
        elif error and error not in LOST:
            self._over(chat, error)
        else:
            self._go_on(chat)

    def _standing_by(self, chat: _Chat) -> list[Held]:
        costs = self._costs[chat.stream.model]

        def keeps(hop: Hop) -> bool:
            return any(cost.step and cost.step.kv_bytes_per_token for cost in costs[hop.first : hop.last])

        return chat.session.standing_by(self._down, keeps)

    def _resume(self, chat: _Chat) -> None:
        """Asks those who have stood by how many tokens they have, and goes on from the fewest."""
        session, tokens = chat.session, chat.session.length
        with self._lock:
            asked = self._standing_by(chat)
        for held in asked:
            there = self._sender.kept_at(held, chat.stream.model, ASK_S)
            tokens = min(tokens, there.get((session.name, session.life), 0))
            if not tokens:
                break
        with self._lock:
            chat.broken = False
            if not asked or not session.resume(tokens):
                session.lost()
        self._go_on(chat)

    def _wait(self, chat: _Chat) -> None:
        chat.waiting = self._timer.at(self._clock.now_us() + RETRY_US, lambda: self._wake(chat))

    def _wake(self, chat: _Chat) -> None:
        with self._lock:
            if chat.waiting is None:
                return
            chat.waiting.cancel()
            chat.waiting = None
        self._go_on(chat)

    def _over(self, chat: _Chat, error: str) -> None:
        """The session has ended, "" well; the nodes are told to let go of it."""
        session = chat.session
        with self._lock:
            if self._chats.pop(session.name, None) is None:
                return
            for alarm in (chat.waiting, chat.alarm):
                if alarm is not None:
                    alarm.cancel()
        now_us = self._clock.now_us()
        if chat.last is not None and not self._closed:
            header = _header(chat, chat.last, self._sender.new_id())
            header.ended, header.deadline_us = True, now_us + chat.stream.deadline_us
            for address in sorted(witnesses(header.route)):
                told = Header(session=header.session, life=header.life, ended=True, deadline_us=header.deadline_us)
                told.model, told.request_id = header.model, self._sender.new_id()
                told.route.add(address=address)
                self._sender.tell(told, Tensor("int64", (1, 0), b""))
            self._sender.tell(header, Tensor("int64", (1, 0), b""))
        self._record(
            "session",
            now_us,
            session=session.name,
            stream=chat.stream.name,
            input=chat.input,
            begun_us=chat.begun_us,
            first_us=chat.came_us[0] if chat.came_us else None,
            done_us=now_us,
            outcome="failed" if error else "ok",
            error=error,
            tokens=session.tokens,
            replays=chat.replays,
            resumes=chat.resumes,
        )


def _known_us(us: float) -> int | None:
    return None if us == ENDLESS else round(us)


def _header(chat: _Chat, now: Round, id: int) -> Header:
    return Header(
        request_id=id,
        stream=chat.stream.name,
        model=chat.stream.model,
        epoch=now.epoch,
        route=now.route,
        session=chat.session.name,
        life=now.life,
        position=now.position,
        tokens=now.count,
        resumed=now.resumed,
    )


def tokens(ids: Sequence[int]) -> Tensor:
    """int64 (1, T)."""
    return Tensor("int64", (1, len(ids)), b"".join(id.to_bytes(TOKEN_BYTES, "little") for id in ids))
