"""What a phone is to send, and what should come back. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nodes.phone.generation import Generate
from nodes.wire.codec import Tensor


@dataclass(frozen=True, slots=True)
class StreamSpec:
    name: str
    model: str
    arrivals_us: tuple[int, ...]
    deadline_us: int  # of each request, from its arrival
    generate: Generate | None = None  # each arrival begins a session


@dataclass(frozen=True, slots=True)
class Samples:
    """Of one model: request k sends input k % len(inputs); answers are what the unsplit model says, none: unchecked."""

    inputs: Sequence[Tensor]
    answers: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: Mapping[int, Sequence[int]] = field(default_factory=dict)  # that follow each input
    keeps: int = 0  # answers, by what was asked (nodes/phone/resultcache.py)
