"""Events that take links and switches away: which event ends which, and what can be wrong with them. Pure.

A failure ends after `for`, by the opposite event about the same, or with the run.
"""

from collections.abc import Iterator, Mapping, Sequence

from testbed.experiment.reader import Where
from testbed.experiment.schema import Event, Experiment
from testbed.experiment.wording import nearest
from testbed.plan import border
from testbed.quantity import show_duration

OPPOSITE = {"link_down": "link_up", "cut": "mend", "partition": "heal", "switch_down": "switch_up"}
BEGINNING = {end: begin for begin, end in OPPOSITE.items()}
KEYS: Mapping[str, set[str]] = {  # of each such event, beside `at` and its own name
    "link_down": {"for"},
    "link_up": set(),
    "flap": {"period", "times"},
    "cut": {"direction", "for"},
    "mend": {"direction"},
    "partition": {"for"},
    "heal": set(),
    "switch_down": {"for"},
    "switch_up": set(),
}
LEAST_PERIOD_US = 10_000  # a switch tells of a port in some milliseconds

Finding = tuple[Where, str]
Findings = Iterator[Finding]
Key = tuple[str, object, str | None]


def kind_of(event: Event) -> str:
    """Which failure an event begins or ends; "" for all other events."""
    return next((kind for kind in KEYS if getattr(event, kind) is not None), "")


def ends(events: Sequence[Event]) -> tuple[dict[int, int | None], list[Finding]]:
    """Index of each event that begins a failure -> when that ends, None: with the run. And what has no counterpart."""
    found: dict[int, int | None] = {}
    wrong: list[Finding] = []
    begun: dict[Key, int] = {}
    for index, event in sorted(enumerate(events), key=lambda item: item[1].at_us):
        kind = kind_of(event)
        if kind in OPPOSITE:
            found[index] = event.until_us
            if event.for_us is None and begun.setdefault(_key(kind, event), index) != index:
                since = show_duration(events[begun[_key(kind, event)]].at_us)
                wrong.append((("events", index, kind), f"holds since {since} already; {_ending(kind)}"))
        elif kind in BEGINNING:
            first = begun.pop(_key(BEGINNING[kind], event), None)
            if first is None:
                why = f"nothing to end; right is after a {BEGINNING[kind]} of the same without `for`"
                wrong.append((("events", index, kind), why))
            else:
                found[first] = event.at_us
    return found, wrong


def failing(experiment: Experiment) -> Findings:
    """Whether beginnings and ends fit together and into the experiment."""
    yield from ends(experiment.events)[1]
    for index, event in enumerate(experiment.events):
        if (event.until_us or 0) >= experiment.duration_us:
            yield ("events", index, "for"), "does not end within the experiment; without it, it lasts to the end"
        if event.flap is not None and event.period_us and event.times:
            last_us = event.at_us + (event.times - 1) * event.period_us + event.period_us // 2
            if last_us >= experiment.duration_us:
                yield ("events", index, "times"), "does not end within the experiment; fewer are right"


def failure(experiment: Experiment, index: int, event: Event, kind: str) -> Findings:
    """What one event says of the network."""
    place: Where = ("events", index)
    if event.partition is not None or event.heal is not None:
        yield from _group(experiment, (*place, kind), event.partition or event.heal or ())
        return
    name = getattr(event, kind)
    if kind in ("switch_down", "switch_up"):
        switches = [node for node, what in experiment.nodes.items() if not what.is_host]
        if name in experiment.nodes and name not in switches:
            yield (*place, kind), f"'{name}' is no switch; node_down and node_up are about hosts"
        elif name not in switches:
            yield (*place, kind), f"no switch '{name[:60]}'; {nearest(name, switches)}"
    elif name not in experiment.links:
        yield (*place, kind), f"no link '{name[:60]}'; {nearest(name, list(experiment.links))}"
    if kind == "flap":
        if event.times is None:
            yield (*place, "times"), "is missing; how often it goes down, such as 3"
        if event.period_us is None:
            yield (*place, "period"), "is missing; from one time down to the next, half of it down, such as '2s'"
        elif event.period_us < LEAST_PERIOD_US:
            yield (*place, "period"), f"at least {show_duration(LEAST_PERIOD_US)} is right"


def _group(experiment: Experiment, place: Where, group: tuple[str, ...]) -> Findings:
    for index, name in enumerate(group):
        if name not in experiment.nodes:
            yield (*place, index), f"no node '{name[:60]}'; {nearest(name, list(experiment.nodes))}"
        elif name in group[:index]:
            yield (*place, index), f"'{name}' is there twice; once is right"
    if not border(group, {name: (link.a, link.b) for name, link in experiment.links.items()}):
        yield place, "cuts nothing: no link leads from these nodes to others; some of the nodes are right, not all"


def _ending(kind: str) -> str:
    return f"a {OPPOSITE[kind]} ends it"


def _key(kind: str, event: Event) -> Key:
    """What an end must share with its beginning."""
    said = getattr(event, kind) if getattr(event, kind) is not None else getattr(event, OPPOSITE[kind])
    return kind, frozenset(said) if isinstance(said, tuple) else said, event.direction
