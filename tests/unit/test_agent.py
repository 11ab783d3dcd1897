"""Hosts over loopback: three hops, moves, faults, and what a phone makes of them."""

import contextlib
import struct
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from test_transport import free_port

from nodes import codec
from nodes.agent import HostSpec, PrepareRefused
from nodes.client import Samples, StreamSpec
from nodes.clock import MonotonicClock
from nodes.codec import Tensor
from nodes.host import Host, Parts
from nodes.proto.agent_pb2 import (
    Empty,
    LoadRequest,
    PrepareRequest,
    Route,
    SliceRef,
    StartRequest,
    SwitchRequest,
    UpRequest,
)
from nodes.proto.agent_pb2_grpc import AgentStub, PhoneStub
from nodes.proto.data_pb2 import Header, Hop
from nodes.slices import BadTensor, BlockCost, Loaded, Sized

FLOATS = 40_000
BLOCKS = 6
COSTS = {"fake": (BlockCost(1_000_000, 4 * FLOATS, 1_000, "float32", (FLOATS,)),) * BLOCKS}
INPUTS = tuple(Tensor("float32", (FLOATS,), struct.pack("<f", i) * FLOATS) for i in range(3))


class Adding:
    """Block b adds its weight, b + 1, to the first value; a received weight is believed as it came."""

    def weights(self, model, block):
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
        self.changed = threading.Condition()

    def record(self, kind, t_us, **fields):
        with self.changed:
            self.records.append({"kind": kind, "t_us": t_us, **fields})
            self.changed.notify_all()

    def add(self, name, *, flops_per_s=10**9, memory_bytes=10**9, loader=None, **parts):
        spec = HostSpec(name, f"127.0.0.1:{free_port()}", flops_per_s, memory_bytes)
        host = self.stack.enter_context(Host(spec, Parts(self.folder, loader or Adding(), COSTS, **parts), self.record))
        channel = self.stack.enter_context(grpc.insecure_channel(f"unix:{self.folder / name}.sock"))
        self.hosts[name], self.agents[name] = host, AgentStub(channel)
        self.channel = channel
        return host

    def phone(self, name="ue1", requests=3, *, deadline_us=3_000_000, checked=True, period_us=20_000, **more):
        stream = StreamSpec("cam", "fake", tuple(period_us * k for k in range(requests)), deadline_us)
        samples = {"fake": Samples(INPUTS, answers() if checked else {})}
        host = self.add(name, streams=(stream,), samples=samples, **more)
        self.phone_stub = PhoneStub(self.channel)
        return host

    def prepare(self, name, first, last, source="", deadline_s=5):
        piece = SliceRef(model="fake", first=first, last=last)
        address = self.hosts[source].agent.spec.address if source else ""
        return self.agents[name].Prepare(
            PrepareRequest(slice=piece, source_address=address, deadline_s=deadline_s), timeout=8
        )

    def hop(self, name, first, last):
        return Hop(node=name, address=self.hosts[name].agent.spec.address, first=first, last=last)

    def route(self, *hops, epoch=1):
        self.phone_stub.Switch(SwitchRequest(epoch=epoch, routes=[Route(stream="cam", hops=hops)]), timeout=5)

    def start(self, phone="ue1"):
        t0_us = MonotonicClock().now_us() + 100_000  # ahead: no phone sends before every host knows the time
        for agent in self.agents.values():
            agent.Start(StartRequest(t0_us=t0_us), timeout=5)

    def requests(self, count, phone="ue1"):
        """Waits until all have ended, ends the phone and returns their records by id."""
        client = self.hosts[phone].client
        with client._condition:
            ended = lambda: client._sent == client._total and not any(client._in_flight.values())  # noqa: E731
            for _ in range(200):
                if ended():
                    break
                client._condition.wait(0.05)
        client.close()
        records = {r["id"]: r for r in self.records if r["kind"] == "request"}
        assert len([r for r in self.records if r["kind"] == "request"]) == len(records) == count
        return [records[id] for id in sorted(records)]


@pytest.fixture
def world(tmp_path):
    with contextlib.ExitStack() as stack:
        yield World(tmp_path, stack)


def three_hops(world, **phone):
    world.phone(**phone)
    for name in ("bs1", "mec", "cloud"):
        world.add(name)
    for i, name in enumerate(("bs1", "mec", "cloud")):
        assert world.prepare(name, 2 * i, 2 * i + 2).ok
    world.route(world.hop("bs1", 0, 2), world.hop("mec", 2, 4), world.hop("cloud", 4, 6))


