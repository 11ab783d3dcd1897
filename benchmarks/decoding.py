"""A decode round of a generation over one, two and three nodes: by the streams, and by unary calls.

    python -m benchmarks.decoding

One token's activation (768 float32) goes from the phone through every node and back; the nodes pass on what came, so
that all that is timed is the way. Each is a process. Three ways with the same frames, checks and open connections:

    streams       a node sends to the next, the last to the phone, whose next round begins where the answer arrives
    nested        a node answers its caller when the next one has answered it
    phone calls   the phone calls each node in turn

The ways take turns, a generation each; p50 of their rounds' means. All is measured on both event engines of gRPC's
core (benchmarks/engines.py), and the calls are shown on the better one. The machine is not kept quiet: look at ratios.
"""

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks import engines
from benchmarks.table import RESULTS, WIDTH
from benchmarks.windows import quantile
from nodes.clock import MonotonicClock, Timer
from nodes.proto.data_pb2 import Header, Hop
from nodes.wire import codec
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.outbox import Outbox
from nodes.wire.transport import DataServer, Refused

NODES = (1, 2, 3)
WIDTH_VALUES = 768  # GPT-2's, one token
TOKENS = 32  # of a generation
GENERATIONS = 40
WAYS = ("streams", "nested", "phone calls")
NESTED, STEP = "/bench.Unary/Nested", "/bench.Unary/Step"
LIMIT_US = 60_000_000


def advance(header: Header) -> str:
    """The header as it leaves a node, and where to: the next one, or the phone."""
    header.step += 1
    return header.route[header.step].address if header.step < len(header.route) else header.reply_to


def packed(header: Header, tensor: Tensor) -> bytes:
    [frame] = codec.frames(header, tensor)
    return frame


def unpacked(frame: bytes) -> tuple[Header, Tensor]:
    whole = codec.Assembler().push(frame)
    if whole is None or whole[1] is None:
        raise ValueError("not a tensor of one frame")
    return whole[0], whole[1]


def free_address() -> str:
    """Of this machine alone, at a port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Passing:
    """A host that passes on, or does with it what it is told to."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._clock = MonotonicClock(MonotonicClock().now_us())
        self._timer = Timer(self._clock)
        self.address = free_address()
        self.outbox = Outbox(self.address, self._clock, self._timer, self.deliver, self.lost, receiver=self)
        self.take: Callable[[Header, Tensor], None] = self.send
        self.server = DataServer(self.address, self, pool, ways=self.outbox)
        gc.freeze()  # as a node does when it begins

    def send(self, header: Header, tensor: Tensor) -> None:
        self.outbox.send(advance(header), header, tensor)

    def deliver(self, header: Header, tensor: Tensor | None) -> bool:
        if tensor is not None:
            self.take(header, tensor)
        return True

    def lost(self, header: Header, why: str) -> None:
        del header
        print(why, file=sys.stderr, flush=True)
        os._exit(1)

    def refuse(self, error: FrameError) -> bool:
        raise error

    def weights(self, request: bytes) -> Iterator[bytes]:
        raise Refused(f"{len(request)} bytes asked for")

    def turned_away(self, why: str) -> None:
        raise RuntimeError(why)


