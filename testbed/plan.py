"""The compiled experiment: all that the emulation needs, in plain numbers. It is the only thing handed into a guest.

The experiment (YAML, traces, profiles) is checked and compiled outside; `plan.json` in the run folder is this value.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """One direction of a link, as netem will hold it."""

    rate_bps: int
    delay_us: int
    jitter_us: int = 0
    loss_ppm: int = 0
    queue_packets: int = 1000


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


@dataclass(frozen=True, slots=True)
class StreamPlan:
    name: str
    model: str
    phone: str
    arrivals_us: tuple[int, ...]  # when each request is sent
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Change:
    """One timed change. `shape` for links (whole set, after the change), `value` for the rest."""

    t_us: int
    what: Literal["link", "load", "node_down", "node_up"]
    target: str  # link, or node
    direction: Literal["up", "down", ""] = ""
    shape: Shape | None = None
    value: int = 0  # load: ppm
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
    zones: dict[str, tuple[str, ...]] = field(default_factory=dict)  # privacy class -> zones it may enter
    weights: Literal["prestaged", "transfer"] = "prestaged"
    numerics: bool = True
    datapath: Literal["user", "kernel"] = "kernel"  # Open vSwitch's
    telemetry_period_us: int = 1_000_000


def to_json(plan: Plan) -> str:
    return json.dumps(dataclasses.asdict(plan), indent=1)


def from_json(text: str) -> Plan:
    """The inverse of `to_json`; trusts its input, which the testbed itself has written."""
    raw = json.loads(text)

    def shape(value: dict[str, Any] | None) -> Shape | None:
        return None if value is None else Shape(**value)

    return Plan(
        **{
            **raw,
            "hosts": tuple(HostPlan(**h) for h in raw["hosts"]),
            "switches": tuple(SwitchPlan(**s) for s in raw["switches"]),
            "links": tuple(
                LinkPlan(**{**link, "up": Shape(**link["up"]), "down": Shape(**link["down"])}) for link in raw["links"]
            ),
            "models": tuple(ModelPlan(**m) for m in raw["models"]),
            "streams": tuple(StreamPlan(**{**s, "arrivals_us": tuple(s["arrivals_us"])}) for s in raw["streams"]),
            "changes": tuple(Change(**{**c, "shape": shape(c["shape"])}) for c in raw["changes"]),
            "sla": SlaPlan(**raw["sla"]),
            "zones": {k: tuple(v) for k, v in raw["zones"].items()},
        }
    )
