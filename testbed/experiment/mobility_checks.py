"""What is wrong with how phones move: who, from where, to where, when. Pure; findings as in `checks`."""

from collections.abc import Iterator
from itertools import pairwise

from testbed.experiment.mobility import Mobility
from testbed.experiment.movement import cell_map, handovers_of, home, stations
from testbed.experiment.reader import Where
from testbed.experiment.schema import Experiment
from testbed.experiment.wording import nearest
from testbed.mobility import recording
from testbed.mobility.attachment import hurried
from testbed.quantity import show_duration

Findings = Iterator[tuple[Where, str]]
WAYS = ("attach", "trace", "path")


def mobility(experiment: Experiment) -> Findings:
    """All that can be said without the recordings."""
    for name, node in experiment.nodes.items():
        if node.position is not None and node.kind != "base_station":
            yield ("nodes", name, "position"), "only a base_station has one; leave it out"
    phones = [name for name, node in experiment.nodes.items() if node.kind == "phone"]
    for phone, said in experiment.mobility.items():
        if phone not in phones:
            yield ("mobility", phone), f"no phone '{phone}'; {nearest(phone, phones)}"
            continue
        yield from _way(phone, said)
        begin = _begin(experiment, phone)
        if begin not in stations(experiment):
            yield ("mobility", phone), "moves between base stations, but is linked to none; link it to a base_station"
            continue
        yield from _attach(experiment, phone, begin, said)
        yield from _cells(experiment, phone, said)
        yield from _path(experiment, phone, said)


def recorded(experiment: Experiment) -> Findings:
    """What is wrong with the drives that phones repeat."""
    for phone in (phone for phone, said in experiment.mobility.items() if said.trace is not None):
        series = experiment.recording(phone)
        place = ("mobility", phone, "trace")
        found = recording.cells(series)
        if not found:
            yield place, f"'{series.name}' has no cells; a recording with a cell in its rows is right (CICV5G, UCC 5G)"
            continue
        known = cell_map(experiment, phone, series)
        missing = [cell for cell in found if cell not in known]
        if missing:
            more = ", ".join(missing[:8])
            yield ("mobility", phone, "cells"), f"'{series.name}' has cells that are not there: {more}"
            continue
        begin, first = _begin(experiment, phone), known[found[0]]
        if first != begin:
            yield place, f"'{series.name}' begins in cell {found[0]}, which is {first}; link '{phone}' there"
            continue
        yield from _hurried(experiment, phone, place)


def _begin(experiment: Experiment, phone: str) -> str:
    try:
        return home(experiment, phone)[1]
    except KeyError:
        return ""


def _way(phone: str, said: Mobility) -> Findings:
    found = [way for way in WAYS if getattr(said, way) is not None]
    if len(found) != 1:
        yield ("mobility", phone), f"{' and '.join(found) or 'none'} of {', '.join(WAYS)} is there; one is right"
    for key, way in (("cells", "trace"), ("radio", "path")):
        if getattr(said, key) is not None and way not in found:
            yield ("mobility", phone, key), f"belongs to a {way}, and there is none; leave it out"


def _attach(experiment: Experiment, phone: str, begin: str, said: Mobility) -> Findings:
    known = stations(experiment)
    place = ("mobility", phone, "attach")
    here, before_us, sound = begin, 0, True
    for index, one in enumerate(said.attach or ()):
        if one.to not in known:
            yield (*place, index, "to"), f"no base station '{one.to[:60]}'; {nearest(one.to, known)}"
            sound = False
        elif one.to == here:
            yield (*place, index, "to"), f"'{phone}' is at {here} already; another base station is right"
        if one.at_us <= before_us:
            yield (*place, index, "at"), f"does not come after {show_duration(before_us)}; times must rise"
            sound = False
        if one.at_us + said.interruption_us >= experiment.duration_us:
            yield (*place, index, "at"), "is not over before the experiment is; an earlier time is right"
        here, before_us = one.to, one.at_us
    if said.attach and sound:
        yield from _hurried(experiment, phone, place)


def _hurried(experiment: Experiment, phone: str, place: Where) -> Findings:
    interruption_us = experiment.mobility[phone].interruption_us
    found = handovers_of(experiment, phone, lambda _: lambda: 0.0)
    for before, after in hurried(found, interruption_us):
        times = f"{show_duration(before.t_us)} and {show_duration(after.t_us)}"
        why = f"handovers at {times} are not further apart than the interruption, {show_duration(interruption_us)}"
        yield (place, f"{why}; a shorter one is right")
        return


def _cells(experiment: Experiment, phone: str, said: Mobility) -> Findings:
    known = stations(experiment)
    for cell, station in (said.cells or {}).items():
        if station not in known:
            yield ("mobility", phone, "cells", cell), f"no base station '{station[:60]}'; {nearest(station, known)}"


def _path(experiment: Experiment, phone: str, said: Mobility) -> Findings:
    if said.path is None:
        return
    for index, (before, after) in enumerate(pairwise(said.path), start=1):
        if after.at_us <= before.at_us:
            why = f"does not come after {show_duration(before.at_us)}; times must rise"
            yield ("mobility", phone, "path", index, "at"), why
    for name in stations(experiment):
        if experiment.nodes[name].position is None:
            why = f"is missing; '{phone}' finds its base station by distance, so each has one, such as [0, 120]"
            yield ("nodes", name, "position"), why