def test_three_hops_give_the_answer_of_the_whole_model(world):
    three_hops(world, requests=6)
    world.start()
    for request in world.requests(6):
        assert (request["outcome"], request["checked"], request["equal"]) == ("ok", True, True)
        assert request["duplicates"] == 0 and request["epoch"] == 1 and request["error"] == ""
        steps = [(span["step"], span["kind"]) for span in request["spans"]]
        hop = ["network", "queue", "compute", "serialise"]
        assert steps == [(0, "serialise"), (0, "network")] + [
            (i, kind) for i in (1, 2, 3) for kind in [*hop[1:], "network"]
        ]
        spans = request["spans"]
        assert spans[0]["start_us"] == request["sent_us"] and spans[-1]["end_us"] <= request["done_us"]
        assert all(a["end_us"] <= b["start_us"] for a, b in pairwise(spans))
        assert [s["node"] for s in spans if s["kind"] == "network"] == ["ue1", "bs1", "mec", "cloud"]
        assert all(s["size_bytes"] == 4 * FLOATS for s in spans if s["kind"] == "network")
        assert all(s["end_us"] - s["start_us"] >= 2_000 for s in spans if s["kind"] == "compute")


def test_a_phone_may_hold_the_first_slices_itself(world):
    world.phone()
    world.add("mec")
    assert world.prepare("ue1", 0, 1).ok and world.prepare("ue1", 1, 3).ok and world.prepare("mec", 3, 6).ok
    world.route(world.hop("ue1", 0, 1), world.hop("ue1", 1, 3), world.hop("mec", 3, 6))
    world.start()
    for request in world.requests(3):
        assert request["equal"]
        assert [s["node"] for s in request["spans"] if s["kind"] == "network"] == ["ue1", "mec"]


def test_a_request_ends_on_the_epoch_it_began_on(world):
    world.phone(requests=10, period_us=60_000)
    world.add("old", flops_per_s=10**8)
    world.add("new")
    assert world.prepare("old", 0, 6).ok
    world.route(world.hop("old", 0, 6))
    world.start()
    client = world.hosts["ue1"].client
    with client._condition:
        while client._sent < 2:
            client._condition.wait(0.01)
    assert world.prepare("new", 0, 6, source="old").ok
    world.route(world.hop("new", 0, 6), epoch=2)
    requests = world.requests(10)
    assert all(r["equal"] for r in requests) and {r["epoch"] for r in requests} == {1, 2}
    for request in requests:
        node = {s["node"] for s in request["spans"] if s["kind"] == "compute"}
        assert node == ({"old"} if request["epoch"] == 1 else {"new"})


def test_weights_travel_once_and_are_used_as_they_came(world):
    world.add("a")
    world.add("b", loader=NoFiles())
    reply = world.prepare("b", 1, 3, source="a")
    assert reply.ok and reply.bytes_moved == 2 * 4 * FLOATS and reply.digest == "1-3:5.0"
    again = world.prepare("b", 1, 3, source="a")
    assert again.ok and again.bytes_moved == 0 and again.digest == reply.digest
    wider = world.prepare("b", 0, 5, source="a")
    assert wider.ok and wider.bytes_moved == 3 * 4 * FLOATS and wider.digest == "0-5:15.0"
    status = world.agents["b"].Status(Empty())
    assert status.memory_used_bytes == 5 * 4 * FLOATS + 1_000
    for first, last in ((1, 3), (0, 5), (0, 5)):
        world.agents["b"].Release(SliceRef(model="fake", first=first, last=last))
    assert world.agents["b"].Status(Empty()).memory_used_bytes == 0


class NoFiles(Adding):
    def load(self, model, first, last, received):
        assert received is not None
        return super().load(model, first, last, received)


def test_prepare_refuses_by_name(world):
    world.add("a")
    world.add("b", memory_bytes=300_000)
    big = world.prepare("b", 0, 2)
    assert not big.ok and big.why == "b: fake[0:2] needs 321000 bytes, 300000 are free"
    unknown = world.prepare("b", 4, 7)
    assert not unknown.ok and "fake[4:7]" in unknown.why
    world.agents["a"].SetUp(UpRequest(up=False))
    down = world.prepare("b", 0, 1, source="a")
    assert not down.ok and "a is down" in down.why
    itself = world.prepare("a", 0, 1)
    assert not itself.ok and itself.why == "a is down"
    world.agents["a"].SetUp(UpRequest(up=True))
    assert world.prepare("b", 0, 1, source="a").ok


