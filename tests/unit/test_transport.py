import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from nodes.clock import MonotonicClock, Timer
from nodes.proto.data_pb2 import Header, WeightsHeader, WeightsRequest
from nodes.wire import codec, shipping, transport
from nodes.wire.codec import Tensor
from nodes.wire.edge import Edge
from nodes.wire.goodput import Goodput
from nodes.wire.transport import Busy, DataServer, PortTaken, Refused
from tests.unit.hosts import free_port, time_passes

WAIT_S = 60.0  # far more than anything takes: these are real seconds, of a machine that may be busy
TENSOR = Tensor("uint8", (700_000,), bytes(range(250)) * 2800)


class Inbox:
    """A receiver that keeps what comes."""

    def __init__(self, accepting=True):
        self.accepting, self.got, self.refused, self.turned = accepting, [], [], []
        self.changed = threading.Condition()
        self.blocks = [(0, "w", TENSOR), (1, "b", Tensor("float32", (2,), bytes(8)))]

    def deliver(self, header, tensor):
        with self.changed:
            self.got.append((header, tensor))
            self.changed.notify_all()
        return self.accepting

    def refuse(self, error):
        with self.changed:
            self.refused.append(error)
            self.changed.notify_all()
        return True

    def weights(self, request):
        asked = WeightsRequest.FromString(request)
        if asked.model != "fake":
            raise Refused(f"no {asked.model} here")
        yield from shipping.ship(block for block in self.blocks if asked.first <= block[0] < asked.last)

    def turned_away(self, why):
        self.turned.append(why)

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, WAIT_S), f"{len(self.got)} of {count} came"
        return self.got


class Losses:
    def __init__(self):
        self.list, self.changed = [], threading.Condition()

    def __call__(self, header, why):
        with self.changed:
            self.list.append((header.request_id, why))
            self.changed.notify_all()

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.list) >= count, WAIT_S), f"{len(self.list)} of {count} lost"
        return self.list


@contextlib.contextmanager
def serving(inbox, port=0, sealing=None):
    with ThreadPoolExecutor(8) as pool:
        server = DataServer(f"127.0.0.1:{port}", inbox, pool, sealing)
        try:
            yield f"127.0.0.1:{server.ports[0]}"
        finally:
            server.close()


@pytest.fixture
def world():
    clock = MonotonicClock(MonotonicClock().now_us())
    timer = Timer(clock)
    yield clock, timer
    timer.close()


@contextlib.contextmanager
def edge_to(address, world, lost, **options):
    edge = Edge(address, *world, lost, **options)
    try:
        yield edge
    finally:
        edge.close()


def header(n):
    return Header(request_id=n, stream="cam", step=1, reply_to="127.0.0.1:1")


def test_tensors_arrive_whole_and_in_order(world):
    inbox, lost = Inbox(), Losses()
    with serving(inbox) as address, edge_to(address, world, lost) as edge:
        for n in range(20):
            edge.send(header(n), TENSOR, world[0].now_us() + 60_000_000)
        got = inbox.wait(20)
        assert lost.list == []
    assert [h.request_id for h, _ in got] == list(range(20))
    assert all(codec.same(t, TENSOR) for _, t in got)


def test_a_dead_peer_loses_the_tensor_by_name_and_a_new_one_gets_the_next(world):
    inbox, lost, port = Inbox(), Losses(), free_port()
    with edge_to(f"127.0.0.1:{port}", world, lost) as edge:
        edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
        [(n, why)] = lost.wait(1)
        assert n == 1 and "UNAVAILABLE" in why and str(port) in why
        with serving(inbox, port):
            edge.send(header(2), TENSOR, world[0].now_us() + 60_000_000)
            assert inbox.wait(1)[0][0].request_id == 2
            assert len(lost.list) == 1


def test_a_server_that_ends_loses_nothing_in_silence(world):
    inbox, lost = Inbox(accepting=False), Losses()
    with serving(inbox) as address:
        edge = Edge(address, *world, lost)
        edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
        inbox.wait(1)
    assert lost.wait(1)[0][0] == 1
    edge.close()


