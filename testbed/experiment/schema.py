"""The experiment as its author writes it: sections, fields, units. Pure; what one field says of another is in `checks`.

Field names carry the unit, their aliases are the words of the file. Every section refuses keys it does not know.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, StringConstraints

from testbed import impairment, quantity
from testbed.experiment.mobility import Mobility
from testbed.experiment.section import Duration, LongerThanZero, Name, Point, Section, TraceName
from testbed.plan import Distribution
from testbed.plan import Slot as PlanSlot
from testbed.trace.loads import Loads
from testbed.trace.series import Direction, EndPolicy, Series

HostKind = Literal["phone", "edge_server", "mec_server", "cloud"]
HOST_KINDS: tuple[str, ...] = get_args(HostKind)
ZONES = {"phone": "device", "edge_server": "edge", "mec_server": "mec", "cloud": "cloud"}  # of a host that names none


def _percentile(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"p[1-9][0-9]?", value, re.ASCII):
        return int(value[1:])
    raise ValueError(f"{value!r} is no percentile; p1 to p99 are right, such as 'p95'")


def _switch_word(value: object) -> object:
    """`on` and `off` are text to the reader, and plain words to people."""
    return {"on": True, "off": False}.get(value, value) if isinstance(value, str) else value


Title = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}\z")]
Rate = Annotated[int, BeforeValidator(quantity.rate_bps)]
Share = Annotated[int, BeforeValidator(quantity.share_ppm)]
Scale = Annotated[int, BeforeValidator(quantity.scale_ppm)]
Period = Annotated[int, BeforeValidator(quantity.period_us)]
Queue = Annotated[quantity.Queue, BeforeValidator(quantity.queue)]
Jitter = Annotated[int, BeforeValidator(quantity.jitter_us)]
Loss = Annotated[impairment.Loss, BeforeValidator(impairment.loss)]
Reorder = Annotated[impairment.Reorder, BeforeValidator(impairment.reorder)]
Slot = Annotated[PlanSlot, BeforeValidator(impairment.slot)]
Cell = Annotated[impairment.Cell, BeforeValidator(impairment.cell)]
Overhead = Annotated[int, BeforeValidator(impairment.overhead_bytes)]
Delays = Annotated[Distribution, BeforeValidator(impairment.distribution)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Switch = Annotated[bool, BeforeValidator(_switch_word)]


class Node(Section):
    kind: Literal["phone", "edge_server", "mec_server", "cloud", "base_station", "switch"]
    device: str | None = None
    zone: Name | None = None
    flops_per_s: Annotated[int, BeforeValidator(quantity.flops_per_s)] | None = Field(None, alias="flops")
    memory_bytes: Annotated[int, BeforeValidator(quantity.size_bytes)] | None = Field(None, alias="memory")
    memory_bytes_per_s: Annotated[int, BeforeValidator(quantity.bytes_per_s)] | None = Field(
        None, alias="memory_bandwidth"
    )
    discipline: Literal["fifo", "ps"] = "fifo"
    load_ppm: Share = Field(0, alias="load")
    load_trace: TraceName | None = None
    cpus_ppm: Scale | None = Field(None, alias="cpus")  # with `compute: cgroup`
    position: Point | None = None

    @property
    def is_host(self) -> bool:
        return self.kind in HOST_KINDS

    @property
    def home(self) -> str:
        """Its zone, or that of its kind."""
        return self.zone or ZONES.get(self.kind, "")


class Impaired(Section):
    """What a link direction does to packets; the readers of the words, and what they mean, are in `impairment`."""

    rate_bps: Rate | None = Field(None, alias="rate")
    overhead_bytes: Overhead | None = Field(None, alias="overhead")
    cell: Cell | None = None
    delay_us: Duration | None = Field(None, alias="delay")
    jitter_us: Jitter | None = Field(None, alias="jitter")
    distribution: Delays | None = None
    reorder: Reorder | None = None
    loss: Loss | None = None
    duplicate_ppm: Share | None = Field(None, alias="duplicate")
    corrupt_ppm: Share | None = Field(None, alias="corrupt")
    slot: Slot | None = None
    queue: Queue | None = None

    def said(self) -> dict[str, Any]:
        """Word -> value, of all that is said."""
        names = ((info.alias or name, getattr(self, name)) for name, info in Impaired.model_fields.items())
        return {word: value for word, value in names if value is not None}


class Way(Impaired):
    """One direction of a link, or both."""

    trace: TraceName | None = None
    trace_end: EndPolicy | None = None
    trace_scale_ppm: Scale | None = Field(None, alias="trace_scale")


class Link(Section):
    """`up` is what `from` sends to `to`; what a direction leaves out it takes from `both`, then from the link."""

    a: str = Field(alias="from")
    b: str = Field(alias="to")
    both: Way | None = None
    up: Way | None = None
    down: Way | None = None
    trace: TraceName | None = None
    trace_end: EndPolicy | None = None
    trace_scale_ppm: Scale | None = Field(None, alias="trace_scale")

    def way(self, direction: Direction) -> Way:
        """All that is said of a direction, the nearest word first."""
        merged: dict[str, Any] = {}
        for part in (self, self.both, getattr(self, direction)):
            for name in Way.model_fields:
                value = getattr(part, name, None)
                if value is not None:
                    merged[name] = value
        return Way.model_construct(**merged)

    def trace_place(self, direction: Direction) -> tuple[str, ...]:
        """Where in the link the trace of a direction is named."""
        for place in (direction, "both"):
            part: Way | None = getattr(self, place)
            if part is not None and part.trace is not None:
                return place, "trace"
        return ("trace",)


# path/to/file.py:name
MODULE = r"^[^\x00-\x1f]{1,4000}\.py:[A-Za-z_]\w{0,79}\z"


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What was made of a module of one's own: its description, and absolute paths."""

    description: str
    weights_file: str
    answers_file: str


