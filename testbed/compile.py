"""A checked experiment to the plan that a kernel is given: addresses, shapes, arrivals, one ordered list of changes.

Pure but for the generators of chance it makes, one for each concern, from seeds derived from the experiment's by
hashing: adding a stream changes no other stream.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, get_args

from testbed.addresses import ip_of, mac_of
from testbed.devices import PROFILES
from testbed.experiment.schema import Event, Experiment, Impaired, Node, Way
from testbed.failures import cut_events, failure_changes
from testbed.handovers import handover_changes
from testbed.impairment import fields, loss_ppm, show
from testbed.plan import Change, GeneratePlan, HostPlan, LinkPlan, ModelPlan, Plan, SlaPlan, StreamPlan, SwitchPlan
from testbed.quantity import PPM, show_duration
from testbed.schedule import Lane, LinkEvent, schedule
from testbed.trace.series import Direction
from testbed.workload import arrivals_us

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Absolute paths of what was prepared for one model of the experiment."""

    weights: str
    answers: str
    inputs: int
    graphs: str = ""  # a folder, of the runtime onnxruntime
    off_plain: float = 0.0  # of an optimised model


def seed_for(seed: int, concern: str) -> int:
    """A 64-bit seed of its own for each concern, such as "arrivals:cam.ue1"."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{concern}".encode()).digest()[:8], "big")


def compile_plan(
    experiment: Experiment,
    model_files: Mapping[str, ModelFiles],
    clock: Literal["virtual", "real"] | None = None,
    *,
    replans: bool = True,
) -> Plan:
    """`clock` None takes the experiment's; `replans`: the kernel's netem does (testbed.schedule).

    Raises KeyError for a model without files.
    """
    lanes = list(_lanes(experiment))
    node_changes = [*_first_loads(experiment), *_traced_loads(experiment), *_node_events(experiment)]
    moves = list(handover_changes(experiment, lambda phone: _gauss(experiment.seed, phone)))
    node_changes += [*moves, *failure_changes(experiment, moves)]
    link_events = [*_link_events(experiment), *cut_events(experiment)]
    timed = schedule(lanes, link_events, node_changes, experiment.duration_us, replans=replans)
    return Plan(
        name=experiment.name,
        seed=experiment.seed,
        clock=clock or experiment.clock,
        duration_us=experiment.duration_us,
        hosts=tuple(_hosts(experiment)),
        switches=tuple(_switches(experiment)),
        links=tuple(
            LinkPlan(name, link.a, link.b, timed.shapes[name, "up"], timed.shapes[name, "down"])
            for name, link in experiment.links.items()
        ),
        models=tuple(_models(experiment, model_files)),
        streams=tuple(_streams(experiment)),
        changes=timed.changes,
        policy=experiment.policy.name,
        sla=SlaPlan(experiment.sla.percentile, experiment.sla.latency_us, experiment.sla.window_us),
        policy_options=experiment.policy.options,
        detection=experiment.detection.model_dump(),
        zones={
            kind: tuple(zones)
            for kind in ("raw", "feature", "public")
            if (zones := getattr(experiment.privacy, kind)) is not None
        },
        weights=experiment.weights,
        kv=experiment.kv,
        standby=experiment.standby,
        numerics=experiment.numerics,
        wire=experiment.wire,
        encrypt=experiment.encrypt,
        compute=experiment.compute,
        probes=experiment.probes,
        telemetry_period_us=experiment.telemetry_period_us,
    )


def _hosts(experiment: Experiment) -> Iterator[HostPlan]:
    hosts = [(name, node) for name, node in experiment.nodes.items() if node.is_host]
    for number, (name, node) in enumerate(hosts, start=1):
        yield _host(name, node, number)


def _host(name: str, node: Node, number: int) -> HostPlan:
    device = PROFILES[node.device or ""]
    return HostPlan(
        name=name,
        kind=node.kind,
        zone=node.home,
        ip=ip_of(number),
        mac=mac_of(number),
        device=node.device or "",
        flops_per_s=node.flops_per_s or device.flops_per_s,
        memory_bytes=node.memory_bytes or device.memory_bytes,
        memory_bytes_per_s=node.memory_bytes_per_s or device.memory_bytes_per_s,
        discipline=node.discipline,
        cpus_ppm=node.cpus_ppm or device.cpus_ppm or 0,
    )


def _switches(experiment: Experiment) -> Iterator[SwitchPlan]:
    switches = [(name, node.kind) for name, node in experiment.nodes.items() if not node.is_host]
    for dpid, (name, kind) in enumerate(switches, start=1):
        yield SwitchPlan(name, kind, dpid)


def _models(experiment: Experiment, files: Mapping[str, ModelFiles]) -> Iterator[ModelPlan]:
    for name, model in experiment.models.items():
        held, own = files[name], experiment.own_model(name)
        paths = (held.weights, held.answers, held.inputs)
        yield ModelPlan(
            name,
            model.family,
            *paths,
            model.batch,
            model.runtime,
            held.graphs,
            model.optimise,
            held.off_plain,
            model.result_cache,
            grain=model.grain,
            prompt_bytes=max((len(prompt.encode()) for prompt in model.prompts), default=0),
            ffn_parts=model.ffn_parts,
            proj_rows=model.proj_rows,
            description=own.description if own else "",
        )


def _streams(experiment: Experiment) -> Iterator[StreamPlan]:
    for flow_name, flow in experiment.workload.items():
        for phone in flow.phones:
            name = f"{flow_name}.{phone}"
            times = arrivals_us(
                flow.arrivals,
                flow.period_us,
                flow.start_us,
                min(flow.stop_us or experiment.duration_us, experiment.duration_us),
                Random(seed_for(experiment.seed, f"arrivals:{name}")),
                requests=flow.requests,
            )
            wish = flow.generate
            generate = GeneratePlan(wish.tokens, wish.deadline_us, wish.end) if wish else None
            yield StreamPlan(name, flow.model, phone, times, flow.deadline_us, generate)


def _lanes(experiment: Experiment) -> Iterator[Lane]:
    for name, link in experiment.links.items():
        for direction in DIRECTIONS:
            way: Way = link.way(direction)
            yield Lane(
                link=name,
                direction=direction,
                rate_bps=way.rate_bps,
                delay_us=way.delay_us,
                jitter_us=way.jitter_us or 0,
                loss_ppm=0 if way.loss is None else loss_ppm(way.loss),
                queue=way.queue,
                series=experiment.trace(name, direction),
                end=experiment.end_of(name, direction),
                scale_ppm=way.trace_scale_ppm or PPM,
                more=_more(way),
            )


def _link_events(experiment: Experiment) -> Iterator[LinkEvent]:
    for event in sorted(experiment.events, key=lambda event: event.at_us):
        if event.link is not None:
            yield LinkEvent(
                event.at_us,
                event.link,
                (event.direction,) if event.direction else DIRECTIONS,
                _text(event),
                event.rate_bps,
                event.scale_ppm,
                event.delay_us,
                event.jitter_us,
                None if event.loss is None else loss_ppm(event.loss),
                event.queue,
                _more(event),
                event.until_us,
                _text_after(event),
            )


def _more(said: Impaired) -> dict[str, Any]:
    """The fields of a `Shape` beside those that a trace can have and the queue."""
    given = {
        name: part
        for word, value in said.said().items()
        if word != "queue"
        for name, part in fields(word, value).items()
    }
    return {name: part for name, part in given.items() if name not in ("rate_bps", "delay_us", "jitter_us", "loss_ppm")}


def _gauss(seed: int, phone: str) -> Callable[[], float]:
    return partial(Random(seed_for(seed, f"shadowing:{phone}")).gauss, 0.0, 1.0)


def _text(event: Event) -> str:
    """ "backhaul up: rate 5Mbit, delay 40ms"."""
    scale = {"scale": f"{event.scale_ppm / 10_000:g}%"} if event.scale_ppm else {}
    said = {**scale, **{word: show(word, value) for word, value in event.said().items()}}
    lasting = f", for {show_duration(event.for_us)}" if event.for_us else ""
    return f"{_where(event)}: " + ", ".join(f"{word} {text}" for word, text in said.items()) + lasting


def _text_after(event: Event) -> str:
    words = [*(["scale"] if event.scale_ppm else []), *event.said()]
    return f"{_where(event)}: {', '.join(words)} as before"


def _where(event: Event) -> str:
    return f"{event.link} {event.direction}" if event.direction else f"{event.link}"


def _first_loads(experiment: Experiment) -> Iterator[Change]:
    """The background load a node begins with is no event: it has no text."""
    for name, node in experiment.nodes.items():
        if node.load_ppm:
            yield Change(0, "load", name, value=node.load_ppm)


def _traced_loads(experiment: Experiment) -> Iterator[Change]:
    """Steps of a trace are no events; an event of the node's load replaces the trace from then on."""
    for name, node in experiment.nodes.items():
        if (loads := experiment.loads(name)) is None:
            continue
        events = [event.at_us for event in experiment.events if event.load == name]
        until_us = min([*events, experiment.duration_us])
        for t_us, share_ppm in loads.changes(experiment.trace_end, until_us, node.load_ppm):
            yield Change(t_us, "load", name, value=share_ppm)


def _node_events(experiment: Experiment) -> Iterator[Change]:
    for event in experiment.events:
        if event.load is not None:
            share = event.share_ppm or 0
            yield Change(event.at_us, "load", event.load, value=share, text=f"{event.load}: load {share / 10_000:g}%")
        elif event.node_down is not None:
            yield Change(event.at_us, "node_down", event.node_down, text=f"{event.node_down}: down")
        elif event.node_up is not None:
            yield Change(event.at_us, "node_up", event.node_up, text=f"{event.node_up}: up")
        elif event.privacy is not None:
            for kind, zones in event.privacy.model_dump(exclude_none=True).items():
                text = f"privacy: {kind} only in {', '.join(zones)}"
                yield Change(event.at_us, "privacy", kind, place=",".join(zones), text=text)
