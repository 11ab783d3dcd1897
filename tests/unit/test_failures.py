"""What a phone makes of hosts that fail it: each request ends once, by name."""

import threading

from nodes.clock import MonotonicClock
from nodes.phone.client import Samples, StreamSpec
from nodes.proto.agent_pb2 import Empty, StartRequest, UpRequest
from nodes.proto.agent_pb2_grpc import PhoneStub
from nodes.proto.data_pb2 import Header, Hop
from nodes.wire.codec import Tensor
from tests.unit.hosts import FLOATS, INPUTS, answers, free_port, one_hop


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
    world.sent(1, "ue2")
    world.hosts["ue2"].client.close()
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
        assert world.changed.wait_for(lambda: world.records, 60)
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
    assert ended.wait(60)
    assert got == [("DEADLINE", None)] and agent.served == 0 and agent.refused == 1


def test_a_duplicate_is_counted_and_changes_nothing(world):
    world.phone(requests=1)
    world.hosts["mec"] = world.hosts["ue1"]
    agent = world.hosts["ue1"].agent
    sent = []
    agent.start = lambda header, tensor: sent.append(header)
    world.route(Hop(node="mec", address="127.0.0.1:1", first=0, last=6))
    world.start()
    world.sent(1)
    good = answers()[0]
    for tensor in (good, good, INPUTS[1]):
        agent.enter(Header(request_id=0, step=1, route=[Hop()]), tensor)
    [request] = world.requests(1)
    assert (request["outcome"], request["equal"], request["duplicates"]) == ("ok", True, 2)
    assert world.records[-1] == {**world.records[-1], "kind": "phone", "sent": 1, "duplicates": 2, "late": 0}


def test_a_frame_for_another_node_fails_by_name(world):
    world.phone(requests=1)
    world.add("mec")
    world.add("cloud")
    wrong = world.hop("cloud", 0, 6)
    wrong.address = world.hosts["mec"].agent.spec.address
    world.route(wrong)
    world.start()
    assert world.requests(1)[0]["error"] == "BAD_ROUTE"