def test_no_ack_by_the_deadline_is_a_loss_and_the_stream_is_opened_again(world):
    inbox, lost = Inbox(accepting=False), Losses()
    with serving(inbox) as address, edge_to(address, world, lost) as edge:
        edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
        inbox.wait(1)
        time_passes(world, 60_000_000)
        assert lost.wait(1) == [(1, f"{address}: not acked by the deadline")]
        inbox.accepting = True
        edge.send(header(2), TENSOR, world[0].now_us() + 60_000_000)
        inbox.wait(2)
        edge.send(header(3), TENSOR, world[0].now_us() + 60_000_000)
        assert [h.request_id for h, _ in inbox.wait(3)] == [1, 2, 3]
        assert len(lost.list) == 1


def test_closing_an_edge_names_what_was_not_sent(world):
    lost = Losses()
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts nothing, answers nothing
        edge = Edge(f"127.0.0.1:{mute.getsockname()[1]}", *world, lost)
        for n in range(3):
            edge.send(header(n), TENSOR, world[0].now_us() + 60_000_000)
        edge.close()
    assert sorted(n for n, _ in lost.wait(3)) == [0, 1, 2]


def test_two_servers_on_one_port_are_refused():
    with serving(Inbox()) as address, ThreadPoolExecutor(1) as pool, pytest.raises(PortTaken, match=address):
        DataServer(address, Inbox(), pool)


def test_an_edge_takes_no_more_than_its_bound_and_says_so_at_once(world):
    inbox, lost = Inbox(accepting=False), Losses()
    with serving(inbox) as address:
        edge = Edge(address, *world, lost, limit_bytes=2_000_000)
        in_time = world[0].now_us() + 60_000_000
        edge.send(header(0), Tensor("uint8", (3_000_000,), bytes(3_000_000)), in_time)  # nothing else is there
        with pytest.raises(Busy, match=r"300\d{4} bytes are on their way, at most 2000000"):
            edge.send(header(1), TENSOR, in_time)
        edge.send(header(2), None, in_time)  # an error is always worth sending
        edge.close()
    assert sorted(n for n, _ in lost.wait(2)) == [0, 2]


def test_what_was_acked_or_lost_makes_room_again(world):
    inbox, lost = Inbox(), Losses()
    with serving(inbox) as address, edge_to(address, world, lost, limit_bytes=1_000_000) as edge:
        for n in range(4):
            edge.send(header(n), TENSOR, world[0].now_us() + 60_000_000)
            edge.drain(60_000_000)
        inbox.accepting = False
        edge.send(header(4), TENSOR, world[0].now_us() + 60_000_000)
        with pytest.raises(Busy):
            edge.send(header(5), TENSOR, world[0].now_us() + 60_000_000)
        inbox.wait(5)
        time_passes(world, 60_000_000)
        assert [n for n, _ in lost.wait(1)] == [4]  # by its deadline
        edge.send(header(6), TENSOR, world[0].now_us() + 60_000_000)
    assert [h.request_id for h, _ in inbox.got][:5] == [0, 1, 2, 3, 4]
    assert edge._parcels.held_bytes == 0


def test_an_edge_knows_what_its_way_carries(world):
    inbox = Inbox()
    with serving(inbox) as address, edge_to(address, world, Losses()) as edge:
        assert edge.rate_bps == 0
        for n in range(4):
            edge.send(header(n), TENSOR, world[0].now_us() + 60_000_000)
        edge.drain(60_000_000)
        assert edge.rate_bps > 1_000_000


def test_goodput_is_of_the_time_that_the_way_was_busy():
    seen = Goodput()
    assert seen.rate_bps == 0
    seen.acked(1_000_000, 0, 1_000_000)
    assert seen.rate_bps == 8_000_000
    seen.acked(1_000_000, 100_000, 2_000_000)  # sent while the first was on its way
    seen.acked(10, 5_000_000, 9_000_000)  # says nothing
    assert seen.rate_bps == 8_000_000
    for n in range(20):
        seen.acked(1_000_000, 10_000_000 + n * 500_000, 10_500_000 + n * 500_000)
    assert seen.rate_bps == 16_000_000
    seen.broken()
    assert seen.rate_bps == 0
    seen.acked(1_000_000, -1_000_000, 0)  # the clock was set back meanwhile
    assert seen.rate_bps == 8_000_000


