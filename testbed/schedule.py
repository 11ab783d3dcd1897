"""Traces and events to one ordered list of timed changes. Pure.

Rules: each change of a link carries the whole shape after it; steps that change nothing are merged away, events
never. In an event `rate` replaces the
rate (the trace's too) from then on, `scale` multiplies it from then on (not on top of an earlier scale), other
values replace theirs from then on. An event with an end lies over all this and leaves nothing behind.

netem's limit counts packets on their way as well as those that wait, so a queue is what the experiment says (at the
highest rate the direction ever has) plus the most that is ever on its way; it does not change with the trace.

A rate of zero is an outage: what comes in waits for its end and leaves at the rate of then. netem takes zero as "no
limit", so it is held at `RATE_FLOOR_BPS`. That is right where a new rate holds for what is queued already (`replans`,
the guest's netem). Elsewhere what came in during the outage would keep its slow pace for long after it, so there the
rate is already the next one, and the delay lasts to the end of the outage; it is set anew every `OUTAGE_STEP_US`, which
is how much too late the first packet can be.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from testbed.impairment import held_packets, queue_packets
from testbed.plan import Change, Shape
from testbed.quantity import PPM, Queue
from testbed.trace.series import Direction, EndPolicy, Series, steps

RATE_FLOOR_BPS = 8_000
OUTAGE_STEP_US = 20_000
_ROW, _END, _BEGIN = range(3)  # the order at one moment
MAX_CHANGES = 500_000


@dataclass(frozen=True, slots=True)
class Lane:
    """One direction of a link, as the experiment has it; a trace's columns go before the plain values."""

    link: str
    direction: Direction
    rate_bps: int | None  # None: the trace has it for the whole run
    delay_us: int | None
    jitter_us: int = 0
    loss_ppm: int = 0
    queue: Queue | None = None
    series: Series | None = None
    end: EndPolicy = "loop"
    scale_ppm: int = PPM  # of the trace's rate
    more: Mapping[str, Any] = field(default_factory=dict)  # further fields of `Shape`


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """None leaves a value as it is."""

    t_us: int
    link: str
    directions: tuple[Direction, ...]
    text: str
    rate_bps: int | None = None
    scale_ppm: int | None = None
    delay_us: int | None = None
    jitter_us: int | None = None
    loss_ppm: int | None = None
    queue: Queue | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # further fields of `Shape`
    until_us: int | None = None  # from when on it no longer holds
    after: str = ""  # the text of that moment


@dataclass(frozen=True, slots=True)
class Schedule:
    shapes: dict[tuple[str, Direction], Shape]  # at time zero
    changes: tuple[Change, ...]
    floored: dict[tuple[str, Direction], int] = field(default_factory=dict)  # how many steps had rate zero


@dataclass(frozen=True, slots=True)
class _State:
    """What holds in a lane: the row of its trace, and what events have replaced."""

    row: int | None = None
    rate_bps: int | None = None
    scale_ppm: int = PPM
    delay_us: int | None = None
    jitter_us: int | None = None
    loss_ppm: int | None = None
    queue: Queue | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Step:
    t_us: int
    state: _State
    text: str


def schedule(
    lanes: Sequence[Lane],
    link_events: Sequence[LinkEvent],
    node_changes: Sequence[Change],
    duration_us: int,
    *,
    replans: bool = True,
) -> Schedule:
    """Changes at the same time keep the order: lanes as given, then nodes. `replans`: see the rules above."""
    shapes: dict[tuple[str, Direction], Shape] = {}
    floored: dict[tuple[str, Direction], int] = {}
    changes: list[Change] = []
    for lane in lanes:
        key = lane.link, lane.direction
        walked = list(_walk(lane, [event for event in link_events if event.link == lane.link], duration_us))
        zero = sum(_rate(lane, step.state) == 0 for step in walked)
        if zero:
            floored[key] = zero
        timed = list(_shapes(lane, walked, replans=replans))
        shapes[key] = timed[0][1]
        changes.extend(_changes(lane, timed))
    changes.extend(change for change in node_changes if change.t_us < duration_us)
    return Schedule(shapes, tuple(sorted(changes, key=lambda change: change.t_us)), floored)


def _walk(lane: Lane, events: Sequence[LinkEvent], duration_us: int) -> Iterator[_Step]:
    """The first step holds from time zero and knows nothing of events."""
    rows = [(0, None)] if lane.series is None else list(steps(lane.series, lane.end, duration_us))
    mine = [event for event in events if lane.direction in event.directions and event.t_us < duration_us]
    timed = [(t_us, _ROW, row) for t_us, row in rows] + [(event.t_us, _BEGIN, event) for event in mine]
    timed += [(end_us, _END, event) for event in mine if (end_us := event.until_us or duration_us) < duration_us]
    state, passing = _State(), list[LinkEvent]()
    for t_us, kind, what in sorted(timed, key=lambda item: item[:2]):
        text = ""
        if isinstance(what, LinkEvent):
            told = what.directions[0] == lane.direction
            text = (what.text if kind == _BEGIN else what.after) if told else ""
            if kind == _END:
                passing = [event for event in passing if event is not what]
            elif what.until_us is not None:
                passing.append(what)
            else:
                state = _after(state, what)
        else:
            state = replace(state, row=what)
        yield _Step(t_us, reduce(_after, passing, state), text)


