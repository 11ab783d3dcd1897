"""How an experiment's phones move: from its section `mobility` to handovers. Pure."""

from collections.abc import Callable, Iterator

from testbed.experiment.mobility import Mobility
from testbed.experiment.schema import Experiment
from testbed.mobility import radio, recording
from testbed.mobility.attachment import Attachment, Handover, handovers
from testbed.trace.series import Series

Chance = Callable[[str], radio.Gauss]  # phone -> its own draws


def stations(experiment: Experiment) -> list[str]:
    """The base stations in the order of the file."""
    return [name for name, node in experiment.nodes.items() if node.kind == "base_station"]


def home(experiment: Experiment, phone: str) -> tuple[str, str]:
    """A phone's radio link and where it leads to at the start. KeyError when it has none."""
    for name, link in experiment.links.items():
        if phone in (link.a, link.b):
            return name, link.b if phone == link.a else link.a
    raise KeyError(phone)


def cell_map(experiment: Experiment, phone: str, series: Series) -> dict[str, str]:
    """Cell -> base station: as written, or in order of appearance, beginning where the phone is linked to."""
    said = experiment.mobility[phone].cells
    if said is not None:
        return said
    known, (_, first) = stations(experiment), home(experiment, phone)
    start = known.index(first)
    return recording.spread(recording.cells(series), [*known[start:], *known[:start]])


def handovers_of(experiment: Experiment, phone: str, chance: Chance) -> tuple[Handover, ...]:
    """Those that are over before the experiment is; the experiment has been checked."""
    mobility = experiment.mobility[phone]
    _, first = home(experiment, phone)
    until_us = experiment.duration_us - mobility.interruption_us
    return handovers(first, _attachments(experiment, phone, mobility, chance), until_us)


def _attachments(experiment: Experiment, phone: str, mobility: Mobility, chance: Chance) -> Iterator[Attachment]:
    if mobility.attach is not None:
        yield from (Attachment(one.at_us, one.to) for one in mobility.attach)
    elif mobility.trace is not None:
        series = experiment.recording(phone)
        yield from recording.attachments(series, cell_map(experiment, phone, series))
    elif mobility.path is not None:
        yield from _driven(experiment, phone, mobility, chance(phone))


def _driven(experiment: Experiment, phone: str, mobility: Mobility, gauss: radio.Gauss) -> Iterator[Attachment]:
    said = mobility.radio_model
    model = radio.Radio(
        said.exponent, said.hysteresis_mdb, said.time_to_trigger_us, said.shadowing_mdb, said.correlation_m
    )
    places = {name: at for name in stations(experiment) if (at := experiment.nodes[name].position) is not None}
    path = [radio.Waypoint(point.at_us, (point.x_m, point.y_m)) for point in mobility.path or ()]
    return radio.attachments(
        model,
        places,
        path,
        first=home(experiment, phone)[1],
        interruption_us=mobility.interruption_us,
        until_us=experiment.duration_us,
        gauss=gauss,
    )
