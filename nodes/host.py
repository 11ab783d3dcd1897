"""One emulated host, put together: agent, data server, control door, and the client when it is a phone.

with Host(spec, parts, record) as host:
    host.wait()  # until Stop
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from nodes.agent import OPEN_LIMIT_US, Agent, HostSpec, Record, opener
from nodes.client import Client, Samples, StreamSpec
from nodes.clock import MonotonicClock, Timer
from nodes.codec import Tensor
from nodes.control import AgentControl, ControlServer, PhoneControl
from nodes.proto.data_pb2 import WeightsRequest
from nodes.shipping import ShippingError, fetch
from nodes.slices import Costs, Loader
from nodes.transport import STREAMS_MAX, DataServer, Edge

CONTROL_THREADS = 8
WARM_UP_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class Parts:
    """What the composition gives a host. `streams`: empty on all but phones."""

    sockets: Path  # the folder of <name>.sock
    loader: Loader
    costs: Costs
    streams: Sequence[StreamSpec] = ()
    samples: Mapping[str, Samples] = field(default_factory=dict)
    id_start: int = 0


class Host:
    """Everything begins when it is built and ends with the block; time zero is set by the control's Start."""

    def __init__(self, spec: HostSpec, parts: Parts, record: Record, clock: MonotonicClock | None = None) -> None:
        self.clock = clock or MonotonicClock()
        self.timer = Timer(self.clock)
        self._ended = threading.Event()
        # threads are made as calls come: one for each incoming edge, a few for control
        self._pool = ThreadPoolExecutor(STREAMS_MAX + CONTROL_THREADS, thread_name_prefix="rpc")
        self.agent = Agent(spec, self.clock, self.timer, loader=parts.loader, costs=parts.costs, record=record)
        self.client = (
            Client(self.agent, self.timer, parts.streams, parts.samples, record, id_start=parts.id_start)
            if parts.streams
            else None
        )
        control = AgentControl(self.agent, self.client, self.clock, self.timer, self._ended.set)
        phone = PhoneControl(spec.name, self.client) if self.client else None
        self._data = DataServer(spec.address, self.agent, self._pool)
        self._warm_up()
        self._control = ControlServer(parts.sockets / f"{spec.name}.sock", control, phone, self._pool)

    def _warm_up(self) -> None:
        """Two calls of each kind to this node's own data server: what is slow only once is over before any request.

        The first call of a kind in a process can wait for the end of a poll, up to 0.2 s, and by chance.
        """
        edge = Edge(self.agent.spec.address, self.clock, self.timer, lambda _header, _why: None)
        for _ in range(2):
            start = opener(self.clock.now_us())
            edge.send(start, Tensor("uint8", (WARM_UP_BYTES,), bytes(WARM_UP_BYTES)), start.deadline_us)
            edge.drain(OPEN_LIMIT_US)
        edge.close()
        for _ in range(2):
            with suppress(ShippingError):  # refused: there is no model of no name
                fetch(self.agent.spec.address, WeightsRequest(last=1), limit_bytes=0, deadline_s=OPEN_LIMIT_US / 1e6)

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
