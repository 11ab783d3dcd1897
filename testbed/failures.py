"""Failures of links and switches to timed changes. Pure.

Rules: each failure holds its links down under a cause of its own, so that a link which several hold is up again only
after the last. A cut is a change of shape over whatever the trace and other events do. What begins and what ends is
an event of the run, with a text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from testbed.experiment.failing import ends
from testbed.experiment.schema import Event, Experiment
from testbed.plan import Change, border
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


def failure_changes(experiment: Experiment) -> list[Change]:
    """In order of time; at one moment what goes down goes first, so that nothing is up for no time."""
    downs, ups = list[Change](), list[Change]()
    for span in _spans(experiment):
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


def _spans(experiment: Experiment) -> Iterator[_Span]:
    until, _ = ends(experiment.events)
    for index, event in enumerate(experiment.events):
        cause, end_us = f"event {index}", until.get(index)
        if event.link_down is not None:
            link = event.link_down
            yield _Span(cause, event.at_us, end_us, (f"{link}: link down", f"{link}: link up"), (link,))
        elif event.partition is not None:
            group = ", ".join(event.partition)
            ways = border(event.partition, {name: (link.a, link.b) for name, link in experiment.links.items()})
            yield _Span(cause, event.at_us, end_us, (f"{group}: partition", f"{group}: healed"), ways)
        elif event.switch_down is not None:
            name = event.switch_down
            yield _Span(cause, event.at_us, end_us, (f"{name}: switch down", f"{name}: switch up"), switch=name)
        elif event.flap is not None:
            yield from _flaps(cause, event, event.flap)


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