class Calls:
    """Open connections for unary calls."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], Any] = {}

    def __call__(self, method: str, address: str, frame: bytes) -> bytes:
        call = self._calls.get((method, address))
        if call is None:
            call = self._calls[method, address] = grpc.insecure_channel(address).unary_unary(method)
        reply: bytes = call(frame, timeout=60)
        return reply


def serve() -> None:
    """A node: prints where its two doors are, serves until its input ends."""
    calls = Calls()

    def step(frame: bytes, _: grpc.ServicerContext) -> bytes:
        header, tensor = unpacked(frame)
        advance(header)
        return packed(header, tensor)

    def nested(frame: bytes, _: grpc.ServicerContext) -> bytes:
        header, tensor = unpacked(frame)
        address, on = advance(header), packed(header, tensor)
        return on if header.step == len(header.route) else calls(NESTED, address, on)

    with ThreadPoolExecutor(16) as pool:
        methods = {
            path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(method)
            for path, method in ((STEP, step), (NESTED, nested))
        }
        unary = grpc.server(pool, handlers=[grpc.method_handlers_generic_handler("bench.Unary", methods)])
        unary_port = unary.add_insecure_port("127.0.0.1:0")
        unary.start()
        passing = Passing(pool)
        print(json.dumps([passing.address, f"127.0.0.1:{unary_port}"]), flush=True)
        sys.stdin.read()
        passing.server.close()
        unary.stop(None).wait()
        os._exit(0)  # the edges' threads are nobody's any more


class Phone:
    """Begins each round; the streams' answers come in by its own door."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._calls = Calls()
        self._passing = Passing(pool)
        self._activation = Tensor("float32", (1, 1, WIDTH_VALUES), os.urandom(WIDTH_VALUES * 4))

    def _round(self, addresses: Sequence[str], position: int) -> Header:
        hops = [Hop(node=f"mec{i}", address=where, first=4 * i, last=4 * i + 4) for i, where in enumerate(addresses)]
        return Header(
            request_id=position,
            stream="chat.ue1",
            model="gpt2",
            route=hops,
            reply_to=self._passing.address,
            deadline_us=LIMIT_US * 1000,
            session="chat.ue1/7",
            position=position,
            tokens=1,
        )

    def streams(self, addresses: Sequence[str]) -> None:
        left, over, send = TOKENS - 1, threading.Event(), self._passing.outbox.send

        def go_on(_: Header, answer: Tensor) -> None:
            nonlocal left
            if not left:
                over.set()
                return
            left -= 1
            send(addresses[0], self._round(addresses, left), answer)

        self._passing.take = go_on
        send(addresses[0], self._round(addresses, TOKENS), self._activation)
        over.wait()

    def nested(self, addresses: Sequence[str]) -> None:
        tensor = self._activation
        for left in range(TOKENS):
            _, tensor = unpacked(self._calls(NESTED, addresses[0], packed(self._round(addresses, left), tensor)))

    def phone_calls(self, addresses: Sequence[str]) -> None:
        tensor = self._activation
        for left in range(TOKENS):
            header = self._round(addresses, left)
            for address in addresses:
                header, tensor = unpacked(self._calls(STEP, address, packed(header, tensor)))

    def close(self) -> None:
        self._passing.outbox.close()
        self._passing.server.close()


@contextmanager
def _node() -> Iterator[list[str]]:
    """A node's process, and its addresses: of its stream door and its unary one."""
    command = [sys.executable, "-m", "benchmarks.decoding", "--node"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate(timeout=10)


def measure() -> dict[str, dict[str, float]]:
    """{nodes: {way: milliseconds a round}}."""
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        phone = Phone(pool)
        stack.callback(phone.close)
        streams, unary = zip(*[stack.enter_context(_node()) for _ in range(max(NODES))], strict=True)
        ways = {"streams": (phone.streams, streams), "nested": (phone.nested, unary)}
        ways["phone calls"] = (phone.phone_calls, unary)
        took: dict[tuple[int, str], list[float]] = {(nodes, way): [] for nodes in NODES for way in WAYS}
        for generation in range(GENERATIONS + 1):
            for (nodes, way), means in took.items():
                run, addresses = ways[way]
                began = time.perf_counter()
                run(addresses[:nodes])
                if generation:  # the first has opened the connections
                    means.append(1e3 * (time.perf_counter() - began) / TOKENS)
    return {str(nodes): {way: quantile(took[nodes, way], 0.5) for way in WAYS} for nodes in NODES}


def better(nodes: dict[str, dict[str, float]], default: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The streams as the nodes run, each way of calls on the engine that it is faster on."""
    return {
        count: {way: took if way == WAYS[0] else min(took, default[count][way]) for way, took in ways.items()}
        for count, ways in nodes.items()
    }


def show(measured: dict[str, dict[str, float]]) -> None:
    table = Table("nodes", *(f"{way}, ms" for way in WAYS), "better unary / streams", width=WIDTH, title="decode round")
    for nodes, ways in measured.items():
        unary = min(ways[way] for way in WAYS[1:])
        table.add_row(nodes, *(f"{ways[way]:.3f}" for way in WAYS), f"{unary / ways['streams']:.2f}x")
    Console(width=WIDTH).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument("--node", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.node:
        serve()
        return
    if asked.measure:
        print(json.dumps(measure()))
        return
    measured = better(*engines.on_each("benchmarks.decoding"))
    show(measured)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "decoding.json").write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