def one_hop(world, *, prepare=True, host=None, **phone):
    world.phone(**phone)
    world.add("mec", **(host or {}))
    if prepare:
        assert world.prepare("mec", 0, 6).ok
    world.route(world.hop("mec", 0, 6))


def test_an_unknown_slice_fails_by_name(world):
    one_hop(world, prepare=False)
    world.start()
    assert {(r["outcome"], r["error"], r["done_us"]) for r in world.requests(3)} == {("failed", "UNKNOWN_SLICE", None)}
    assert world.agents["mec"].Status(Empty()).refused == 3


def test_a_full_memory_fails_by_name(world):
    one_hop(world, host={"memory_bytes": 6 * 4 * FLOATS + 1_000 + 4 * FLOATS - 1})
    world.start()
    assert {r["error"] for r in world.requests(3)} == {"OUT_OF_MEMORY"}


def test_a_tensor_that_does_not_fit_the_slice_fails_by_name(world):
    bad = Tensor("float32", (2, FLOATS // 2), INPUTS[0].data)
    stream = StreamSpec("cam", "fake", (0,), 3_000_000)
    world.add("ue1", streams=(stream,), samples={"fake": Samples((bad,))})
    world.phone_stub = PhoneStub(world.channel)
    world.add("mec")
    assert world.prepare("mec", 0, 6).ok
    world.route(world.hop("mec", 0, 6))
    world.start()
    assert world.requests(1)[0]["error"] == "BAD_TENSOR"


def test_a_dead_next_hop_fails_by_name(world):
    world.phone()
    world.add("mec")
    assert world.prepare("mec", 0, 3).ok
    dead = Hop(node="gone", address=f"127.0.0.1:{free_port()}", first=3, last=6)
    world.route(world.hop("mec", 0, 3), dead)
    world.start()
    for request in world.requests(3):
        assert request["error"] == "PEER_LOST"
        assert (1, "compute") in [(s["step"], s["kind"]) for s in request["spans"]]


def test_a_dead_first_hop_and_no_route_fail_by_name(world):
    world.phone(requests=2)
    world.route(Hop(node="gone", address=f"127.0.0.1:{free_port()}", first=0, last=6))
    world.start()
    assert {r["error"] for r in world.requests(2)} == {"PEER_LOST"}
    world.phone("ue2", requests=1)
    world.agents["ue2"].Start(StartRequest(t0_us=MonotonicClock().now_us()))
    client = world.hosts["ue2"].client
    with client._condition:
        client._condition.wait_for(lambda: client._sent == 1, 2)
    client.close()
    assert world.records[-2]["error"] == "NO_ROUTE"


def test_a_node_that_is_down_answers_nothing_and_has_forgotten_its_slices(world):
    one_hop(world, requests=1, deadline_us=300_000)
    world.agents["mec"].SetUp(UpRequest(up=False))
    world.start()
    request = world.requests(1)[0]
    assert request["outcome"] == "failed" and request["error"] in ("DEADLINE", "PEER_LOST")
    world.agents["mec"].SetUp(UpRequest(up=True))
    status = world.agents["mec"].Status(Empty())
    assert status.up and not status.slices and status.memory_used_bytes == 0 and status.queued == 0


def test_a_late_answer_stays_failed_and_is_counted(world):
    world.phone(requests=1, deadline_us=30_000)
    agent = world.hosts["ue1"].agent
    agent.start = lambda header, tensor: None
    world.route(Hop(node="mec", address="127.0.0.1:1", first=0, last=6))
    world.start()
    with world.changed:
        assert world.changed.wait_for(lambda: world.records, 2)
    agent.enter(Header(request_id=0, step=1, route=[Hop()]), answers()[0])
    [request] = world.requests(1)
    assert (request["outcome"], request["error"], request["done_us"]) == ("failed", "DEADLINE", None)
    assert request["t_us"] >= 30_000 and world.records[-1]["late"] == 1


def test_work_whose_request_was_given_up_is_not_begun(world):
    agent = world.add("mec").agent
    assert world.prepare("mec", 0, 6).ok
    world.agents["mec"].Start(StartRequest(t0_us=MonotonicClock().now_us() - 1_000))
    ended, got = threading.Event(), []
    agent.answer = lambda header, tensor: (got.append((header.error_code, tensor)), ended.set())
    route, address = [world.hop("mec", 0, 6)], agent.spec.address
    agent.enter(Header(model="fake", route=route, reply_to=address, deadline_us=1), INPUTS[0])
    assert ended.wait(5)
    assert got == [("DEADLINE", None)] and agent.served == 0 and agent.refused == 1


def test_a_duplicate_is_counted_and_changes_nothing(world):
    world.phone(requests=1)
    world.hosts["mec"] = world.hosts["ue1"]
    agent = world.hosts["ue1"].agent
    sent = []
    agent.start = lambda header, tensor: sent.append(header)
    world.route(Hop(node="mec", address="127.0.0.1:1", first=0, last=6))
    world.start()
    client = world.hosts["ue1"].client
    with client._condition:
        client._condition.wait_for(lambda: client._sent == 1, 2)
    good = answers()[0]
    for tensor in (good, good, INPUTS[1]):
        agent.enter(Header(request_id=0, step=1, route=[Hop()]), tensor)
    [request] = world.requests(1)
    assert (request["outcome"], request["equal"], request["duplicates"]) == ("ok", True, 2)
    assert world.records[-1] == {**world.records[-1], "kind": "phone", "sent": 1, "duplicates": 2, "late": 0}


def test_an_answer_that_differs_in_a_bit_is_not_equal(world):
    wrong = replace(answers()[0], data=answers()[0].data[:-1] + b"\x01")
    stream = StreamSpec("cam", "fake", (0,), 3_000_000)
    world.add("ue1", streams=(stream,), samples={"fake": Samples(INPUTS, {0: wrong})})
    world.phone_stub = PhoneStub(world.channel)
    world.add("mec")
    assert world.prepare("mec", 0, 6).ok
    world.route(world.hop("mec", 0, 6))
    world.start()
    [request] = world.requests(1)
    assert (request["outcome"], request["checked"], request["equal"]) == ("ok", True, False)


def test_without_numerics_the_sizes_are_right(world):
    world.phone(checked=False)
    world.add("mec", loader=Sized(COSTS))
    world.add("cloud", loader=Sized(COSTS))
    assert world.prepare("mec", 0, 3).ok
    assert world.prepare("cloud", 3, 6, source="mec").bytes_moved == 3 * 4 * FLOATS
    world.route(world.hop("mec", 0, 3), world.hop("cloud", 3, 6))
    world.start()
    for request in world.requests(3):
        assert (request["outcome"], request["checked"], request["equal"]) == ("ok", False, False)
        assert {s["size_bytes"] for s in request["spans"] if s["kind"] == "network"} == {4 * FLOATS}


def test_status_says_what_the_node_does(world):
    one_hop(world)
    world.agents["mec"].SetLoad(LoadRequest(load_ppm=500_000))
    world.start()
    requests = world.requests(3)
    status = world.agents["mec"].Status(Empty())
    assert (status.node, status.up, status.load_ppm, status.served, status.refused) == ("mec", True, 500_000, 3, 0)
    assert status.busy_s >= 0.0359 and status.queue_us == 0 and status.rss_bytes > 0 and status.cpu_s > 0
    assert MessageToDict(status)["slices"] == [{"model": "fake", "last": 6}]
    assert all(s["end_us"] - s["start_us"] >= 12_000 for r in requests for s in r["spans"] if s["kind"] == "compute")
    phone = world.phone_stub.Status(Empty())
    assert phone.finished and phone.sent == 3 and not phone.in_flight
    assert [outcome.ok for outcome in phone.outcomes] == [True] * 3
    assert not world.phone_stub.Status(Empty()).outcomes


def test_control_is_for_the_owner_only_and_refuses_nonsense(world):
    host = world.add("mec")
    assert (Path(world.folder) / "mec.sock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(grpc.RpcError, match="1000001 ppm"):
        world.agents["mec"].SetLoad(LoadRequest(load_ppm=1_000_001))
    world.start()
    with pytest.raises(grpc.RpcError, match="has begun already"):
        world.start()
    with pytest.raises(PrepareRefused):
        host.agent.prepare(("nothing", 0, 1), "", 1.0)
    world.agents["mec"].Stop(Empty())
    host.wait()


def test_a_frame_for_another_node_fails_by_name(world):
    world.phone(requests=1)
    world.add("mec")
    world.add("cloud")
    wrong = world.hop("cloud", 0, 6)
    wrong.address = world.hosts["mec"].agent.spec.address
    world.route(wrong)
    world.start()
    assert world.requests(1)[0]["error"] == "BAD_ROUTE"
    assert codec.ITEM_BYTES["float32"] == 4