def _after(state: _State, event: LinkEvent) -> _State:
    given: dict[str, Any] = {
        name: value
        for name in ("rate_bps", "scale_ppm", "delay_us", "jitter_us", "loss_ppm", "queue")
        if (value := getattr(event, name)) is not None
    }
    if event.rate_bps is not None:
        given.setdefault("scale_ppm", PPM)
    return replace(state, more={**state.more, **event.more}, **given)


def _of_trace(lane: Lane, state: _State, name: str) -> int | None:
    if lane.series is None or state.row is None:
        return None
    column = lane.series.rate_column(lane.direction) if name == "rate_bps" else name
    values = lane.series.columns.get(column) if column else None  # type: ignore[call-overload]
    return None if values is None else int(values[state.row])


def _rate(lane: Lane, state: _State) -> int:
    """Before the floor."""
    rate = state.rate_bps
    if rate is None:
        traced = _of_trace(lane, state, "rate_bps")
        rate = lane.rate_bps if traced is None else traced * lane.scale_ppm // PPM
    if rate is None:
        raise ValueError(f"{lane.link} {lane.direction}: neither rate nor trace says how fast it is")
    return rate * state.scale_ppm // PPM


def _first(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


def _shapes(lane: Lane, walked: Sequence[_Step], *, replans: bool) -> Iterator[tuple[int, Shape, str]]:
    bare = [_bare(lane, step.state) for step in walked]
    top_bps = max(shape.rate_bps for shape in bare)
    held = max(held_packets(shape) for shape in bare)
    over = _outages([(step.t_us, _rate(lane, step.state)) for step in walked])
    for place, (step, shape) in enumerate(zip(walked, bare, strict=True)):
        packets = queue_packets(step.state.queue or lane.queue, top_bps, held)
        whole = replace(shape, queue_packets=packets)
        end = over[place]
        if end is None or replans:
            yield step.t_us, whole, step.text
        else:
            until_us = walked[place + 1].t_us  # there is one: that at which it is over
            yield from _waiting(step, until_us, whole, *end)


def _outages(rates: Sequence[tuple[int, int]]) -> list[tuple[int, int] | None]:
    """(t_us, rate_bps) of each step -> for those of rate 0 when that is over, and the rate then."""
    over: list[tuple[int, int] | None] = []
    after: tuple[int, int] | None = None
    for t_us, rate_bps in reversed(rates):
        over.append(None if rate_bps else after)
        if rate_bps and (after is None or after[0] != t_us):  # the last at one moment counts
            after = t_us, rate_bps
    return over[::-1]


def _waiting(step: _Step, until_us: int, shape: Shape, over_us: int, rate_bps: int) -> Iterator[tuple[int, Shape, str]]:
    """A step of rate 0, up to the next step."""
    for t_us in range(step.t_us, max(until_us, step.t_us + 1), OUTAGE_STEP_US):
        waiting = replace(shape, rate_bps=max(RATE_FLOOR_BPS, rate_bps), delay_us=shape.delay_us + over_us - t_us)
        yield t_us, waiting, step.text if t_us == step.t_us else ""


def _bare(lane: Lane, state: _State) -> Shape:
    """Without its queue. A trace that has losses goes before the link's own, and before its model of them too."""
    traced_ppm = _of_trace(lane, state, "loss_ppm")
    own = {name: value for name, value in lane.more.items() if name != "loss_model" or traced_ppm is None}
    return Shape(
        rate_bps=max(RATE_FLOOR_BPS, _rate(lane, state)),
        delay_us=_first(state.delay_us, _of_trace(lane, state, "delay_us"), lane.delay_us),
        jitter_us=_first(state.jitter_us, _of_trace(lane, state, "jitter_us"), lane.jitter_us),
        loss_ppm=_first(state.loss_ppm, traced_ppm, lane.loss_ppm),
        **{**own, **state.more},
    )


def _changes(lane: Lane, timed: Sequence[tuple[int, Shape, str]]) -> Iterator[Change]:
    """A step of the trace that an event overtakes at the same moment is left out."""
    before = timed[0][1]
    for index, (t_us, shape, text) in enumerate(timed[1:], start=1):
        if text == "" and index + 1 < len(timed) and timed[index + 1][0] == t_us:
            continue
        if shape != before or text:
            yield Change(t_us, "link", lane.link, lane.direction, shape, text=text)
        before = shape
