"""Failures of links and switches to timed changes. Pure.

Rules: each failure holds its links down under a cause of its own, so that a link which several hold is up again only
after the last. A cut is a change of shape over whatever the trace and other events do. A partition holds a phone's link
for as long as the base station that the phone is at is on the other side. What begins and what ends is an event of the
run, with a text.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

from testbed.experiment.failing import ends
from testbed.experiment.schema import Event, Experiment
from testbed.plan import Change
from testbed.quantity import PPM
from testbed.schedule import LinkEvent
from testbed.trace.series import Direction

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True, slots=True)
class _Span:
    """What is away from `start_us` to `end_us`; None: to the end of the run."""

    cause: str
    start_us: int
    end_us: int | None
    texts: tuple[str, str]
    links: tuple[str, ...] = ()
    switch: str = ""


def failure_changes(experiment: Experiment, moves: Sequence[Change] = ()) -> list[Change]:
    """In order of time; at one moment what goes down goes first, so that nothing is up for no time.

    `moves` are the handovers' changes, which may bring a phone into a partition or out of it.
    """
    downs, ups = list[Change](), list[Change]()
    for span in _spans(experiment, moves):
        downs += _down(span)
        ups += _up(span)
    return sorted([*downs, *ups], key=lambda change: change.t_us)


def cut_events(experiment: Experiment) -> Iterator[LinkEvent]:
    until, _ = ends(experiment.events)
    for index, event in enumerate(experiment.events):
        if event.cut is None:
            continue
        where = f"{event.cut} {event.direction}" if event.direction else event.cut
        yield LinkEvent(
            event.at_us,
            event.cut,
            (event.direction,) if event.direction else DIRECTIONS,
            f"{where}: cut",
            loss_ppm=PPM,
            more={"loss_model": None},
            until_us=until[index] or experiment.duration_us,
            after=f"{where}: mended",
        )


def _spans(experiment: Experiment, moves: Sequence[Change]) -> Iterator[_Span]:
    until, _ = ends(experiment.events)
    for index, event in enumerate(experiment.events):
        cause, end_us = f"event {index}", until.get(index)
        if event.link_down is not None:
            link = event.link_down
            yield _Span(cause, event.at_us, end_us, (f"{link}: link down", f"{link}: link up"), (link,))
        elif event.partition is not None:
            yield from _partition(experiment, moves, cause, event.partition, (event.at_us, end_us))
        elif event.switch_down is not None:
            name = event.switch_down
            yield _Span(cause, event.at_us, end_us, (f"{name}: switch down", f"{name}: switch up"), switch=name)
        elif event.flap is not None:
            yield from _flaps(cause, event, event.flap)


def _partition(
    experiment: Experiment, moves: Sequence[Change], cause: str, group: Collection[str], times: tuple[int, int | None]
) -> Iterator[_Span]:
    """One span for all links that it holds from and to the same times; the first that begins or ends it tells so."""
    together: dict[tuple[int, int | None], list[str]] = defaultdict(list)
    for link in experiment.links:
        for held in _across(experiment, moves, link, group, times):
            together[held].append(link)
    names, begun, ended = ", ".join(group), False, False
    for (start_us, end_us), links in sorted(together.items(), key=lambda item: (item[0][0], item[1])):
        texts = ("" if begun else f"{names}: partition", f"{names}: healed" if end_us == times[1] and not ended else "")
        begun, ended = True, ended or end_us == times[1]
        yield _Span(cause, start_us, end_us, texts, tuple(links))


def _across(
    experiment: Experiment, moves: Sequence[Change], link: str, group: Collection[str], times: tuple[int, int | None]
) -> Iterator[tuple[int, int | None]]:
    """From when to when (None: the end of the run) within the times a link leads out of the group."""
    a, b = experiment.links[link].a, experiment.links[link].b
    phone = a if a in experiment.mobility else b
    stations = [(0, b if phone == a else a)]
    stations += [(move.t_us, move.place) for move in moves if move.what == "attach" and move.target == link]
    sides = [(t_us, (phone in group) != (station in group)) for t_us, station in stations]
    turns = [sides[0], *(now for before, now in pairwise(sides) if now[1] != before[1])]
    for (from_us, out), (to_us, _) in pairwise([*turns, (times[1], False)]):
        start_us = max(times[0], from_us or 0)
        end_us = times[1] if to_us is None else to_us if times[1] is None else min(to_us, times[1])
        if out and (end_us is None or start_us < end_us):
            yield start_us, end_us


def _flaps(cause: str, event: Event, link: str) -> Iterator[_Span]:
    period_us, times = event.period_us or 0, event.times or 0
    for number in range(times):
        start_us = event.at_us + number * period_us
        texts = tuple(f"{link}: flap {number + 1} of {times}, {state}" for state in ("down", "up"))
        yield _Span(f"{cause}.{number}", start_us, start_us + period_us // 2, (texts[0], texts[1]), (link,))


def _down(span: _Span) -> Iterator[Change]:
    """One change a link; the first tells the event."""
    texts = (span.texts[0], *("" for _ in span.links[1:]))
    if span.switch:
        yield Change(span.start_us, "switch_down", span.switch, cause=span.cause, text=texts[0])
    for link, text in zip(span.links, texts, strict=False):
        yield Change(span.start_us, "link_down", link, cause=span.cause, text=text)


def _up(span: _Span) -> Iterator[Change]:
    texts = (span.texts[1], *("" for _ in span.links[1:]))
    if span.end_us is None:
        return
    if span.switch:
        yield Change(span.end_us, "switch_up", span.switch, cause=span.cause, text=texts[0])
    for link, text in zip(span.links, texts, strict=False):
        yield Change(span.end_us, "link_up", link, cause=span.cause, text=text)