def test_nothing_that_differs_from_machine_to_machine_is_left_to_a_default():
    client, server = dict(transport.CLIENT_OPTIONS), dict(transport.SERVER_OPTIONS)
    assert (client["grpc.keepalive_time_ms"], client["grpc.keepalive_permit_without_calls"]) == (1000, 1)
    assert server["grpc.http2.min_recv_ping_interval_without_data_ms"] <= 1000  # else a keepalive ends the connection
    assert server["grpc.so_reuseport"] == 0
    for options in (client, server):
        assert options["grpc.max_receive_message_length"] == transport.MESSAGE_MAX_BYTES < 2 << 20


def deliver(address, frames, identity=None):
    with transport.open_channel(address, identity) as channel:
        return list(channel.stream_stream(transport.DELIVER)(iter(frames), timeout=WAIT_S))


def test_garbage_ends_its_own_stream_only(world):
    inbox = Inbox()
    with serving(inbox) as address:
        for garbage in (b"", b"\xff\xff\xff\xff", bytes(transport.MESSAGE_MAX_BYTES + 1)):
            with pytest.raises(grpc.RpcError) as caught:
                deliver(address, [garbage])
            assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
        with edge_to(address, world, Losses()) as edge:
            edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
            inbox.wait(1)


def test_bytes_that_are_no_grpc_leave_others_alone(world):
    inbox = Inbox()
    with serving(inbox) as address, socket.create_connection(("127.0.0.1", int(address.split(":")[1]))) as raw:
        raw.sendall(b"\x16\x03\x01garbage\r\n" * 400)
        with edge_to(address, world, Losses()) as edge:
            edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
            arrived = inbox.wait(1)
    assert [(head.request_id, tensor) for head, tensor in arrived] == [(1, TENSOR)]
    assert inbox.refused == []


def test_a_bad_tensor_is_acked_and_refused_by_name():
    inbox = Inbox()
    bad = Header(request_id=9, step=2, dtype="float64", shape=[1], size_bytes=8, chunks=1)
    with serving(inbox) as address:
        good = list(codec.frames(header(10), TENSOR))
        acks = deliver(address, [codec.pack(bad, bytes(8)), *good])
    assert [codec.acked(ack) for ack in acks] == [[(9, 2, 0)], [(10, 1, 0)]]
    assert inbox.refused[0].header.request_id == 9 and "float64" in inbox.refused[0].why


def fetch(address, first=0, last=2, *, model="fake", limit_bytes=1 << 20):
    request = WeightsRequest(model=model, first=first, last=last)
    return shipping.fetch(address, request, limit_bytes=limit_bytes, deadline_s=WAIT_S)


def test_weights_arrive_by_block_and_are_counted():
    with serving(Inbox()) as address:
        blocks, moved_bytes = fetch(address)
        assert moved_bytes == 700_008 and set(blocks) == {0, 1}
        assert codec.same(blocks[0]["w"], TENSOR) and blocks[1]["b"].shape == (2,)
        assert fetch(address, 1, 2)[1] == 8


def test_weights_that_are_too_many_unknown_or_not_there_are_refused():
    with serving(Inbox()) as address:
        with pytest.raises(shipping.ShippingError, match="more than the blocks have"):
            fetch(address, limit_bytes=700_000)
        with pytest.raises(shipping.ShippingError, match="no other here"):
            fetch(address, model="other")
    with pytest.raises(shipping.ShippingError, match="did not send"):
        fetch(address)


def test_changed_or_foreign_weights_are_refused():
    frames = list(shipping.ship([(0, "w", Tensor("uint8", (1_400_000,), bytes(1_400_000)))]))

    def unpack(*frames):
        unpacking = shipping.Unpacking(0, 1, 1 << 21)
        for frame in frames:
            unpacking.push(frame)
        assert unpacking.done

    unpack(*frames)
    flipped = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    foreign = codec.pack(WeightsHeader(block=5, name="w", dtype="uint8", shape=[1], size_bytes=1, chunks=1), b"x")
    for bad, why in [
        ((frames[0], flipped, *frames[2:]), "digest"),
        ((frames[0], *frames[2:]), "out of order"),
        ((frames[0], frames[0]), "not whole"),
        ((*frames[:-2], frames[-1]), "not whole"),
        ((foreign,), "not asked for"),
        ((*frames, frames[0]), "after the end"),
        ((*frames[:-1], frames[0]), "not asked for"),
    ]:
        with pytest.raises(codec.FrameError, match=why):
            unpack(*bad)
