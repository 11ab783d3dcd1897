"""Which tensors ask for their ack, and whose acks come back: of every one that was accepted, once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from nodes.clock import MonotonicClock, Timer
from nodes.wire import arrivals, codec, incoming
from nodes.wire.codec import Tensor
from nodes.wire.edge import ASK_EVERY_US, Edge
from tests.unit.hosts import free_port
from tests.unit.test_transport import TENSOR, WAIT_S, Inbox, Losses, deliver, edge_to, header, serving, world

__all__ = ["world"]  # a fixture

SMALL = Tensor("uint8", (3000,), bytes(3000))


def test_the_ack_is_of_the_tensor_that_came_though_the_receiver_wrote_on_its_header(world):
    class Passing(Inbox):
        def deliver(self, header, tensor):
            header.step += 1  # as a node does that passes it on
            return super().deliver(header, tensor)

    lost = Losses()
    with serving(Passing()) as address, edge_to(address, world, lost) as edge:
        edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
        edge.drain(60_000_000)
        assert edge._parcels.held_bytes == 0 and lost.list == []


def acks_of(frames, receiver=None):
    """The messages that come back, each as the keys in it."""
    with serving(receiver or Inbox()) as address:
        return [codec.acked(message) for message in deliver(address, frames)]


def small_frame(n, *, later):
    head = header(n)
    head.ack_later = later
    [frame] = codec.frames(head, SMALL)
    return frame


def test_acks_that_may_come_later_come_with_the_next_one_in_order_and_once():
    later = [small_frame(n, later=True) for n in range(3)]
    with_next = acks_of([*later, small_frame(3, later=False), small_frame(4, later=False)])
    assert with_next == [[(n, 1, 0) for n in range(4)], [(4, 1, 0)]]
    assert acks_of([*later, codec.ASK]) == [[(n, 1, 0) for n in range(3)]]
    assert acks_of([codec.ASK]) == []


def test_what_was_not_accepted_is_not_acked_by_another_ones_ack():
    class Choosing(Inbox):
        def deliver(self, header, tensor):
            return super().deliver(header, tensor) and header.request_id != 1

    frames = [small_frame(n, later=True) for n in range(3)]
    assert acks_of([*frames, codec.ASK], Choosing()) == [[(0, 1, 0), (2, 1, 0)]]


def test_acks_do_not_wait_without_end():
    frames = [small_frame(n, later=True) for n in range(arrivals.ACKS_MAX + 1)]
    [acks] = acks_of(frames)
    assert len(acks) == arrivals.ACKS_MAX


def test_of_small_tensors_close_together_few_ask_and_all_are_acked(world):
    inbox, lost = Inbox(), Losses()
    with serving(inbox) as address, edge_to(address, world, lost) as edge:
        for n in range(200):
            edge.send(header(n), SMALL, world[0].now_us() + 60_000_000)
        with edge._work:  # nobody drains: the edge itself asks for the last ones
            assert edge._ends.wait_for(lambda: not edge._parcels, WAIT_S)
        later = [head.ack_later for head, _ in inbox.wait(200)]
        assert not later[0] and sum(later) > 100
        assert edge._parcels.held_bytes == 0 and lost.list == []


def test_what_is_large_an_error_or_due_soon_asks_for_its_own_ack(world):
    inbox, now_us = Inbox(), world[0].now_us()
    with serving(inbox) as address, edge_to(address, world, Losses()) as edge:
        edge.send(header(1), SMALL, now_us + 60_000_000)
        edge.send(header(2), TENSOR, now_us + 60_000_000)
        edge.send(header(3), SMALL, now_us + 900_000)
        failed = header(4)
        failed.error_code = "BUSY"
        edge.send(failed, None, now_us + 60_000_000)
        assert [head.ack_later for head, _ in inbox.wait(4)] == [False] * 4


def test_a_header_that_cannot_be_sent_loses_its_own_tensor_only(world):
    inbox, lost = Inbox(), Losses()
    with serving(inbox) as address, edge_to(address, world, lost) as edge:
        edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
        long = header(2)
        long.model = "x" * codec.HEADER_MAX_BYTES
        edge.send(long, TENSOR, world[0].now_us() + 60_000_000)
        edge.send(header(3), TENSOR, world[0].now_us() + 60_000_000)
        edge.drain(60_000_000)
        assert [head.request_id for head, _ in inbox.wait(2)] == [1, 3]
        [(n, why)] = lost.wait(1)
        assert n == 2 and "at most" in why and edge._parcels.held_bytes == 0


def test_acks_that_are_none_end_the_stream_and_the_tensor_by_name(world):
    def babble(frames, _):
        next(frames)
        yield b"thanks"

    lost = Losses()
    with ThreadPoolExecutor(2) as pool:
        methods = {"Deliver": grpc.stream_stream_rpc_method_handler(babble)}
        server = grpc.server(pool, handlers=[grpc.method_handlers_generic_handler("testbed.Data", methods)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with edge_to(f"127.0.0.1:{port}", world, lost) as edge:
            edge.send(header(1), TENSOR, world[0].now_us() + 60_000_000)
            assert lost.wait(1)[0][0] == 1
        server.stop(None).wait()


def test_what_waits_for_a_peer_that_is_not_there_is_not_lost_with_the_first(world):
    inbox, lost, port = Inbox(), Losses(), free_port()
    with edge_to(f"127.0.0.1:{port}", world, lost) as edge:
        with edge._work:  # both are there before the stream is tried
            for n in (1, 2):
                edge.send(header(n), TENSOR, world[0].now_us() + 60_000_000)
        assert lost.wait(1)[0][0] == 1
        with serving(inbox, port):
            assert inbox.wait(1)[0][0].request_id == 2
            edge.drain(60_000_000)
        assert len(lost.list) == 1


def test_a_clock_that_is_set_back_keeps_no_ack_waiting(world):
    clock, inbox, lost = MonotonicClock(), Inbox(), Losses()  # time zero is not known yet
    with serving(inbox) as address, edge_to(address, (clock, world[1]), lost) as edge:
        edge.send(header(1), None, clock.now_us() + 60_000_000)
        edge.drain(60_000_000)
        clock.t0_us = clock.now_us() + 1_000_000
        assert clock.now_us() < 0
        edge.send(header(2), SMALL, clock.now_us() + 60_000_000)
        assert inbox.wait(1)[0][0].ack_later is False


def test_small_tensors_are_taken_where_they_are_found_and_large_ones_on_their_streams_thread():
    finders = {}

    class Telling(Inbox):
        def deliver(self, header, tensor):
            finders[header.request_id] = threading.current_thread().name
            return super().deliver(header, tensor)

    long = list(codec.frames(header(2), Tensor("uint8", (200_000,), bytes(200_000)), 150_000))
    assert len(long[-1]) < incoming.SMALL_BYTES
    assert len(acks_of([small_frame(1, later=False), *long, small_frame(3, later=False)], Telling())) == 3
    assert finders[1] == finders[3] != finders[2]
    assert finders[2].startswith("ThreadPoolExecutor")


class Standing:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.t_us = 0

    def now_us(self):
        return self.t_us


def send_until_it_rests(edge, inbox):
    """One that asks, and others that do not; how many."""
    edge.send(header(0), SMALL, 60_000_000)
    edge.drain(60_000_000)
    sent = 1
    while not (edge._own and edge._own.resting):
        edge.send(header(sent), SMALL, 60_000_000)
        sent += 1
        inbox.wait(sent)
        time.sleep(0.001)
    return sent


def test_while_no_ack_is_asked_for_tensors_leave_without_the_edges_thread():
    clock, inbox, lost = Standing(), Inbox(), Losses()
    timer = Timer(clock)
    with serving(inbox) as address, edge_to(address, (clock, timer), lost) as edge:
        before = send_until_it_rests(edge, inbox)
        for n in range(before, before + 50):
            edge.send(header(n), SMALL, 60_000_000)
        got = inbox.wait(before + 50)
        assert [head.request_id for head, _ in got] == list(range(before + 50))
        assert len(edge._parcels.unacked) > 50  # nobody has asked yet
        edge.drain(60_000_000)
        assert edge._parcels.held_bytes == 0 and lost.list == []
    timer.close()


def test_a_stream_that_breaks_while_its_thread_rests_is_seen_when_the_ack_is_asked_for():
    clock, inbox, lost = Standing(), Inbox(), Losses()
    timer = Timer(clock)
    with serving(inbox) as address:
        edge = Edge(address, clock, timer, lost)
        send_until_it_rests(edge, inbox)
        unacked = sorted(key[0] for key in edge._parcels.unacked)
    clock.t_us = ASK_EVERY_US
    timer.rearm()
    assert sorted(n for n, _ in lost.wait(len(unacked))) == unacked
    edge.close()
    timer.close()


def test_an_edge_that_rests_is_closed_at_once():
    clock, inbox, lost = Standing(), Inbox(), Losses()
    timer = Timer(clock)
    with serving(inbox) as address:
        with edge_to(address, (clock, timer), lost) as edge:
            send_until_it_rests(edge, inbox)
            unacked = sorted(key[0] for key in edge._parcels.unacked)
        assert unacked and sorted(n for n, _ in lost.list) == unacked
    timer.close()
