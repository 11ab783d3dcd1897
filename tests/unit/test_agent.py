"""Hosts over loopback: three hops, epochs, weights that travel, and what a node says of itself."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from nodes.phone.client import Samples, StreamSpec
from nodes.proto.agent_pb2 import Empty, LoadRequest, SliceRef, UpRequest
from nodes.proto.agent_pb2_grpc import PhoneStub
from nodes.shelf import PrepareRefused
from nodes.slices import Sized
from tests.unit.hosts import COSTS, FLOATS, INPUTS, Adding, answers, one_hop, three_hops


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
    world.sent(2)
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
