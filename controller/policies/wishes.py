"""What the experiment wants whatever the policy: options `pin` and `veto`, made part of the problem.

    policy: {name: joint, pin: {cam.ue1: mec, vit/head: edge1}, veto: [cloud]}

A pin's key is a stream or a model, whole or one unit of it (`vit/head`); a stream's own pin goes before its model's, a
unit's before the whole's. Since they are part of the problem, every policy that asks the table what is allowed obeys
them, and what does not is refused. A wish that can never be obeyed is a `BadOption` that says why.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.model import Model, PrivacyClass, Problem, Stream
from controller.policies.start import BadOption


def wished(problem: Problem, options: Mapping[str, Any]) -> Problem:
    """The problem with pins and vetoes; raises BadOption."""
    asked = replace(problem, vetoes=_vetoes(problem, options.get("veto")), pins=_pins(problem, options.get("pin")))
    hosts = {host.name: host for host in problem.hosts}
    models = {stream.name: problem.models[stream.model] for stream in problem.streams}
    for (stream, block), node in asked.pins.items():
        unit = models[stream].blocks[block]
        wish = f"policy option pin: {stream}/{unit.name} on {node}"
        if node in asked.vetoes:
            raise BadOption(f"{wish}: the option veto forbids {node}")
        for kind in _classes(models[stream], block):
            if kind in problem.zones and hosts[node].zone not in problem.zones[kind]:
                zones = ", ".join(sorted(problem.zones[kind]))
                raise BadOption(f"{wish}: its {kind} data may not enter zone {hosts[node].zone}, only {zones}")
        if (need := unit.weight_bytes + unit.kept_bytes + unit.working_bytes) > hosts[node].memory_bytes:
            raise BadOption(f"{wish}: needs {need} bytes, the node has {hosts[node].memory_bytes}")
    return asked


def _classes(model: Model, block: int) -> tuple[PrivacyClass, PrivacyClass]:
    before = model.blocks[block - 1].output_class if block else model.input_class
    return before, model.blocks[block].output_class


def _vetoes(problem: Problem, wanted: Any) -> frozenset[str]:
    if wanted is None:
        return frozenset()
    if isinstance(wanted, str) or not isinstance(wanted, list | tuple):
        raise BadOption(f"policy option veto: {wanted!r}; a list of nodes is right, such as [cloud]")
    for node in wanted:
        _node(problem, "veto", node)
    if len(set(wanted)) >= len(problem.hosts):
        raise BadOption("policy option veto: no node is left")
    return frozenset(wanted)


def _pins(problem: Problem, wanted: Any) -> dict[tuple[str, int], str]:
    if wanted is None:
        return {}
    if not isinstance(wanted, Mapping):
        raise BadOption(f"policy option pin: {wanted!r}; a map of stream, model or unit to node is right")
    found: dict[tuple[str, int], tuple[int, str]] = {}
    for key, node in wanted.items():
        _node(problem, f"pin.{key}", node)
        own, streams, unit = _about(problem, str(key))
        for stream in streams:
            names = [block.name for block in problem.models[stream.model].blocks]
            if unit and unit not in names:
                raise BadOption(f"policy option pin: {key}: no unit {unit!r}; there are {', '.join(names)}")
            rank = 2 * bool(unit) + own
            for block in [names.index(unit)] if unit else range(len(names)):
                if rank >= found.get((stream.name, block), (0, ""))[0]:
                    found[stream.name, block] = rank, node
    return {place: node for place, (_, node) in sorted(found.items())}


def _about(problem: Problem, key: str) -> tuple[bool, tuple[Stream, ...], str]:
    """(whether it names one stream, the streams that are meant, the unit or nothing)."""
    name, _, unit = key.partition("/")
    own = tuple(stream for stream in problem.streams if stream.name == name)
    streams = own or tuple(stream for stream in problem.streams if stream.model == name)
    if not streams:
        known = ", ".join([*(stream.name for stream in problem.streams), *problem.models])
        raise BadOption(f"policy option pin: no stream or model {name!r}; there are {known}")
    return bool(own), streams, unit


def _node(problem: Problem, option: str, node: Any) -> None:
    names = [host.name for host in problem.hosts]
    if node not in names:
        raise BadOption(f"policy option {option}: no node {node!r}; there are {', '.join(names)}")
