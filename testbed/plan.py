"""The compiled experiment: all that the emulation needs, in plain numbers. It is the only thing handed into a guest.

The experiment (YAML, traces, profiles) is checked and compiled outside; `plan.json` in the run folder is this value.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nodes.models.config import declare

Distribution = Literal["uniform", "normal", "pareto", "paretonormal"]


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Losses in bursts: a good and a bad state; a packet is judged by the state that it finds."""

    p_ppm: int  # good to bad, at each packet
    r_ppm: int  # bad to good: a bad time lasts 1/r packets in the mean
    bad_ppm: int = 1_000_000  # loss in the bad state, the literature's 1-h
    good_ppm: int = 0  # loss in the good state, 1-k


@dataclass(frozen=True, slots=True)
class Markov:
    """Four states: 1 received, 2 received inside a burst, 3 lost in a burst, 4 lost alone (after which comes 1)."""

    p13_ppm: int
    p31_ppm: int
    p32_ppm: int
    p23_ppm: int
    p14_ppm: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Packets leave in slots only: `min_us` to `max_us` apart, each for so many packets and bytes; 0 is no limit."""

    min_us: int
    max_us: int
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """One direction of a link, as netem will hold it."""

    rate_bps: int
    delay_us: int
    jitter_us: int = 0  # of a uniform distribution half its width, of the others the standard deviation
    loss_ppm: int = 0  # with a loss model its mean
    queue_packets: int = 1000  # on their way and waiting
    distribution: Distribution = "uniform"
    jitter_reorders: bool = False
    loss_model: GilbertElliott | Markov | None = None
    duplicate_ppm: int = 0
    corrupt_ppm: int = 0
    reorder_ppm: int = 0  # overtake all that is on its way
    reorder_gap: int = 0  # at least so many packets from one to the next; 0 with a share of 0
    slot: Slot | None = None
    overhead_bytes: int = 0  # of each packet, beside its Ethernet frame; may be negative
    cell_bytes: int = 0  # payload of a cell; 0: no cells
    cell_overhead_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostPlan:
    name: str
    kind: str  # phone | edge_server | mec_server | cloud
    zone: str
    ip: str  # "10.0.0.1"
    mac: str
    device: str  # the profile's name, for reports
    flops_per_s: int
    memory_bytes: int
    memory_bytes_per_s: int
    discipline: Literal["fifo", "ps"] = "fifo"
    cpus_ppm: int = 0  # with compute "cgroup": processors that its agent gets


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    name: str
    kind: str  # base_station | switch
    dpid: int


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """`up` shapes what `a` sends to `b`, `down` what `b` sends to `a`."""

    name: str
    a: str
    b: str
    up: Shape
    down: Shape


@dataclass(frozen=True, slots=True)
class ModelPlan:
    name: str  # the name in the experiment
    family: str  # vit_b16 | minilm | ... (nodes.models registry)
    weights_file: str  # absolute path of the safetensors file, read-only
    answers_file: str  # safetensors: "input.<i>" and "answer.<i>" of the unsplit model
    inputs: int  # how many different inputs; request k of a stream takes input k % inputs
    batch: int = 1  # waiting requests of a slice that may run together
    runtime: Literal["torch", "onnxruntime"] = "torch"
    graphs_folder: str = ""  # of the runtime onnxruntime (nodes.prepare.onnxexport)
    optimise: Literal["none", "torchscript", "int8"] = "none"  # of its slices (nodes.runtime.optimise)
    off_plain: float = 0.0  # relative error of the optimised model against the plain one, the worst of the inputs
    result_cache: int = 0  # answers that each phone keeps (nodes.phone.resultcache)
    grain: Literal["layers", "heads"] = "layers"
    prompt_bytes: int = 0  # of the longest of its own texts, which has no more tokens; 0: as long as the family's
    ffn_parts: int = 1  # with grain heads: blocks of columns of each feed-forward part
    proj_rows: bool = False  # with grain heads: blocks of rows of each projection
    description: str = ""  # of a model of one's own (nodes.models.described)


@dataclass(frozen=True, slots=True)
class GeneratePlan:
    """Each arrival begins a session, which asks for one token after another."""

    tokens: int
    deadline_us: int  # of a whole session
    end: int | None = None  # the token after which it is over


@dataclass(frozen=True, slots=True)
class StreamPlan:
    name: str
    model: str
    phone: str
    arrivals_us: tuple[int, ...]  # when each request is sent
    deadline_us: int
    generate: GeneratePlan | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One timed change. `shape` for links (whole set, after the change), `value` for the rest."""

    t_us: int
    what: Literal[
        "link", "load", "node_down", "node_up", "detach", "attach", "link_down", "link_up", "switch_down", "switch_up",
        "privacy",
    ]  # fmt: skip
    target: str  # link (that of a phone to detach and attach), or node, or privacy class
    direction: Literal["up", "down", ""] = ""
    shape: Shape | None = None
    value: int = 0  # load: ppm; detach: how long until it is attached, us
    place: str = ""  # detach, attach: the base station; privacy: the zones the class may enter, with commas
    cause: str = ""  # link_down, link_up: which failure; a link is up when no failure holds it down
    text: str = ""  # not empty: an event of the experiment, not a step of a trace


