"""Answers that come back on the stream on which their requests went."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from nodes.proto.data_pb2 import Header, Hop
from nodes.wire import codec
from nodes.wire.codec import Tensor
from nodes.wire.incoming import SMALL_BYTES
from nodes.wire.outbox import Outbox
from nodes.wire.sealing import Sealing
from nodes.wire.transport import DataServer
from tests.unit.hosts import free_port, time_passes
from tests.unit.test_tls import run
from tests.unit.test_transport import WAIT_S, Inbox, Losses, deliver, serving, world

__all__ = ["run", "world"]  # fixtures

SMALL, LARGE = (Tensor("uint8", (size,), bytes(size)) for size in (3000, SMALL_BYTES + 1))
IN_TIME_US = 60_000_000


class Node(Inbox):
    """Both doors of a host; `answers` what comes for it, if it is told to."""

    def __init__(self, world, stack, *, sealing=None, answer=None):
        super().__init__()
        self.clock, self.lost, self.answer = world[0], Losses(), answer
        self.address = f"127.0.0.1:{free_port()}"
        self.outbox = Outbox(self.address, *world, self.deliver, self.lost, receiver=self, sealing=sealing)
        pool = stack.enter_context(ThreadPoolExecutor(8))
        self.server = DataServer(self.address, self, pool, sealing, self.outbox)
        stack.callback(self.outbox.close)
        stack.callback(self.close)

    def close(self):
        self.server.close()

    def deliver(self, header, tensor):
        accepted = super().deliver(header, tensor)
        if self.answer is not None and header.step < len(header.route):
            header.step += 1
            self.outbox.send(header.reply_to, header, self.answer(header))
        return accepted

    def ask(self, other, n, tensor=SMALL, *, before=()):
        """Request n to the last of its route."""
        hops = [Hop(node=str(i), address=where) for i, where in enumerate([*before, other.address])]
        header = Header(request_id=n, model="fake", step=len(before), route=hops, reply_to=self.address)
        header.deadline_us = self.clock.now_us() + IN_TIME_US
        self.outbox.send(other.address, header, tensor)

    def edge(self, other, sealed=0):
        host, _, port = other.address.rpartition(":")
        return self.outbox._edges.get(f"{host}:{int(port) + sealed}")

    def settle(self, other, sealed=0):
        """All that was sent there was acked."""
        edge = self.edge(other, sealed)
        edge.drain(IN_TIME_US)
        assert not edge._parcels and edge._parcels.held_bytes == 0


@pytest.fixture
def pair(world):
    """A phone, and a node that answers it."""
    with contextlib.ExitStack() as stack:
        yield Node(world, stack), Node(world, stack, answer=lambda _: SMALL)


def numbers(inbox):
    return [header.request_id for header, _ in inbox.got]


def test_small_answers_come_back_in_order_on_the_stream_of_their_requests(pair):
    phone, node = pair
    for n in range(200):
        phone.ask(node, n)
    phone.wait(200)
    assert numbers(phone) == numbers(node) == list(range(200))
    phone.settle(node)
    node.settle(phone)
    assert node.edge(phone)._own is None  # it has opened none
    assert phone.lost.list == node.lost.list == []


def test_a_large_answer_goes_its_own_way_and_small_ones_beside_it_as_before(world):
    with contextlib.ExitStack() as stack:
        phone = Node(world, stack)
        node = Node(world, stack, answer=lambda header: LARGE if header.request_id % 5 == 4 else SMALL)
        for n in range(100):
            phone.ask(node, n, LARGE if n % 3 == 0 else SMALL)
        got = phone.wait(100)
        assert sorted(numbers(phone)) == list(range(100))
        assert all((tensor.size_bytes > SMALL_BYTES) == (head.request_id % 5 == 4) for head, tensor in got)
        node.settle(phone)
        phone.settle(node)
        assert node.edge(phone)._own is not None
        assert phone.lost.list == node.lost.list == []


def test_what_is_not_for_the_last_of_the_route_offers_nothing(world):
    with contextlib.ExitStack() as stack:
        phone, first = Node(world, stack), Node(world, stack)
        last = Node(world, stack, answer=lambda _: SMALL)
        phone.ask(last, 1, before=(first.address,))
        phone.wait(1)
        assert phone.edge(last)._own.offered  # the phone holds the hop before
        header = Header(request_id=2, route=[Hop(), Hop()], reply_to=phone.address, deadline_us=IN_TIME_US)
        phone.outbox.send(first.address, header, SMALL)
        [(came, _)] = first.wait(1)
        assert not came.answer_here and not phone.edge(first)._own.offered


def test_who_expects_an_answer_does_not_rest_until_it_has_come(world):
    with contextlib.ExitStack() as stack:
        phone, node = Node(world, stack), Node(world, stack)
        held = []
        node.answer = None
        for n in range(20):
            phone.ask(node, n)
            header, _ = node.wait(n + 1)[n]
            held.append(header)
            assert phone.edge(node)._own.expected == n + 1 and not phone.edge(node)._own.resting
        for header in held:
            header.step += 1
            node.outbox.send(header.reply_to, header, SMALL)
        phone.wait(20)
        phone.settle(node)
        assert phone.edge(node)._own.expected == 0


def test_answers_on_a_stream_that_breaks_are_lost_by_name_and_the_next_request_brings_the_next_stream(pair):
    phone, node = pair
    phone.accepting = False  # nothing is acked
    phone.ask(node, 1)
    phone.wait(1)
    phone.edge(node)._own.line.cancel()
    [(n, why)] = node.lost.wait(1)
    assert n == 1 and "the peer ended the stream" in why
    phone.accepting = True
    with phone.edge(node)._lock:
        assert phone.edge(node)._ends.wait_for(lambda: phone.edge(node)._own is None, WAIT_S)
    phone.ask(node, 2)
    phone.wait(2)
    node.settle(phone)
    assert node.edge(phone)._own is None and len(node.lost.list) == 1


def test_an_answer_that_is_not_acked_by_its_deadline_leaves_the_peers_stream_to_him(world):
    with contextlib.ExitStack() as stack:
        phone, node = Node(world, stack), Node(world, stack)
        for n in (1, 2):
            phone.accepting = n == 2
            phone.ask(node, n)
            header, _ = node.wait(n)[n - 1]
            header.step += 1
            header.deadline_us = world[0].now_us() + IN_TIME_US
            phone.settle(node)
            node.outbox.send(header.reply_to, header, SMALL)
            phone.wait(n)
            if n == 1:
                time_passes(world, IN_TIME_US)
                assert node.lost.wait(1) == [(1, f"{phone.address}: not acked by the deadline")]
        node.settle(phone)
        phone.settle(node)
        assert node.edge(phone)._own is not None and phone.lost.list == []


def test_an_offer_for_another_host_or_of_no_address_is_none():
    asked = []

    class Ways:
        def adopt(self, address, put, *, sealed):
            asked.append(address)

    inbox = Inbox()
    with ThreadPoolExecutor(8) as pool:
        server = DataServer("127.0.0.1:0", inbox, pool, ways=Ways())
        frames = []
        for n, reply_to in enumerate(("10.9.9.9:5000", "127.0.0.1:x", "127.0.0.1", "", "127.0.0.1:5000")):
            head = Header(request_id=n, reply_to=reply_to, answer_here=True)
            frames += codec.frames(head, SMALL)
        assert len(deliver(f"127.0.0.1:{server.ports[0]}", frames)) == 5
        server.close()
    assert asked == ["127.0.0.1:5000"]


def test_acks_of_what_was_not_sent_end_a_stream_by_name():
    with serving(Inbox()) as address:
        for frame, why in ((codec.acks([(1, 1, 0)]), "nothing was sent"), (codec.ASK + b"12345", "not all whole")):
            with pytest.raises(grpc.RpcError) as caught:
                deliver(address, [frame])
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and why in caught.value.details()


def test_what_comes_back_and_was_not_offered_ends_the_stream(world):
    def talk(frames, _):
        next(frames)
        yield from codec.frames(Header(request_id=7), SMALL)
        yield from frames

    inbox, lost = Inbox(), Losses()
    with ThreadPoolExecutor(2) as pool:
        methods = {"Deliver": grpc.stream_stream_rpc_method_handler(talk)}
        server = grpc.server(pool, handlers=[grpc.method_handlers_generic_handler("testbed.Data", methods)])
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        outbox = Outbox("127.0.0.1:1", *world, inbox.deliver, lost, receiver=inbox)
        header = Header(request_id=1, reply_to="127.0.0.1:2", deadline_us=world[0].now_us() + IN_TIME_US)
        outbox.send(address, header, SMALL)
        assert lost.wait(1)[0][0] == 1 and inbox.got == []
        outbox.close()
        server.stop(None).wait()


def test_encrypted_requests_have_encrypted_answers_on_the_same_stream(run, world):
    with contextlib.ExitStack() as stack:
        phone, node = (Node(world, stack, sealing=Sealing("all", run.identity(who))) for who in ("ue1", "mec"))
        node.answer = lambda _: SMALL
        for n in range(20):
            phone.ask(node, n)
        phone.wait(20)
        node.settle(phone, sealed=1)
        assert numbers(phone) == list(range(20)) and node.edge(phone, sealed=1)._own is None
        assert phone.turned == node.turned == []


def test_a_bad_answer_is_refused_by_name_and_acked(pair):
    phone, node = pair
    wrong = Header(request_id=5, step=1, dtype="float64", shape=[1], size_bytes=8, chunks=1)
    phone.ask(node, 1)
    phone.wait(1)
    node.edge(phone)._back.line.send(codec.pack(wrong, bytes(8)))
    with phone.changed:
        assert phone.changed.wait_for(lambda: phone.refused, WAIT_S)
    assert phone.refused[0].header.request_id == 5 and "float64" in phone.refused[0].why
    phone.ask(node, 2)
    phone.wait(2)
    assert phone.lost.list == []


def test_both_ways_of_an_edge_are_served_whoever_sends(world):
    """Answers that are offered a stream and what is not, from several threads at once."""
    with contextlib.ExitStack() as stack:
        phone, node = Node(world, stack), Node(world, stack)
        for n in range(60):
            phone.ask(node, n)
        asked = node.wait(60)

        def send(part):
            for n in part:
                header = asked[n][0]
                header.step += 1
                if n % 3 == 0:
                    header = Header(request_id=1000 + n, step=1, deadline_us=header.deadline_us)
                node.outbox.send(phone.address, header, LARGE if n % 7 == 0 else SMALL)

        threads = [threading.Thread(target=send, args=(range(k, 60, 4),)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        phone.wait(60)
        node.settle(phone)
        assert sorted(numbers(phone)) == sorted(n if n % 3 else 1000 + n for n in range(60))
        assert node.lost.list == []


def test_a_generation_on_one_node_opens_no_way_back(chat_of):
    chat = chat_of()
    chat.phone()
    assert chat.place("a", 0, chat.units).ok
    chat.go(f"a:0-{chat.units}")
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == chat.right
    phone = chat.hosts["ue1"].agent.spec.address
    assert chat.hosts["a"].agent.outbox._edges[phone]._own is None
