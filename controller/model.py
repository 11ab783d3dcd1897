"""The decision problem: what is to be placed, where it can go, what is known now, and what was decided.

Everything here is a frozen value. Integers carry their unit in the name; a path that does not exist has
rate 0. `Problem` never changes during a run, `Snapshot` is new each period.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from controller.sited import Paths

PrivacyClass = Literal["raw", "feature", "public"]
Action = Literal["KEEP", "REMAP", "RESPLIT", "INFEASIBLE"]


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of placement: one unit of a model (a layer), or a part of a layer, run whole on one node."""

    name: str
    flops: int
    weight_bytes: int
    output_bytes: int  # what crosses the cut behind this block
    working_bytes: int = 0  # activations held while it runs
    output_class: PrivacyClass = "feature"
    formula_cost: int = 0  # AMP4EC's layer cost (paper 001, equations 1, 2 and 12); 0: nobody said
    unit: int = 0  # where some blocks are parts: the unit that it is, or is part of
    part: str = ""  # of that unit: "heads:3", "proj", "mlp" (controller/parts.py); empty: all of it
    read_bytes: int = 0  # between processor and memory: weights, input, output, keys and values
    kept_bytes: int = 0  # what all sessions keep in it, in memory beside the weights: keys and values


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    blocks: tuple[Block, ...]
    input_bytes: int
    input_class: PrivacyClass = "raw"


@dataclass(frozen=True, slots=True)
class Stream:
    """One phone's requests to one model; placed on its own."""

    name: str
    model: str
    source: str  # the phone: input starts here, the answer ends here
    period_us: int  # mean time between two requests


@dataclass(frozen=True, slots=True)
class Host:
    """What of a node never changes: where it is and what it can do."""

    name: str
    zone: str
    flops_per_s: int
    memory_bytes: int
    memory_bytes_per_s: int = 0  # between processor and memory; 0: no limit


@dataclass(frozen=True, slots=True)
class Sla:
    percentile: int  # 95
    latency_us: int
    window_us: int


@dataclass(frozen=True, slots=True)
class Problem:
    hosts: tuple[Host, ...]
    models: Mapping[str, Model]
    streams: tuple[Stream, ...]
    sla: Sla
    # zones that data of a class may enter; a class that is absent may go anywhere
    zones: Mapping[PrivacyClass, frozenset[str]] = field(default_factory=dict)
    weights: Literal["prestaged", "transfer"] = "prestaged"
    hop_overhead_us: int = 1000  # framing, RPC and TCP start of one hop
    seed: int = 0
    pins: Mapping[tuple[str, int], str] = field(default_factory=dict)  # (stream, block) -> the node it must be on
    vetoes: frozenset[str] = frozenset()  # nodes that must hold nothing


@dataclass(frozen=True, slots=True)
class NodeState:
    """What an agent last said of itself."""

    up: bool
    load_ppm: int  # share of the processor that background work takes, 0..1_000_000
    queue_us: int  # modelled work waiting


@dataclass(frozen=True, slots=True, eq=False)
class NodeStates(Sequence[NodeState]):
    """The states of many nodes as arrays; to a reader the same as a tuple of `NodeState`."""

    up: npt.NDArray[np.bool_]  # (N,)
    load_ppm: npt.NDArray[np.int64]  # (N,)
    queue_us: npt.NDArray[np.int64]  # (N,)

    @classmethod
    def of(cls, states: Sequence[NodeState]) -> "NodeStates":
        if isinstance(states, cls):
            return states
        up, load, queue = zip(*((s.up, s.load_ppm, s.queue_us) for s in states), strict=True)
        return cls(np.array(up, dtype=bool), np.array(load, dtype=np.int64), np.array(queue, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.up)

    @overload
    def __getitem__(self, n: int) -> NodeState: ...
    @overload
    def __getitem__(self, n: slice) -> tuple[NodeState, ...]: ...
    def __getitem__(self, n: int | slice) -> NodeState | tuple[NodeState, ...]:
        if isinstance(n, slice):
            return tuple(self[k] for k in range(*n.indices(len(self))))
        return NodeState(bool(self.up[n]), int(self.load_ppm[n]), int(self.queue_us[n]))

    def __iter__(self) -> Iterator[NodeState]:
        return (self[n] for n in range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What is known at `now_us`. Arrays are indexed by the position of a host in `Problem.hosts`.

    Large networks give `NodeStates` and `Sited` paths, small ones a tuple and dense arrays; both are read as
    `nodes[n].up` and `delay_us[a, b]`.
    """

    now_us: int
    nodes: Sequence[NodeState]
    delay_us: Paths  # (N, N) one-way, diagonal 0
    rate_bps: Paths  # (N, N) bottleneck of the path, 0 = no path; diagonal ignored
    latency_us: Mapping[str, int] = field(default_factory=dict)  # stream -> measured SLA percentile, recent window
    zones: Mapping[PrivacyClass, frozenset[str]] | None = None  # where privacy has changed: what holds now


@dataclass(frozen=True, slots=True)
class Placement:
    """stream -> the node of each block, in block order. The epoch numbers committed placements from 1."""

    epoch: int
    nodes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Slice:
    """The units first..last-1 of a model on one node, or a part of one; in a route, a whole layer by its parts."""

    node: str
    model: str
    first: int
    last: int
    part: str = ""
    parts: tuple[tuple[str, str], ...] = ()  # of a stop: node and part of each; `node` is the home then


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why the controller looked again: a path, a stream, a node."""

    kind: Literal["link_latency", "link_rate", "end_to_end", "load", "node_down", "node_up", "start", "privacy"]
    subject: str
    now: float
    baseline: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Predicted latency of one stream, broken up."""

    compute_us: int
    queue_us: int
    transfer_us: int
    propagation_us: int

    @property
    def total_us(self) -> int:
        return self.compute_us + self.queue_us + self.transfer_us + self.propagation_us


@dataclass(frozen=True, slots=True)
class ByParts:
    """What parts of layers on several nodes do to one stream; `predicted` has the slowest of them in each layer."""

    layers: int  # that are on several nodes
    collect_bytes: int  # between the parts of those layers, in one request
    collect_us: int  # on the slowest ways: of what is predicted of transfer and propagation
    kv_bytes: int  # keys and values that move, of one session
    kv_us: int  # one after the other
    weighed_us: int = 0  # of that, what the policy sets against one request


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str  # "keep", "optimum", ...
    nodes: Mapping[str, tuple[str, ...]]
    predicted: Mapping[str, Latency]  # per stream
    move_bytes: int
    move_us: int
    why_not: str = ""  # empty for the chosen one
    # what is minimised: latencies by `Decision.weights`, what others wait longer, and `beside_us`; None: their sum
    weighted_us: int | None = None
    parts: Mapping[str, ByParts] = field(default_factory=dict)  # of streams that a policy places by parts of layers
    beside_us: Mapping[str, int] = field(default_factory=dict)  # beside latency, by name (controller.objective)


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    placement: Placement  # KEEP and INFEASIBLE carry the old one
    triggers: tuple[Trigger, ...]
    candidates: tuple[Candidate, ...]
    reason: str
    lower_bound_us: int = 0  # of `weighted_us` of any placement; gap = chosen / bound - 1 (`explain.gap`); 0: none
    weights: Mapping[str, float] = field(default_factory=dict)  # of streams that count more than once, or not at all
    objective: Mapping[str, float] = field(default_factory=dict)  # what is not as by default (controller.objective)
    expected: Snapshot | None = field(default=None, compare=False)  # what it was decided on, if not on what was seen