@dataclass(frozen=True, slots=True)
class SlaPlan:
    percentile: int
    latency_us: int
    window_us: int


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    seed: int
    clock: Literal["virtual", "real"]
    duration_us: int
    hosts: tuple[HostPlan, ...]
    switches: tuple[SwitchPlan, ...]
    links: tuple[LinkPlan, ...]
    models: tuple[ModelPlan, ...]
    streams: tuple[StreamPlan, ...]
    changes: tuple[Change, ...]  # ordered by t_us
    policy: str  # entry point name
    sla: SlaPlan
    policy_options: dict[str, Any] = field(default_factory=dict)
    detection: dict[str, Any] = field(default_factory=dict)  # of controller.detect.Rule; empty: its own
    zones: dict[str, tuple[str, ...]] = field(default_factory=dict)  # privacy class -> zones it may enter
    weights: Literal["prestaged", "transfer"] = "prestaged"
    kv: Literal["copy", "prefill", "replica", "auto"] = "copy"
    standby: tuple[str, ...] = ()  # hosts, in the order in which they stand by; (): as testbed.emulation.standby says
    numerics: bool = True
    wire: Literal["fp32", "fp16", "int8", "auto"] = "fp32"  # float32 between hosts
    encrypt: Literal["none", "sensitive", "all"] = "none"
    compute: Literal["model", "cgroup"] = "model"
    probes: bool = True  # of delays, while the run goes on
    datapath: Literal["user", "kernel"] = "kernel"  # Open vSwitch's
    telemetry_period_us: int = 1_000_000


def border(group: Collection[str], ends: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """The links between the nodes of a group and all others. `ends`: link -> its two nodes."""
    return tuple(name for name, (a, b) in ends.items() if (a in group) != (b in group))


def to_json(plan: Plan) -> str:
    return json.dumps(dataclasses.asdict(plan), indent=1)


def from_json(text: str) -> Plan:
    """The inverse of `to_json`; trusts its input, which the testbed itself has written.

    Models of one's own are then known to this process.
    """
    raw = json.loads(text)
    for model in raw["models"]:
        if model["description"]:
            declare(model["description"])
    return Plan(
        **{
            **raw,
            "hosts": tuple(HostPlan(**h) for h in raw["hosts"]),
            "switches": tuple(SwitchPlan(**s) for s in raw["switches"]),
            "links": tuple(
                LinkPlan(**{**link, "up": _shape(link["up"]), "down": _shape(link["down"])}) for link in raw["links"]
            ),
            "models": tuple(ModelPlan(**m) for m in raw["models"]),
            "streams": tuple(_stream(s) for s in raw["streams"]),
            "changes": tuple(
                Change(**{**c, "shape": None if c["shape"] is None else _shape(c["shape"])}) for c in raw["changes"]
            ),
            "sla": SlaPlan(**raw["sla"]),
            "zones": {k: tuple(v) for k, v in raw["zones"].items()},
            "standby": tuple(raw["standby"]),
        }
    )


def _stream(raw: dict[str, Any]) -> StreamPlan:
    generate = raw.get("generate")
    return StreamPlan(
        **{**raw, "arrivals_us": tuple(raw["arrivals_us"]), "generate": generate and GeneratePlan(**generate)}
    )


def _shape(raw: dict[str, Any]) -> Shape:
    model, slot = raw.get("loss_model"), raw.get("slot")
    return Shape(
        **{
            **raw,
            "loss_model": model and (Markov(**model) if "p13_ppm" in model else GilbertElliott(**model)),
            "slot": slot and Slot(**slot),
        }
    )
