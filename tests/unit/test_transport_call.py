"""What nodes/wire/{call,accepted}.py take from below grpcio's promises, held to what they need: a new grpcio shows."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from nodes.wire import transport
from nodes.wire.accepted import Accepted
from nodes.wire.call import SENT, Call, Ended
from tests.unit.hosts import free_port

ECHO = "/test.Call/Echo"


def echo(messages, context):
    """Gives back what comes, and ends as it is told to."""
    for message in messages:
        if message == b"refuse":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        if message == b"end":
            return
        yield message


@pytest.fixture
def server():
    with ThreadPoolExecutor(4) as pool:
        handler = grpc.stream_stream_rpc_method_handler(echo)
        server = grpc.server(
            pool,
            handlers=[grpc.method_handlers_generic_handler("test.Call", {"Echo": handler})],
            options=transport.SERVER_OPTIONS,
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", server
        server.stop(None).wait()


@contextlib.contextmanager
def calling(address):
    with transport.open_channel(address) as channel:
        yield Call(channel, ECHO)


def end_after_one(call, act):
    """How the stream ends when `act` is done after one message has left and come back."""
    assert call.send(b"one")
    seen = set()
    with pytest.raises(Ended) as caught:
        for event in call:
            done = len(seen) == 2
            seen.add(event)
            if not done and len(seen) == 2:
                act()
    assert seen == {SENT, b"one"}
    call.cancel()  # does no harm
    assert call._due == 0 and not call.send(b"too late")
    return caught.value


def test_messages_go_and_come_in_order_and_each_is_said_to_have_left(server):
    with calling(server[0]) as call:
        left = [*(b"%d" % n for n in range(50)), b"end"]
        back, sent = [], 0
        assert call.send(left[0])
        for event in call:
            if event is not SENT:
                back.append(event)
                continue
            sent += 1
            if sent < len(left):
                assert call.send(left[sent])
        assert back == left[:-1] and sent == len(left)
        assert call._due == 0 and not call.send(b"too late")


def test_a_stream_makes_no_thread(server):
    with calling(server[0]) as call:
        before = set(threading.enumerate())
        assert call.send(b"one")
        events = iter(call)
        assert {next(events), next(events)} == {SENT, b"one"}
        made = set(threading.enumerate()) - before
        assert all(thread.name.startswith("ThreadPoolExecutor") for thread in made), made  # the server's
        call.cancel()
        with pytest.raises(Ended, match="CANCELLED"):
            list(events)


def test_a_refusal_comes_with_its_code_and_words(server):
    with calling(server[0]) as call:
        ended = end_after_one(call, lambda: call.send(b"refuse"))
    assert (ended.code, ended.details) == (grpc.StatusCode.PERMISSION_DENIED, "not you")


def test_a_stream_that_is_cancelled_or_whose_server_ends_is_read_to_its_end(server):
    address, grpc_server = server
    with calling(address) as call:
        assert end_after_one(call, call.cancel).code is grpc.StatusCode.CANCELLED
    with calling(address) as call:
        assert end_after_one(call, lambda: grpc_server.stop(0)).code is grpc.StatusCode.UNAVAILABLE


def test_nobody_there_is_said_and_nothing_is_said_to_have_left():
    with calling(f"127.0.0.1:{free_port()}") as call:
        assert call.send(b"one")
        with pytest.raises(Ended, match="UNAVAILABLE"):
            assert list(call) == []


def test_what_does_not_fit_waits_for_its_reader():
    with socket.create_server(("127.0.0.1", 0)) as mute, calling(f"127.0.0.1:{mute.getsockname()[1]}") as call:
        assert call.send(b"one")
        threading.Timer(0.05, call.cancel).start()
        with pytest.raises(Ended, match="CANCELLED"):
            assert SENT not in list(call)


def begun(call):
    """Its events, after one message has left and come back."""
    assert call.send(b"one")
    events = iter(call)
    assert {next(events), next(events)} == {SENT, b"one"}
    return events


def test_what_has_happened_is_collected_without_waiting_for_more(server):
    with calling(server[0]) as call:
        events = begun(call)
        assert call.collect() == [] and not call.ended
        assert call.send(b"two")
        found = []
        while SENT not in found:
            found += call.collect()
            time.sleep(0.001)
        assert call.send(b"refuse")  # whoever collected, who iterates goes on from there
        with pytest.raises(Ended, match="not you"):
            found.extend(events)
        assert found.count(b"two") == 1 and call.ended and call.collect() == []


def test_an_end_that_was_collected_is_told_to_who_iterates(server):
    with calling(server[0]) as call:
        events = begun(call)
        call.cancel()
        while not call.ended:
            assert call.collect() == []
            time.sleep(0.001)
        with pytest.raises(Ended, match="CANCELLED"):
            next(events)
        assert call._due == 0


class Echo:
    """Serves one stream at a time by `Accepted`, whose own thread only waits for the end."""

    def __init__(self):
        self.finders, self.over = [], threading.Event()

    def serve(self, _, context):
        ended = threading.Event()

        def found(message):
            self.finders.append(threading.current_thread().name)
            if message is None:
                ended.set()
            elif message == b"fail":
                raise ValueError("as it was told to")
            else:
                stream.send(message)

        def sent():
            stream.receive()

        stream = Accepted(context, found, sent, ended.set)
        context.add_callback(self.over.set)
        stream.receive()
        ended.wait()
        return iter(())


@pytest.fixture
def accepting():
    with ThreadPoolExecutor(4, thread_name_prefix="pool") as pool:
        echo = Echo()
        handlers = {"Echo": grpc.stream_stream_rpc_method_handler(echo.serve)}
        server = grpc.server(pool, handlers=[grpc.method_handlers_generic_handler("test.Call", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", echo
        server.stop(None).wait()


def test_a_server_finds_all_messages_on_one_thread_that_is_not_the_streams(accepting):
    address, echo = accepting
    with transport.open_channel(address) as channel:
        echoed = channel.stream_stream(ECHO)(iter([b"%d" % n for n in range(50)]), timeout=60)
        assert list(echoed) == [b"%d" % n for n in range(50)]
    assert len(set(echo.finders)) == 1 and not echo.finders[0].startswith("pool")


def test_a_stream_that_its_client_leaves_is_over(accepting):
    address, echo = accepting
    with calling(address) as call:
        end_after_one(call, call.cancel)
    assert echo.over.wait(60)


def test_what_fails_where_it_is_found_ends_its_own_stream_only(accepting):
    address, echo = accepting
    with calling(address) as call:
        assert end_after_one(call, lambda: call.send(b"fail")).code is grpc.StatusCode.CANCELLED
    assert echo.over.wait(60)
    with calling(address) as call:
        end_after_one(call, call.cancel)
