"""What a phone does: sends requests when they are due, takes answers, and says of each how it ended.

Rules: open loop, no request waits for the answer of another; each ends once, as ok or failed by name, and is
recorded once, when its deadline passes (so that further answers to it are counted) or when the run ends; an answer
after the deadline changes nothing, a `phone` record at the end counts those.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nodes.agent import Agent, Record
from nodes.clock import Timer, wait_until
from nodes.codec import Tensor, same
from nodes.proto.agent_pb2 import Outcome
from nodes.proto.data_pb2 import Header, Hop, Span

OUTCOMES_MAX = 10_000  # kept for a coordinator that does not ask


@dataclass(frozen=True, slots=True)
class StreamSpec:
    name: str
    model: str
    arrivals_us: tuple[int, ...]
    deadline_us: int  # of each request, from its arrival


@dataclass(frozen=True, slots=True)
class Samples:
    """Of one model: request k sends input k % len(inputs); answers are what the unsplit model says, none: unchecked."""

    inputs: Sequence[Tensor]
    answers: Mapping[int, Tensor] = field(default_factory=dict)


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
    duplicates: int = 0
    spans: tuple[Span, ...] = ()


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
        self._total = sum(len(spec.arrivals_us) for spec in streams)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        agent.answer = self._answer

    def start(self) -> None:
        """Begins to send; the clock has its time zero."""
        self._thread.start()

    def switch(self, epoch: int, routes: Mapping[str, Sequence[Hop]]) -> None:
        """Requests from now on take these routes; those in flight keep theirs."""
        with self._condition:
            self._epoch = epoch
            self._routes = {**self._routes, **{stream: tuple(hops) for stream, hops in routes.items()}}

    def status(self) -> tuple[Mapping[int, int], Sequence[Outcome], int, bool]:
        """Requests in flight by epoch, outcomes since the last call, how many were sent, whether all have ended."""
        with self._condition:
            outcomes, self._outcomes = self._outcomes, []
            in_flight = {epoch: n for epoch, n in self._in_flight.items() if n}
            return in_flight, outcomes, self._sent, self._sent == self._total and not in_flight

    def close(self) -> None:
        """Records what is still open: requests without an answer failed as UNFINISHED."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        for id in sorted(self._requests):
            self._finish(id, "UNFINISHED")
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
            self._send(self._id_start + n, self._specs[i], k, arrival_us)

    def _sleep_until(self, t_us: int) -> bool:
        with self._condition:
            while not self._closed and self._clock.now_us() < t_us:
                wait_until(self._condition, self._clock, t_us)
            return not self._closed

    def _send(self, id: int, spec: StreamSpec, k: int, arrival_us: int) -> None:
        """Latency counts from the arrival, so being late here is not hidden."""
        samples = self._samples[spec.model]
        which = k % len(samples.inputs)
        tensor = samples.inputs[which]
        with self._condition:
            route, epoch = self._routes.get(spec.name, ()), self._epoch
            self._requests[id] = _Request(id, spec.name, epoch, arrival_us, samples.answers.get(which))
            self._in_flight[epoch] += 1
            self._sent += 1
        deadline_us = arrival_us + spec.deadline_us
        self._timer.at(deadline_us, lambda: self._finish(id, "DEADLINE"))
        if not route:
            self._end(id, None, "NO_ROUTE", (), None)
            return
        header = Header(
            request_id=id,
            stream=spec.name,
            model=spec.model,
            epoch=epoch,
            route=route,
            reply_to=self._agent.spec.address,
            deadline_us=deadline_us,
        )
        name, now_us = self._agent.spec.name, self._clock.now_us()
        header.spans.append(Span(node=name, kind="serialise", start_us=arrival_us, end_us=now_us))
        self._agent.start(header, tensor)

    def _answer(self, header: Header, tensor: Tensor | None) -> None:
        error = "" if tensor is not None else header.error_code
        self._end(header.request_id, self._clock.now_us(), error, tuple(header.spans), tensor)

    def _end(self, id: int, now_us: int | None, error: str, spans: tuple[Span, ...], tensor: Tensor | None) -> None:
        with self._condition:
            request = self._requests.get(id)
            if request is None:
                self._late += tensor is not None
                return
            if request.error is not None:
                request.duplicates += tensor is not None
                self._duplicated += tensor is not None
                return
            request.error, request.spans = error, spans
            if tensor is not None:
                request.done_us = now_us
                request.equal = request.answer is not None and same(tensor, request.answer)
            self._ended(request)

    def _ended(self, request: _Request) -> None:
        self._in_flight[request.epoch] -= 1
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
            if request.error is None:
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
            duplicates=request.duplicates,
            spans=[_plain(span) for span in request.spans],
        )


def _plain(span: Span) -> dict[str, str | int]:
    return {
        "node": span.node,
        "step": span.step,
        "kind": span.kind,
        "start_us": span.start_us,
        "end_us": span.end_us,
        "size_bytes": span.size_bytes,
    }
