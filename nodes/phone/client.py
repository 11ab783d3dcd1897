"""What a phone does: sends requests when they are due, takes answers, and says of each how it ended.

Rules: open loop, no request waits for the answer of another; each ends once, as ok or failed by name, and is
recorded once, when its deadline passes (so that further answers to it are counted) or when the run ends; an answer
after the deadline changes nothing, a `phone` record at the end counts those. What sessions send is in `chats`: each of
their rounds is a request. An answer from the phone's own cache is an outcome, but tells nobody how well models lie.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from nodes.agent import Agent, Record
from nodes.clock import Timer, wait_until
from nodes.phone.chats import Chats, Ended, Known
from nodes.phone.resultcache import ResultCache, key
from nodes.phone.streams import Samples, StreamSpec
from nodes.proto.agent_pb2 import Outcome
from nodes.proto.data_pb2 import Header, Held, Hop, Span
from nodes.wire.codec import Tensor, same
from nodes.wire.quantise import relative_error

__all__ = ["Client", "Samples", "StreamSpec"]

OUTCOMES_MAX = 10_000  # kept for a coordinator that does not ask


@dataclass(slots=True)
class _Request:
    id: int
    stream: str
    epoch: int
    sent_us: int
    answer: Tensor | None  # the expected one
    done_us: int | None = None
    error: str | None = None  # None: not ended; "": ok
    equal: bool = False
    relative_error: float | None = None  # of the answer; None: unchecked, or no figure can be given
    duplicates: int = 0
    spans: tuple[Span, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)  # for its record
    ended: Ended | None = None
    keep: Callable[[Tensor], None] | None = None  # takes the answer


class Client:
    """`id_start` keeps the ids of several phones apart."""

    def __init__(
        self,
        agent: Agent,
        timer: Timer,
        streams: Sequence[StreamSpec],
        samples: Mapping[str, Samples],
        record: Record,
        *,
        id_start: int = 0,
    ) -> None:
        self._agent = agent
        self._clock = agent.clock
        self._timer = timer
        self._samples = samples
        self._results = {name: ResultCache(each.keeps) for name, each in samples.items() if each.keeps}
        self._record = record
        self._specs = streams
        self._id_start = id_start
        self._condition = threading.Condition()
        self._requests: dict[int, _Request] = {}  # not yet recorded
        self._routes: dict[str, tuple[Hop, ...]] = {}
        self._epoch = 0
        self._in_flight: Counter[int] = Counter()
        self._outcomes: list[Outcome] = []
        self._sent = 0
        self._late = 0
        self._duplicated = 0
        self._begun = 0  # arrivals
        self._total = sum(len(spec.arrivals_us) for spec in streams)
        self._ids = count(id_start + self._total)  # of what no arrival has
        self._chats = Chats(self, agent.spec.address, agent.costs, samples, agent.clock, timer, record)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        agent.answer = self._answer

    def start(self) -> None:
        """Begins to send; the clock has its time zero."""
        self._thread.start()

    def switch(
        self, epoch: int, routes: Mapping[str, Sequence[Hop]], lost: Collection[str] = (), known: Known | None = None
    ) -> None:
        """Requests from now on take these routes; those in flight keep theirs.

        `lost`: nodes that are down; sessions give up what is on its way over them.
        """
        with self._condition:
            self._epoch = epoch
            self._routes = {**self._routes, **{stream: tuple(hops) for stream, hops in routes.items()}}
        self._chats.switched(lost, known or Known())

    def epoch(self) -> int:
        with self._condition:
            return self._epoch

    def status(self) -> tuple[Mapping[int, int], Sequence[Outcome], int, bool]:
        """Requests in flight by epoch, outcomes since the last call, how many were sent, whether all have ended.

        A session whose caches lie along the route of an epoch is in flight on that epoch.
        """
        held, quiet = self._chats.in_flight()
        with self._condition:
            outcomes, self._outcomes = self._outcomes, []
            in_flight = {epoch: n for epoch, n in (self._in_flight + held).items() if n}
            return in_flight, outcomes, self._sent, quiet and self._begun == self._total and not in_flight

    def close(self) -> None:
        """Records what is still open: requests without an answer failed as UNFINISHED."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        for id in sorted(self._requests):
            self._finish(id, "UNFINISHED")
        self._chats.close()
        now_us = self._clock.now_us()
        self._record(
            "phone", now_us, node=self._agent.spec.name, sent=self._sent, late=self._late, duplicates=self._duplicated
        )

    def _run(self) -> None:
        due = sorted(
            (arrival_us, i, k) for i, spec in enumerate(self._specs) for k, arrival_us in enumerate(spec.arrivals_us)
        )
        for n, (arrival_us, i, k) in enumerate(due):
            if not self._sleep_until(arrival_us):
                return
            spec = self._specs[i]
            if spec.generate:
                self._chats.begin(spec, spec.generate, k, arrival_us)
            else:
                self._send(self._id_start + n, spec, k, arrival_us)
            with self._condition:
                self._begun += 1

    def _sleep_until(self, t_us: int) -> bool:
        with self._condition:
            while not self._closed and self._clock.now_us() < t_us:
                wait_until(self._condition, self._clock, t_us)
            return not self._closed

    def _send(self, id: int, spec: StreamSpec, k: int, arrival_us: int) -> None:
        """Latency counts from the arrival, so being late here is not hidden."""
        samples = self._samples[spec.model]
        which = k % len(samples.inputs)
        route, epoch = self.take_route(spec.name)
        header = Header(request_id=id, stream=spec.name, model=spec.model, epoch=epoch, route=route)
        header.deadline_us = arrival_us + spec.deadline_us
        tensor, expected, results = samples.inputs[which], samples.answers.get(which), self._results.get(spec.model)
        if results is None:
            self.request(header, tensor, arrival_us, expected)
        else:
            self._ask(results, header, tensor, arrival_us, expected)

    def _ask(
        self, results: ResultCache, header: Header, tensor: Tensor, arrival_us: int, expected: Tensor | None
    ) -> None:
        """What was answered before ends at once, with a route or without."""
        asked = key(tensor)
        with self._condition:
            held = results.get(asked)
        made = _Request(header.request_id, header.stream, header.epoch, arrival_us, expected)
        made.more = {"cached": held is not None}
        if held is None:
            made.keep = lambda answer: results.put(asked, answer)
            self._go(made, header, tensor)
        else:
            self._open(made, header.deadline_us)
            self._end(made.id, self._clock.now_us(), "", (), held)

    def take_route(self, stream: str) -> tuple[tuple[Hop, ...], int]:
        """The route of now and its epoch, for a request that is in flight from here on: its slices stay for it."""
        with self._condition:
            self._in_flight[self._epoch] += 1
            return self._routes.get(stream, ()), self._epoch

    def give_back(self, epoch: int) -> None:
        """There will be no request for the route that was taken."""
        with self._condition:
            self._in_flight[epoch] -= 1

    def new_id(self) -> int:
        return next(self._ids)

    def request(  # noqa: PLR0917 a request and what is to be said of it
        self,
        header: Header,
        tensor: Tensor,
        sent_us: int,
        expected: Tensor | None,
        more: Mapping[str, Any] | None = None,
        ended: Ended | None = None,
    ) -> None:
        """Sends over a route that was taken. `more` goes into the record, `ended` is told the end."""
        id = header.request_id
        made = _Request(id, header.stream, header.epoch, sent_us, expected, more=more or {}, ended=ended)
        self._go(made, header, tensor)

    def _go(self, made: _Request, header: Header, tensor: Tensor) -> None:
        self._open(made, header.deadline_us)
        if not header.route:
            self._end(made.id, None, "NO_ROUTE", (), None)
            return
        header.reply_to = self._agent.spec.address
        name, now_us = self._agent.spec.name, self._clock.now_us()
        header.spans.append(Span(node=name, kind="serialise", start_us=made.sent_us, end_us=now_us))
        self._agent.start(header, tensor)

    def _open(self, made: _Request, deadline_us: int) -> None:
        with self._condition:
            self._requests[made.id] = made
            self._sent += 1
        self._timer.at(deadline_us, lambda: self._finish(made.id, "DEADLINE"))

    def give_up(self, id: int, error: str) -> None:
        self._end(id, None, error, (), None)

    def tell(self, header: Header, tensor: Tensor) -> None:
        self._agent.tell(header, tensor)

    def kept_at(self, source: Held, model: str, deadline_s: float) -> Mapping[tuple[str, int], int]:
        return self._agent.kept_at(source, model, deadline_s)

    def _answer(self, header: Header, tensor: Tensor | None) -> None:
        error = "" if tensor is not None else header.error_code
        self._end(header.request_id, self._clock.now_us(), error, tuple(header.spans), tensor)

    def _end(self, id: int, now_us: int | None, error: str, spans: tuple[Span, ...], tensor: Tensor | None) -> None:
        with self._condition:
            request = self._requests.get(id)
            if request is None:
                self._late += tensor is not None
                return
            if request.error and request.ended:  # given up before: no second answer
                self._late += tensor is not None
                return
            if request.error is not None:
                request.duplicates += tensor is not None
                self._duplicated += tensor is not None
                return
            request.error, request.spans = error, spans
            if tensor is not None:
                request.done_us = now_us
                if request.answer is not None:
                    request.equal = same(tensor, request.answer)
                    request.relative_error = 0.0 if request.equal else relative_error(tensor, request.answer)
                if request.keep and not error:
                    request.keep(tensor)
            self._ended(request)
        if request.ended:
            request.ended(error, request.done_us or self._clock.now_us(), tensor)

    def _ended(self, request: _Request) -> None:
        self._in_flight[request.epoch] -= 1
        if request.more.get("cached"):
            return
        outcome = Outcome(stream=request.stream, request_id=request.id, sent_us=request.sent_us)
        outcome.done_us, outcome.ok = request.done_us or self._clock.now_us(), request.error == ""
        if len(self._outcomes) < OUTCOMES_MAX:
            self._outcomes.append(outcome)

    def _finish(self, id: int, error: str) -> None:
        """The deadline or the end of the run: what has not ended has failed, and all is known of it."""
        with self._condition:
            request = self._requests.pop(id, None)
            if request is None:
                return
            open_ = request.error is None
            if open_:
                request.error = error
                self._ended(request)
        ok = request.error == ""
        self._record(
            "request",
            request.done_us if request.done_us is not None else self._clock.now_us(),
            id=request.id,
            stream=request.stream,
            epoch=request.epoch,
            sent_us=request.sent_us,
            done_us=request.done_us,
            outcome="ok" if ok else "failed",
            error=request.error,
            checked=ok and request.answer is not None,
            equal=request.equal,
            relative_error=request.relative_error,
            duplicates=request.duplicates,
            spans=[_plain(span) for span in request.spans],
            **request.more,
        )
        if open_ and request.ended and not self._closed:
            request.ended(error, self._clock.now_us(), None)


def _plain(span: Span) -> dict[str, str | int | float]:
    return {
        "node": span.node,
        "step": span.step,
        "kind": span.kind,
        "start_us": span.start_us,
        "end_us": span.end_us,
        "size_bytes": span.size_bytes,
        **({"wire": span.wire, "relative_error": span.relative_error} if span.wire else {}),
    }
