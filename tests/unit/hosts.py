"""Hosts of a test over loopback, with a model that adds: by name, with their control stubs and the journal.

world.phone(); world.add("mec"); world.prepare("mec", 0, 6); world.route(world.hop("mec", 0, 6)); world.start()
"""

import socket
import struct
import threading

import grpc

from nodes.agent import HostSpec
from nodes.clock import MonotonicClock
from nodes.host import Host, Parts
from nodes.phone.client import Samples, StreamSpec
from nodes.proto.agent_pb2 import PrepareRequest, Route, SliceRef, StartRequest, SwitchRequest
from nodes.proto.agent_pb2_grpc import AgentStub, PhoneStub
from nodes.proto.data_pb2 import Hop
from nodes.slices import BadTensor, BlockCost, Loaded
from nodes.wire.codec import Tensor

FLOATS = 40_000
BLOCKS = 6
COSTS = {"fake": (BlockCost(1_000_000, 4 * FLOATS, 1_000, "float32", (FLOATS,)),) * BLOCKS}
INPUTS = tuple(Tensor("float32", (FLOATS,), struct.pack("<f", i) * FLOATS) for i in range(3))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def time_passes(world, span_us):
    """At once, so that what had to come before a deadline has come, however slow the machine is."""
    clock, timer = world
    clock.t0_us -= span_us
    timer.rearm()


def comes_to_be(client, what):
    """Whether it does within a minute: a machine may be busy."""
    with client._condition:
        for _ in range(6000):
            if what():
                return True
            client._condition.wait(0.01)
    return False


class Adding:
    """Block b adds its weight, b + 1, to the first value; a received weight is believed as it came."""

    def weights(self, model, block, part=""):
        yield "w", Tensor("float32", (FLOATS,), struct.pack("<f", block + 1) * FLOATS)

    def load(self, model, first, last, received):
        blocks = received or {block: dict(self.weights(model, block)) for block in range(first, last)}
        added = sum(struct.unpack_from("<f", blocks[block]["w"].data)[0] for block in range(first, last))

        def run(tensor):
            if tensor.shape != (FLOATS,):
                raise BadTensor(f"shape {tensor.shape}")
            (value,) = struct.unpack_from("<f", tensor.data)
            return Tensor("float32", tensor.shape, struct.pack("<f", value + added) + bytes(tensor.data[4:]))

        return Loaded(run, f"{first}-{last}:{added}")


def answers():
    run = Adding().load("fake", 0, BLOCKS, None).run
    return {i: run(tensor) for i, tensor in enumerate(INPUTS)}


class World:
    """Hosts of one test by name, their control stubs, and the journal."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.hosts, self.agents, self.records = {}, {}, []
        self.costs, self.loader = COSTS, Adding
        self.changed = threading.Condition()

    def record(self, kind, t_us, **fields):
        with self.changed:
            self.records.append({"kind": kind, "t_us": t_us, **fields})
            self.changed.notify_all()

    def add(self, name, *, flops_per_s=10**9, memory_bytes=10**9, loader=None, **parts):
        spec = HostSpec(name, f"127.0.0.1:{free_port()}", flops_per_s, memory_bytes)
        host = self.stack.enter_context(
            Host(spec, Parts(self.folder, loader or self.loader(), self.costs, **parts), self.record)
        )
        channel = self.stack.enter_context(grpc.insecure_channel(f"unix:{self.folder / name}.sock"))
        self.hosts[name], self.agents[name] = host, AgentStub(channel)
        self.channel = channel
        return host

    def phone(self, name="ue1", requests=3, *, deadline_us=60_000_000, checked=True, period_us=20_000, **more):
        stream = StreamSpec("cam", "fake", tuple(period_us * k for k in range(requests)), deadline_us)
        samples = {"fake": Samples(INPUTS, answers() if checked else {})}
        host = self.add(name, streams=(stream,), samples=samples, **more)
        self.phone_stub = PhoneStub(self.channel)
        return host

    def prepare(self, name, first, last, source="", deadline_s=60):
        piece = SliceRef(model="fake", first=first, last=last)
        address = self.hosts[source].agent.spec.address if source else ""
        return self.agents[name].Prepare(
            PrepareRequest(slice=piece, source_address=address, deadline_s=deadline_s), timeout=60
        )

    def hop(self, name, first, last):
        return Hop(node=name, address=self.hosts[name].agent.spec.address, first=first, last=last)

    def route(self, *hops, epoch=1):
        self.phone_stub.Switch(SwitchRequest(epoch=epoch, routes=[Route(stream="cam", hops=hops)]), timeout=60)

    def start(self, phone="ue1"):
        t0_us = MonotonicClock().now_us() + 100_000  # ahead: no phone sends before every host knows the time
        for name in sorted(self.agents, key=lambda name: name == phone):  # it is the last that learns it
            self.agents[name].Start(StartRequest(t0_us=t0_us), timeout=60)

    def one_by_one(self, count, apart_us, phone="ue1"):
        """Lets time pass for all hosts whenever what was sent has ended: what arrives `apart_us` later comes now."""
        client = self.hosts[phone].client
        for n in range(1, count + 1):
            self.sent(n, phone)
            assert comes_to_be(client, lambda: not any(client._in_flight.values())), f"{n} of {count} has not ended"
            for host in self.hosts.values():
                time_passes((host.clock, host.timer), apart_us)
            with client._condition:
                client._condition.notify_all()

    def sent(self, count, phone="ue1"):
        """Waits until the phone has sent so many."""
        client = self.hosts[phone].client
        if not comes_to_be(client, lambda: client._sent >= count):
            raise AssertionError(f"{phone} has sent {client._sent} of {count}")

    def requests(self, count, phone="ue1"):
        """Waits until all have ended, ends the phone and returns their records by id."""
        client = self.hosts[phone].client
        comes_to_be(client, lambda: client._sent == client._total and not any(client._in_flight.values()))
        client.close()
        records = {r["id"]: r for r in self.records if r["kind"] == "request"}
        assert len([r for r in self.records if r["kind"] == "request"]) == len(records) == count
        return [records[id] for id in sorted(records)]


def three_hops(world, **phone):
    world.phone(**phone)
    for name in ("bs1", "mec", "cloud"):
        world.add(name)
    for i, name in enumerate(("bs1", "mec", "cloud")):
        assert world.prepare(name, 2 * i, 2 * i + 2).ok
    world.route(world.hop("bs1", 0, 2), world.hop("mec", 2, 4), world.hop("cloud", 4, 6))


def one_hop(world, *, prepare=True, host=None, **phone):
    world.phone(**phone)
    world.add("mec", **(host or {}))
    if prepare:
        assert world.prepare("mec", 0, 6).ok
    world.route(world.hop("mec", 0, 6))
