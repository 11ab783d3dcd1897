"""The decision problem: what is to be placed, where it can go, what is known now, and what was decided.

Everything here is a frozen value. Integers carry their unit in the name; a path that does not exist has
rate 0. `Problem` never changes during a run, `Snapshot` is new each period.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

PrivacyClass = Literal["raw", "feature", "public"]
Action = Literal["KEEP", "REMAP", "RESPLIT", "INFEASIBLE"]


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of placement: one unit of a model (a layer), run whole on one node."""

    name: str
    flops: int
    weight_bytes: int
    output_bytes: int  # what crosses the cut behind this block
    working_bytes: int = 0  # activations held while it runs
    output_class: PrivacyClass = "feature"


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
class Snapshot:
    """What is known at `now_us`. Arrays are indexed by the position of a host in `Problem.hosts`."""

    now_us: int
    nodes: tuple[NodeState, ...]
    delay_us: npt.NDArray[np.int64]  # (N, N) one-way, diagonal 0
    rate_bps: npt.NDArray[np.int64]  # (N, N) bottleneck of the path, 0 = no path; diagonal ignored
    latency_us: Mapping[str, int] = field(default_factory=dict)  # stream -> measured SLA percentile, recent window


@dataclass(frozen=True, slots=True)
class Placement:
    """stream -> the node of each block, in block order. The epoch numbers committed placements from 1."""

    epoch: int
    nodes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Slice:
    """The blocks first..last-1 of a model on one node."""

    node: str
    model: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why the controller looked again: a path, a stream, a node."""

    kind: Literal["link_latency", "link_rate", "end_to_end", "load", "node_down", "node_up", "start"]
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
class Candidate:
    name: str  # "keep", "optimum", ...
    nodes: Mapping[str, tuple[str, ...]]
    predicted: Mapping[str, Latency]  # per stream
    move_bytes: int
    move_us: int
    why_not: str = ""  # empty for the chosen one


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    placement: Placement  # KEEP and INFEASIBLE carry the old one
    triggers: tuple[Trigger, ...]
    candidates: tuple[Candidate, ...]
    reason: str
    lower_bound_us: int = 0  # of the summed predicted latency; gap = chosen / bound - 1
