"""What the coordinator needs of the world: small protocols, each with a real and an in-memory implementation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.model import Slice, Snapshot


class Clock(Protocol):
    def now_us(self) -> int: ...
    def sleep_until(self, t_us: int) -> None: ...


class Telemetry(Protocol):
    def snapshot(self, now_us: int) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    bytes_moved: int  # over the emulated network; 0 when the weights were there
    digest: str


class PrepareFailed(Exception):
    """The node refused or could not: `why` is shown in the journal. The move is aborted, the old epoch serves on."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class ReleaseFailed(Exception):
    """The node could not be told to let a slice go, or refused; it is recorded, and nothing else changes."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Agents(Protocol):
    def prepare(self, piece: Slice, source: str | None) -> Prepared:
        """Load a slice; `source` is the node to copy the weights from, None when they are prestaged.

        Raises PrepareFailed. A slice that is already loaded is no error and moves no bytes.
        """
        ...

    def release(self, piece: Slice) -> None:
        """Let a slice go; raises ReleaseFailed. A slice that is not there is no error."""
        ...


class Phones(Protocol):
    def switch(self, epoch: int, routes: Mapping[str, tuple[Slice, ...]]) -> None:
        """New requests of each stream take the route; those in flight end on the epoch they began with.

        An empty route: the stream is not served. The epoch is a new one, or the present one when streams stop or go on.
        """
        ...

    def in_flight(self, before_epoch: int) -> int: ...


class Record(Protocol):
    def __call__(self, kind: str, t_us: int, **fields: Any) -> None: ...