class ModelUse(Section):
    """One of the families, or a module of one's own."""

    family: str = ""
    module: str | None = Field(None, pattern=MODULE)  # a function of a file, which gives the module and its inputs
    runtime: Literal["torch", "onnxruntime"] = "torch"
    grain: Literal["layers", "heads"] = "layers"  # what is placed: whole units, or of layers each head and what follows
    ffn_parts: int = Field(1, ge=1, le=16)  # with grain heads: how many blocks of columns each feed-forward part is
    proj_rows: bool = False  # with grain heads: the projection may be cut into rows, those of a head beside it
    inputs: int = Field(8, ge=1, le=256)  # of one's own: as many as it brings
    batch: int = Field(1, ge=1, le=256)  # waiting requests of a slice that may run together
    prompts: tuple[Prompt, ...] = Field((), max_length=256)  # the inputs, where they are texts of one's own
    optimise: Literal["none", "torchscript", "int8"] = "none"  # of its slices
    result_cache: int = Field(0, ge=0, le=100_000)  # answers that each phone keeps; 0: none


class Generation(Section):
    """Tokens of each session, fewer if `end` comes; a session is over at its deadline, however far it is."""

    tokens: int = Field(ge=1, le=4096)
    deadline_us: LongerThanZero = Field(60_000_000, alias="deadline")
    end: int | None = Field(None, ge=0)


class Flow(Section):
    """Requests of some phones to one model."""

    model: str
    phones: tuple[str, ...] = Field(min_length=1, max_length=200)
    period_us: Period = Field(alias="rate")
    arrivals: Literal["poisson", "periodic"] = "periodic"
    deadline_us: LongerThanZero = Field(5_000_000, alias="deadline")
    requests: int | None = Field(None, ge=1, le=100_000)
    generate: Generation | None = None
    start_us: Duration = Field(0, alias="start")
    stop_us: LongerThanZero | None = Field(None, alias="stop")


# an entry point, or path/to/file.py:Name
POLICY = r"^([a-z][a-z0-9_]{0,39}|[^\x00-\x1f]{1,4000}\.py:[A-Za-z_]\w{0,79})\z"


