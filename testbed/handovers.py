"""Handovers as timed changes of the plan. Pure."""

from collections.abc import Iterator

from testbed.experiment.movement import Chance, handovers_of, home
from testbed.experiment.schema import Experiment
from testbed.plan import Change


def handover_changes(experiment: Experiment, chance: Chance) -> Iterator[Change]:
    """For each a detach, which is the event, and an attach."""
    for phone, mobility in experiment.mobility.items():
        link, _ = home(experiment, phone)
        gap_us = mobility.interruption_us
        for one in handovers_of(experiment, phone, chance):
            text = f"{phone}: handover {one.source} to {one.target}"
            yield Change(one.t_us, "detach", link, value=gap_us, place=one.source, text=text)
            yield Change(one.t_us + gap_us, "attach", link, place=one.target)
