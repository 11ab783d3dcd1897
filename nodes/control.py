"""The control door of an agent and its phone: a gRPC server on a Unix socket that only its owner may open."""

# ruff: noqa: ARG002  (the signatures are gRPC's)

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil

from nodes.agent import Agent
from nodes.clock import MonotonicClock, Timer
from nodes.compute.processor import Speed
from nodes.costing.kvcost import Reach
from nodes.phone.chats import Known
from nodes.phone.client import Client
from nodes.pieces import Piece
from nodes.proto.agent_pb2 import (
    ConnectRequest,
    Empty,
    FollowRequest,
    LoadRequest,
    NodeStatus,
    PhoneStatus,
    PrepareReply,
    PrepareRequest,
    SliceRef,
    StartRequest,
    SwitchRequest,
    UpRequest,
)
from nodes.proto.agent_pb2_grpc import (
    AgentServicer,
    PhoneServicer,
    add_AgentServicer_to_server,
    add_PhoneServicer_to_server,
)
from nodes.shelf import PrepareRefused

PATH_MAX = 107  # bytes of a Unix socket's path


def _piece(reference: SliceRef) -> Piece:
    return Piece(reference.model, reference.first, reference.last, reference.part)


class AgentControl(AgentServicer):
    """`stop` ends the process after the reply."""

    def __init__(
        self, agent: Agent, client: Client | None, clock: MonotonicClock, timer: Timer, stop: Callable[[], None]
    ) -> None:
        self._agent = agent
        self._client = client
        self._clock = clock
        self._timer = timer
        self._stop = stop
        self._process = psutil.Process()
        self._started = threading.Lock()

    def Start(self, request: StartRequest, context: grpc.ServicerContext) -> Empty:
        if not self._started.acquire(blocking=False):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the experiment has begun already")
        self._clock.t0_us = request.t0_us
        self._timer.rearm()
        if self._client is not None:
            self._client.start()
        return Empty()

    def Prepare(self, request: PrepareRequest, context: grpc.ServicerContext) -> PrepareReply:
        try:
            prepared = self._agent.prepare(
                _piece(request.slice), request.source_address, request.deadline_s, request.kv_sources
            )
        except PrepareRefused as refusal:
            return PrepareReply(ok=False, why=str(refusal))
        return PrepareReply(ok=True, bytes_moved=prepared.bytes_moved, digest=prepared.digest)

    def Release(self, request: SliceRef, context: grpc.ServicerContext) -> Empty:
        self._agent.release(_piece(request))
        return Empty()

    def Follow(self, request: FollowRequest, context: grpc.ServicerContext) -> Empty:
        self._agent.follow([(one.model, one.held) for one in request.followed])
        return Empty()

    def Status(self, request: Empty, context: grpc.ServicerContext) -> NodeStatus:
        up, memory_used_bytes, slices = self._agent.state()
        load_ppm, queue_us, queued, busy_us = self._agent.device.state()
        cpu = self._process.cpu_times()
        return NodeStatus(
            node=self._agent.spec.name,
            up=up,
            load_ppm=load_ppm,
            queue_us=queue_us,
            queued=queued,
            memory_used_bytes=memory_used_bytes,
            memory_limit_bytes=self._agent.spec.memory_bytes,
            rss_bytes=self._process.memory_info().rss,
            cpu_s=cpu.user + cpu.system,
            served=self._agent.served,
            refused=self._agent.refused,
            busy_s=busy_us / 1e6,
            slices=[SliceRef(model=p.model, first=p.first, last=p.last, part=p.part) for p in slices],
        )

    def SetLoad(self, request: LoadRequest, context: grpc.ServicerContext) -> Empty:
        try:
            self._agent.device.set_load(request.load_ppm)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return Empty()

    def SetUp(self, request: UpRequest, context: grpc.ServicerContext) -> Empty:
        self._agent.set_up(request.up)
        return Empty()

    def Connect(self, request: ConnectRequest, context: grpc.ServicerContext) -> Empty:
        self._agent.connect(request.address)
        return Empty()

    def Stop(self, request: Empty, context: grpc.ServicerContext) -> Empty:
        context.add_callback(self._stop)
        return Empty()


class PhoneControl(PhoneServicer):
    def __init__(self, node: str, client: Client) -> None:
        self._node = node
        self._client = client

    def Switch(self, request: SwitchRequest, context: grpc.ServicerContext) -> Empty:
        routes = {route.stream: list(route.hops) for route in request.routes}
        reaches = {(r.from_address, r.to_address): Reach(r.rate_bps, r.delay_us) for r in request.reaches}
        memory = request.memory_bytes_per_s
        speeds = {node: Speed(flops, memory.get(node, 0)) for node, flops in request.flops_per_s.items() if flops}
        known = Known(speeds, reaches, request.copied_us)
        self._client.switch(request.epoch, routes, lost=set(request.lost), known=known)
        return Empty()

    def Status(self, request: Empty, context: grpc.ServicerContext) -> PhoneStatus:
        in_flight, outcomes, sent, finished = self._client.status()
        return PhoneStatus(node=self._node, in_flight=in_flight, outcomes=outcomes, sent=sent, finished=finished)


class ControlServer:
    """Listens on `path`, mode 0600."""

    def __init__(
        self, path: Path, agent_control: AgentControl, phone: PhoneControl | None, pool: ThreadPoolExecutor
    ) -> None:
        if len(os.fsencode(path)) > PATH_MAX:
            raise ValueError(f"{path} is too long for a socket, at most {PATH_MAX} bytes are right")
        self._server = grpc.server(pool)
        add_AgentServicer_to_server(agent_control, self._server)  # type: ignore[no-untyped-call]
        if phone is not None:
            add_PhoneServicer_to_server(phone, self._server)  # type: ignore[no-untyped-call]
        before = os.umask(0o177)  # from its first moment; there is no other thread yet that makes files
        try:
            self._server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(before)
        self._server.start()

    def close(self) -> None:
        self._server.stop(grace=0.5).wait()