class PolicyUse(Section):
    """Keys beside the name are the policy's own options, handed on as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, hide_input_in_errors=True)
    name: Annotated[str, StringConstraints(pattern=POLICY)]

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Privacy(Section):
    """The zones that data of a class may enter; a class that is absent may go anywhere."""

    raw: tuple[str, ...] | None = Field(None, min_length=1, max_length=100)
    feature: tuple[str, ...] | None = Field(None, min_length=1, max_length=100)
    public: tuple[str, ...] | None = Field(None, min_length=1, max_length=100)


class Event(Impaired):
    """Exactly one of link, load, node_down, node_up, privacy and the failures says what it is about."""

    at_us: Duration = Field(alias="at")
    link: str | None = None
    direction: Direction | None = None
    scale_ppm: Scale | None = Field(None, alias="scale")
    load: str | None = None
    share_ppm: Share | None = Field(None, alias="share")
    node_down: str | None = None
    node_up: str | None = None
    privacy: Privacy | None = None  # from then on; classes that are not said stay as they are
    link_down: str | None = None
    link_up: str | None = None
    flap: str | None = None  # of a link
    cut: str | None = None  # a direction of a link, or both
    mend: str | None = None
    partition: tuple[str, ...] | None = Field(None, min_length=1, max_length=300)
    heal: tuple[str, ...] | None = Field(None, min_length=1, max_length=300)
    switch_down: str | None = None
    switch_up: str | None = None
    for_us: LongerThanZero | None = Field(None, alias="for")
    period_us: LongerThanZero | None = Field(None, alias="period")
    times: int | None = Field(None, ge=1, le=1000)

    @property
    def until_us(self) -> int | None:
        """When it ends by itself."""
        return None if self.for_us is None else self.at_us + self.for_us


class SlaWish(Section):
    percentile: Annotated[int, BeforeValidator(_percentile)]
    latency_us: LongerThanZero = Field(alias="latency")
    window_us: LongerThanZero = Field(alias="window")


class Detection(Section):
    """The rule of change detection; what each word means stands in controller/rule.py."""

    method: Literal["count", "cusum"] = "count"
    rise_ppm: Share = Field(200_000, alias="rise")
    hysteresis_ppm: Share = Field(100_000, alias="hysteresis")
    windows: int = Field(2, ge=1, le=100)
    learn: int = Field(3, ge=1, le=100)
    cooldown_us: Duration = Field(5_000_000, alias="cooldown")
    drift_ppm: Share = Field(100_000, alias="drift")


class Experiment(Section):
    name: Title
    duration_us: LongerThanZero = Field(alias="duration")
    seed: int = Field(ge=0, lt=2**63)
    clock: Literal["virtual", "real"] = "virtual"
    nodes: dict[Name, Node] = Field(min_length=1, max_length=300)
    links: dict[Name, Link] = Field(min_length=1, max_length=1000)
    models: dict[Name, ModelUse] = Field(min_length=1, max_length=50)
    workload: dict[Name, Flow] = Field(min_length=1, max_length=100)
    policy: PolicyUse
    events: tuple[Event, ...] = Field((), max_length=1000)
    mobility: dict[Name, Mobility] = Field(default_factory=dict, max_length=200)
    sla: SlaWish
    detection: Detection = Field(default_factory=lambda: Detection.model_validate({}))
    privacy: Privacy = Field(default_factory=lambda: Privacy.model_validate({}))
    weights: Literal["prestaged", "transfer"] = "prestaged"
    kv: Literal["copy", "prefill", "replica", "auto"] = "copy"  # keys and values of a generation whose slice moves
    standby: tuple[Name, ...] = Field((), max_length=300)  # who stands by (kv: replica, auto): the first that can
    numerics: Switch = True
    wire: Literal["fp32", "fp16", "int8", "auto"] = "fp32"
    encrypt: Literal["none", "sensitive", "all"] = "none"
    compute: Literal["model", "cgroup"] = "model"
    probes: Switch = True
    telemetry_period_us: LongerThanZero = Field(1_000_000, alias="telemetry_period")
    trace_end: EndPolicy = "loop"

    _traces: dict[tuple[str, Direction], Series] = PrivateAttr(default_factory=dict)
    _recordings: dict[str, Series] = PrivateAttr(default_factory=dict)
    _loads: dict[str, Loads] = PrivateAttr(default_factory=dict)
    _notes: tuple[str, ...] = PrivateAttr(default=())
    _own_models: dict[str, OwnModel] = PrivateAttr(default_factory=dict)

    def trace(self, link: str, direction: Direction) -> Series | None:
        """The trace that a direction of a link replays."""
        return self._traces.get((link, direction))

    def recording(self, phone: str) -> Series:
        """The drive that a phone repeats; KeyError for one that repeats none."""
        return self._recordings[phone]

    def loads(self, node: str) -> Loads | None:
        """The trace of its background load."""
        return self._loads.get(node)

    def own_model(self, name: str) -> OwnModel | None:
        """What was made of a model that is a module of one's own (testbed.ownmodels)."""
        return self._own_models.get(name)

    def end_of(self, link: str, direction: Direction) -> EndPolicy:
        return self.links[link].way(direction).trace_end or self.trace_end

    @property
    def notes(self) -> tuple[str, ...]:
        """What is right but worth knowing: a trace shorter than the run, rates of zero."""
        return self._notes
