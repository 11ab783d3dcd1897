"""What the sections of an experiment say of each other: references, the shape of the network, times, units of events.

Pure. Each check is a generator of (place, why); all of them run, so that one look shows every fault.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import get_args

from nodes.models.config import CONFIGS
from nodes.models.decoders import GptConfig, LlamaConfig, WhisperConfig
from testbed.devices import PROFILES
from testbed.experiment.failing import KEYS, failing, failure
from testbed.experiment.mobility_checks import mobility
from testbed.experiment.reader import Where
from testbed.experiment.schema import Event, Experiment, ModelUse, Privacy
from testbed.experiment.wording import nearest
from testbed.impairment import WORDS
from testbed.trace.series import Direction

_CPUS = next(name for name, device in PROFILES.items() if device.cpus_ppm)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
MAX_HOSTS = 200  # 10.0.0.1 to 10.0.0.200
MAX_SWITCHES = 100
MAX_REQUESTS = 200_000
MAX_DURATION_US = 24 * 3600 * 10**6

Finding = tuple[Where, str]
Findings = Iterator[Finding]


def check(experiment: Experiment, families: Sequence[str], policies: Sequence[str] | None) -> list[Finding]:
    """Every fault there is beside those of traces."""
    named: list[Finding] = list(chain(_families(experiment, families), _policy(experiment, policies)))
    return named + [finding for one in _CHECKS for finding in one(experiment)]


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _families(experiment: Experiment, families: Sequence[str]) -> Findings:
    for name, model in experiment.models.items():
        if model.module is not None:
            yield from _own_module(name, model)
        elif not model.family:
            yield ("models", name), f"no family, and no module of one's own; {nearest('', families)}"
        elif model.family not in families:
            yield (
                ("models", name, "family"),
                f"no model family '{model.family[:60]}'; {nearest(model.family, families)}",
            )
        elif model.runtime != "torch" and hasattr(CONFIGS.get(model.family), "enters"):
            why = f"'{model.family}' generates text, which {model.runtime} does not do here; torch is right"
            yield ("models", name, "runtime"), why
        yield from _optimised(name, model)


def _own_module(name: str, model: ModelUse) -> Findings:
    """A module brings its inputs and runs as it is."""
    if model.family:
        yield ("models", name, "family"), "there is a module beside it; one of the two is right"
    for key in ("runtime", "grain", "optimise", "prompts", "inputs", "ffn_parts", "proj_rows"):
        if key in model.model_fields_set:
            yield ("models", name, key), "says nothing of a module of one's own; leave it out"


def _optimised(name: str, model: ModelUse) -> Findings:
    config = CONFIGS.get(model.family)
    if model.optimise != "none" and config is not None:
        place = ("models", name, "optimise")
        if model.runtime != "torch":
            yield place, f"{model.runtime} runs its own graphs; leave it out"
        elif hasattr(config, "enters"):
            yield place, f"'{model.family}' generates text, of which slices run as they are; leave it out"
        elif model.optimise == "torchscript" and -1 in config.input_shape:
            yield place, f"'{model.family}' takes inputs of any length, and a trace is of one; int8 is right"


def _policy(experiment: Experiment, policies: Sequence[str] | None) -> Findings:
    name = experiment.policy.name
    if policies is not None and name not in policies and ":" not in name:
        yield ("policy", "name"), f"no policy '{name}'; {nearest(name, policies)}"


def _nodes(experiment: Experiment) -> Findings:
    hosts = [node for node in experiment.nodes.values() if node.is_host]
    if len(hosts) > MAX_HOSTS or len(experiment.nodes) - len(hosts) > MAX_SWITCHES:
        yield ("nodes",), f"at most {MAX_HOSTS} hosts and {MAX_SWITCHES} switches are right"
    for name, node in experiment.nodes.items():
        if node.is_host and node.device is None:
            yield ("nodes", name, "device"), f"is missing; {_a(node.kind)} has a device: {', '.join(PROFILES)}"
        elif node.is_host and node.device not in PROFILES:
            yield (
                ("nodes", name, "device"),
                f"no device '{str(node.device)[:60]}'; {nearest(str(node.device), list(PROFILES))}",
            )
        if node.load_ppm >= 1_000_000:
            yield ("nodes", name, "load"), "100% leaves nothing; less is right"
        if not node.is_host:
            for key, value in (
                ("device", node.device),
                ("flops", node.flops_per_s),
                ("memory", node.memory_bytes),
                ("memory_bandwidth", node.memory_bytes_per_s),
                ("load", node.load_ppm or None),
                ("load_trace", node.load_trace),
                ("cpus", node.cpus_ppm),
                ("discipline", "ps" if node.discipline == "ps" else None),
                ("zone", node.zone),
            ):
                if value is not None:
                    yield ("nodes", name, key), f"a {node.kind} computes nothing; leave it out"


def _compute(experiment: Experiment) -> Findings:
    """What control groups cannot do."""
    for name, node in experiment.nodes.items():
        said: dict[str, object] = {"cpus": node.cpus_ppm}
        if experiment.compute == "cgroup":
            said = {"load": node.load_ppm or None, "load_trace": node.load_trace}
            said["discipline"] = "ps" if node.discipline == "ps" else None
            if node.is_host and not (node.cpus_ppm or getattr(PROFILES.get(node.device or ""), "cpus_ppm", None)):
                yield ("nodes", name), f"no processors are said for compute: cgroup; a device such as {_CPUS} or 'cpus'"
        for key, value in said.items():
            if value is not None:
                yield ("nodes", name, key), f"does nothing with compute: {experiment.compute}; leave it out"
    if experiment.compute == "cgroup":
        if not experiment.numerics:
            yield ("numerics",), "with compute: cgroup the numbers are what takes the time; leave it on"
        for index, event in enumerate(experiment.events):
            if event.load is not None:
                yield ("events", index, "load"), "does nothing with compute: cgroup; leave it out"


def _links(experiment: Experiment) -> Findings:
    pairs: dict[frozenset[str], str] = {}
    for name, link in experiment.links.items():
        place = ("links", name)
        missing = [(key, end) for key, end in (("from", link.a), ("to", link.b)) if end not in experiment.nodes]
        for key, end in missing:
            yield (*place, key), f"no node '{end[:60]}'; {nearest(end, list(experiment.nodes))}"
        if missing:
            continue
        if link.a == link.b:
            yield (*place, "to"), f"'{link.a}' is linked with itself; two different nodes are right"
            continue
        if experiment.nodes[link.a].is_host and experiment.nodes[link.b].is_host:
            yield place, f"links two hosts, '{link.a}' and '{link.b}'; a host is linked to a base_station or a switch"
        twin = pairs.setdefault(frozenset((link.a, link.b)), name)
        if twin != name:
            yield place, f"'{link.a}' and '{link.b}' are linked by '{twin}' already; one link is right"


def _impairments(experiment: Experiment) -> Findings:
    for name, link in experiment.links.items():
        for direction in DIRECTIONS:
            way = link.way(direction)
            if way.reorder and way.reorder.share_ppm and way.delay_us == 0:
                yield ("links", name, direction, "reorder"), "there is no delay, so nothing can be overtaken; add one"


def _reach(experiment: Experiment) -> Findings:
    """One link a host, and one network."""
    links: dict[str, list[str]] = {name: [] for name in experiment.nodes}
    for name, link in experiment.links.items():
        if link.a in links and link.b in links and link.a != link.b:
            links[link.a].append(name)
            links[link.b].append(name)
    for name, node in experiment.nodes.items():
        if node.is_host and len(links[name]) != 1:
            what = f"has {len(links[name])} links ({', '.join(links[name])})" if links[name] else "has no link"
            yield ("nodes", name), f"{what}; {_a(node.kind)} has exactly one, to a base_station or a switch"
    linked = [name for name in links if links[name]]
    reached, front = set(linked[:1]), linked[:1]
    while front:
        near = front.pop()
        for link in (experiment.links[name] for name in links[near]):
            for far in {link.a, link.b} - reached:
                reached.add(far)
                front.append(far)
    for name, node in experiment.nodes.items():
        if name not in reached and (links[name] or not node.is_host):
            yield ("nodes", name), f"cannot be reached from '{linked[0] if linked else '?'}'; add a link"


def _workload(experiment: Experiment) -> Findings:
    requests = 0
    for name, flow in experiment.workload.items():
        place = ("workload", name)
        if flow.model not in experiment.models:
            yield (*place, "model"), f"no model '{flow.model[:60]}'; {nearest(flow.model, list(experiment.models))}"
        phones = [node for node, what in experiment.nodes.items() if what.kind == "phone"]
        for index, phone in enumerate(flow.phones):
            if phone not in phones:
                yield (*place, "phones", index), f"no phone '{phone[:60]}'; {nearest(phone, phones)}"
            elif phone in flow.phones[:index]:
                yield (*place, "phones", index), f"'{phone}' is there twice; once is right"
        stop_us = min(flow.stop_us or experiment.duration_us, experiment.duration_us)
        if flow.start_us >= stop_us:
            yield (*place, "start"), "no time is left to send in; a start before stop and before the end is right"
        each = (stop_us - flow.start_us) // flow.period_us
        rounds = flow.generate.tokens if flow.generate else 1
        requests += len(flow.phones) * min(each, flow.requests or each) * rounds
    if requests > MAX_REQUESTS:
        yield ("workload",), f"about {requests} requests; at most {MAX_REQUESTS} are right"


def _standby(experiment: Experiment) -> Findings:
    if experiment.standby and experiment.kv not in {"replica", "auto"}:
        yield ("standby",), f"nobody stands by with kv: {experiment.kv}; it needs kv: replica or kv: auto"
    if experiment.kv == "replica" and not any(flow.generate for flow in experiment.workload.values()):
        yield ("kv",), "no flow generates, so there is nothing to stand by with; leave it out"
    for i, name in enumerate(experiment.standby):
        node = experiment.nodes.get(name)
        if node is None:
            yield ("standby", i), f"no node '{name}'; {nearest(name, list(experiment.nodes))}"
        elif not node.is_host:
            yield ("standby", i), f"'{name}' is a {node.kind}, it computes nothing; a node with a device can stand by"
        elif name in experiment.standby[:i]:
            yield ("standby", i), f"'{name}' is there twice; once is right"


def _generation(experiment: Experiment) -> Findings:
    for name, model in experiment.models.items():
        config = CONFIGS.get(model.family)
        if model.prompts and config is not None and not isinstance(config, GptConfig | LlamaConfig):
            yield ("models", name, "prompts"), f"'{model.family}' takes no texts of one's own; leave it out"
        if model.grain == "heads":
            yield from _by_heads(experiment, name)
        elif model.ffn_parts != 1 or model.proj_rows:
            key = "proj_rows" if model.proj_rows else "ffn_parts"
            yield ("models", name, key), "cuts layers that are placed by parts; it needs grain: heads"
    yield from _standby(experiment)
    for name, flow in experiment.workload.items():
        use = experiment.models.get(flow.model)
        config = CONFIGS.get(use.family) if use else None
        if flow.generate is not None and use is not None and use.module is not None:
            yield ("workload", name, "generate"), "a module of one's own gives one answer; leave it out"
        if flow.generate is None or use is None or config is None:
            continue
        if use.result_cache:
            yield ("models", flow.model, "result_cache"), f"'{name}' asks for sessions, whose answers are not kept"
        place = ("workload", name, "generate")
        if not isinstance(config, GptConfig | LlamaConfig | WhisperConfig):
            yield place, f"'{use.family}' generates nothing; a family such as 'smollm2' does"
        elif flow.generate.tokens >= config.positions:
            yield (*place, "tokens"), f"'{use.family}' knows {config.positions} positions; fewer tokens are right"


def _by_heads(experiment: Experiment, name: str) -> Findings:
    model, place = experiment.models[name], ("models", name, "grain")
    if model.family in CONFIGS and not isinstance(CONFIGS[model.family], GptConfig | LlamaConfig):
        yield place, f"the layers of '{model.family}' have no heads to place; a family such as 'smollm2' has"
    if model.runtime != "torch" or model.optimise != "none":
        yield place, "parts of layers run in plain torch; leave runtime and optimise out"


def _times(experiment: Experiment) -> Findings:
    if experiment.duration_us > MAX_DURATION_US:
        yield ("duration",), "more than a day; at most 24h is right"
    rule = experiment.detection
    if rule.rise_ppm == 0:
        yield ("detection", "rise"), "everything would be a rise; 20% is usual"
    if rule.hysteresis_ppm > rule.rise_ppm:
        yield ("detection", "hysteresis"), "wider than the rise; at most the rise is right"
    if rule.method == "cusum" and rule.drift_ppm >= rule.rise_ppm:
        yield ("detection", "drift"), "nothing would ever be found; less than the rise is right, half of it is usual"
    if experiment.sla.window_us > experiment.duration_us:
        yield ("sla", "window"), "longer than the experiment; 5s is usual"
    if not 50_000 <= experiment.telemetry_period_us <= 60_000_000:
        yield ("telemetry_period",), "50ms to 60s are right"
    for index, event in enumerate(experiment.events):
        if event.at_us >= experiment.duration_us:
            yield ("events", index, "at"), "lies behind the end of the experiment; an earlier time is right"


def _privacy(experiment: Experiment) -> Findings:
    zones = sorted({node.home for node in experiment.nodes.values() if node.is_host})
    said: list[tuple[tuple[str | int, ...], Privacy]] = [(("privacy",), experiment.privacy)]
    for event_index, event in enumerate(experiment.events):
        if event.privacy is not None:
            said.append((("events", event_index, "privacy"), event.privacy))
            if not event.privacy.model_dump(exclude_none=True):
                yield ("events", event_index, "privacy"), "names no class; raw, feature or public is right"
    for place, privacy in said:
        for kind in ("raw", "feature", "public"):
            for index, zone in enumerate(getattr(privacy, kind) or ()):
                if zone not in zones:
                    yield (*place, kind, index), f"no node is in zone '{zone[:60]}'; {nearest(zone, zones)}"


_LINK_KEYS = ("rate", "scale", *(word for word in WORDS if word != "rate"))
_SUBJECTS = ("link", "load", "node_down", "node_up", "privacy", *KEYS)
_ALLOWED = {"link": {"direction", "for", *_LINK_KEYS}, "load": {"share"}, **KEYS}  # beside `at`


def _events(experiment: Experiment) -> Findings:
    for index, event in enumerate(experiment.events):
        said = set(event.model_dump(by_alias=True, exclude_none=True))
        subjects = [key for key in _SUBJECTS if key in said]
        if len(subjects) != 1:
            found = " and ".join(subjects) or "none"
            yield ("events", index), f"{found} of {', '.join(_SUBJECTS)} is there; exactly one is right"
            continue
        subject = subjects[0]
        allowed = {"at", subject} | _ALLOWED.get(subject, set())
        for key in sorted(said - allowed):
            yield (
                ("events", index, key),
                f"does not belong to a {subject} event; right are {', '.join(sorted(allowed))}",
            )
        if subject == "link":
            yield from _link_event(experiment, index, event, said)
        elif subject == "privacy":
            continue
        elif subject in KEYS:
            yield from failure(experiment, index, event, subject)
        else:
            yield from _node_event(experiment, index, event, subject)


def _link_event(experiment: Experiment, index: int, event: Event, said: set[str]) -> Findings:
    place = ("events", index)
    if event.link not in experiment.links:
        yield (*place, "link"), f"no link '{str(event.link)[:60]}'; {nearest(str(event.link), list(experiment.links))}"
    elif not said & set(_LINK_KEYS):
        traced = any(experiment.links[event.link].way(direction).trace for direction in ("up", "down"))
        hint = " (rate replaces the trace's from then on, scale multiplies it)" if traced else ""
        yield place, f"changes nothing; say one of {', '.join(_LINK_KEYS)}{hint}"
    if {"rate", "scale"} <= said:
        yield (*place, "scale"), "rate and scale together are ambiguous; rate replaces, scale multiplies: keep one"


def _node_event(experiment: Experiment, index: int, event: Event, subject: str) -> Findings:
    name = getattr(event, subject)
    hosts = [node for node, what in experiment.nodes.items() if what.is_host]
    if name not in hosts:
        yield ("events", index, subject), f"no host '{name[:60]}'; {nearest(name, hosts)}"
    if subject == "load" and event.share_ppm is None:
        yield ("events", index, "share"), "is missing; the background load of the processor, such as '60%'"
    if subject == "load" and event.share_ppm == 1_000_000:
        yield ("events", index, "share"), "100% leaves nothing; less is right (node_down takes a node away)"


_CHECKS: tuple[Callable[[Experiment], Findings], ...] = (
    _nodes,
    _compute,
    _links,
    _impairments,
    _reach,
    _workload,
    _generation,
    _times,
    _privacy,
    _events,
    failing,
    mobility,
)
