"""One emulated host, put together: agent, data server, control door, and the client when it is a phone.

with Host(spec, parts, record) as host:
    host.wait()  # until Stop
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from nodes.agent import Agent, HostSpec, Record
from nodes.clock import MonotonicClock, Timer
from nodes.control import AgentControl, ControlServer, PhoneControl
from nodes.permit import Permit
from nodes.phone.client import Client, Samples, StreamSpec
from nodes.slices import Costs, Loader
from nodes.wire.quantise import Wish
from nodes.wire.sealing import Sealing
from nodes.wire.transport import STREAMS_MAX, DataServer

CONTROL_THREADS = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """What the composition gives a host. `streams`: empty on all but phones."""

    sockets: Path  # the folder of <name>.sock
    loader: Loader
    costs: Costs
    streams: Sequence[StreamSpec] = ()
    samples: Mapping[str, Samples] = field(default_factory=dict)
    id_start: int = 0
    batch: Mapping[str, int] = field(default_factory=dict)  # requests of a model that may run together
    wire: Wish = "fp32"
    sealing: Sealing = field(default_factory=Sealing)
    permit: Permit = field(default_factory=Permit)


class Host:
    """Everything begins when it is built and ends with the block; time zero is set by the control's Start."""

    def __init__(self, spec: HostSpec, parts: Parts, record: Record, clock: MonotonicClock | None = None) -> None:
        self.clock = clock or MonotonicClock()
        self.timer = Timer(self.clock)
        self._ended = threading.Event()
        # threads are made as calls come: one for each incoming edge, a few for control
        self._pool = ThreadPoolExecutor(STREAMS_MAX + CONTROL_THREADS, thread_name_prefix="rpc")
        self.agent = Agent(
            spec,
            self.clock,
            self.timer,
            loader=parts.loader,
            costs=parts.costs,
            record=record,
            batch=parts.batch,
            wire=parts.wire,
            sealing=parts.sealing,
            permit=parts.permit,
        )
        self.client = (
            Client(self.agent, self.timer, parts.streams, parts.samples, record, id_start=parts.id_start)
            if parts.streams
            else None
        )
        control = AgentControl(self.agent, self.client, self.clock, self.timer, self._ended.set)
        phone = PhoneControl(spec.name, self.client) if self.client else None
        self._data = DataServer(spec.address, self.agent, self._pool, parts.sealing, self.agent.outbox)
        self._control = ControlServer(parts.sockets / f"{spec.name}.sock", control, phone, self._pool)

    def wait(self) -> None:
        """Until somebody says Stop."""
        self._ended.wait()

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        self._control.close()
        self._data.close()
        self.agent.close()
        self.timer.close()
        self._pool.shutdown()

    def __enter__(self) -> "Host":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
