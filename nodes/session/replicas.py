"""Keeping up with what other nodes hold of sessions, so that it is here when one of them is lost: a thread a source.

Rules: one request a source is under way, so a slow way makes the copies older and nothing else; each asks for what came
behind the rows that are here, and is answered when there is any (nodes/wire/kvshipping.py). After an answer that was
not full a moment passes, so that a few tokens come together: they are said again in one round if they are lacking. A
source that does not answer is asked again after a while. What is copied stands by (nodes/session/sessions.py).

    replicas = Replicas(sessions, clock, sealing);  replicas.follow([("chat", held)]);  replicas.close()
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from nodes.clock import Clock
from nodes.proto.data_pb2 import Held
from nodes.session.sessions import Sessions
from nodes.wire import kvshipping, shipping
from nodes.wire.sealing import Sealing

PAUSE_S = 0.5  # after a request that was for nothing
PACE_S = 0.1  # after one that brought all that there was


@dataclass(slots=True, eq=False)
class _Source:
    model: str
    held: Held
    over: threading.Event = field(default_factory=threading.Event)
    channel: grpc.Channel | None = None
    thread: threading.Thread | None = None


class Replicas:
    def __init__(self, sessions: Sessions, clock: Clock, sealing: Sealing | None) -> None:
        self._sessions, self._clock, self._sealing = sessions, clock, sealing
        self._lock = threading.Lock()
        self._sources: dict[tuple[str, bytes], _Source] = {}

    def follow(self, wanted: Sequence[tuple[str, Held]]) -> None:
        """These sources from now on, and no others; what came of others stays until it is not used for long."""
        self._sessions.stands_by(wanted)
        keys = {(model, held.SerializeToString(deterministic=True)): (model, held) for model, held in wanted}
        with self._lock:
            gone = [self._sources.pop(key) for key in list(self._sources) if key not in keys]
            for key in keys.keys() - self._sources.keys():
                source = self._sources[key] = _Source(*keys[key])
                source.thread = threading.Thread(target=self._keep_up, args=(source,), name="replica", daemon=True)
                source.thread.start()
        for source in gone:
            _leave(source)

    def close(self) -> None:
        with self._lock:
            gone = list(self._sources.values())
            self._sources.clear()
        for source in gone:
            _leave(source)
        for source in gone:
            if source.thread is not None:
                source.thread.join()

    def _keep_up(self, source: _Source) -> None:
        request = kvshipping.news_request(source.held, source.model)
        while not source.over.is_set():
            with shipping.way(source.held.address, request, self._sealing) as source.channel:
                while (came_bytes := self._ask(source, source.channel)) is not None:
                    if came_bytes < kvshipping.NEWS_MAX_BYTES // 2:
                        source.over.wait(PACE_S)
            source.over.wait(PAUSE_S)

    def _ask(self, source: _Source, channel: grpc.Channel) -> int | None:
        """How many bytes came; None: it was for nothing, the way is opened anew."""
        if source.over.is_set():
            return None
        model, held, begun_us = source.model, source.held, self._clock.now_us()
        known, limit_bytes = self._sessions.known(model, held), self._sessions.news_bytes(model, held)
        try:
            news = kvshipping.news(channel, held, model, known, limit_bytes, self._sealing)
        except (shipping.ShippingError, ValueError):  # ValueError: the channel was closed as the source was left
            return None
        if source.over.is_set():
            return None
        taken = [self._sessions.take_news(rows, blocks, begun_us) for rows, blocks in news]
        if taken and not any(taken):
            return None
        return sum(
            tensor.size_bytes for _, blocks in news for tensors in blocks.values() for tensor in tensors.values()
        )


def _leave(source: _Source) -> None:
    source.over.set()
    if source.channel is not None:
        source.channel.close()
