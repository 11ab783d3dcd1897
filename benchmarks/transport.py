"""The data plane beside raw TCP and unary gRPC on loopback: latency, throughput, what encryption and fewer bits cost.

    make bench

Two processes, one monotonic clock. Latency: one tensor at a time, from the moment it is given away until the other
process has it whole. Round: until its small acknowledgement is back; small tensors on a stream wait for theirs and are
asked for it here. Decode round: see benchmarks/decoding.py. Throughput: so many tensors at once, until the
last is acknowledged. All ways take turns, round by round, so that whatever else the machine does meets all of them
alike; p50 of the rounds. All is measured on both event engines of gRPC's core (benchmarks/engines.py), and unary gRPC
is shown on the better one. The machine is not kept quiet: look at ratios.
"""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import decoding, engines
from benchmarks.table import RESULTS, WIDTH
from benchmarks.windows import quantile
from nodes.clock import MonotonicClock, Timer
from nodes.proto.data_pb2 import Header
from nodes.wire import codec
from nodes.wire.certificates import Authority, issue
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.edge import Edge
from nodes.wire.quantise import WIRES, quantise, restore
from nodes.wire.sealing import Sealing
from nodes.wire.tls import Holder, load
from nodes.wire.transport import DataServer, Refused

SIZES = (4 << 10, 512 << 10, 3 << 20, 16 << 20)
ROUNDS = {4 << 10: 300, 512 << 10: 60, 3 << 20: 20, 16 << 20: 8}
BURST_BYTES = 48 << 20  # of throughput; what an edge holds at most is a little more
BURST_MAX = 1000
BURSTS = 3
UNARY = "/bench.Unary/Take"
UNARY_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
UNARY_AT_ONCE = 8
LENGTH, ACK = struct.Struct("<Q"), b"\0" * 12
WAYS = ("raw TCP", "unary gRPC", "stream", "encrypted stream")
RUN = "bench"
LIMIT_US = 60_000_000

Send = Callable[[Tensor], None]
Way = tuple[Send, Callable[[Tensor, int], None]]  # one tensor and its ack; so many at once and the last ack


class Sink:
    """A receiver that takes everything, and keeps when."""

    def __init__(self, arrived: list[int]) -> None:
        self._arrived = arrived

    def deliver(self, header: Header, tensor: Tensor | None) -> bool:
        del header, tensor
        self._arrived.append(time.monotonic_ns())
        return True

    def refuse(self, error: FrameError) -> bool:
        raise error

    def weights(self, request: bytes) -> Iterator[bytes]:
        raise Refused(f"{len(request)} bytes asked for")

    def turned_away(self, why: str) -> None:
        raise RuntimeError(why)


# -- the serving process


def serve(folder: Path) -> None:
    """Prints the port of each way, serves until a line comes, then prints when each tensor arrived (ns), by way."""
    sealings = {"stream": Sealing(), "encrypted stream": Sealing("all", load(folder, RUN, "server"))}
    arrived: dict[str, list[int]] = {name: [] for name in WAYS}
    with ThreadPoolExecutor(16) as pool, ExitStack() as stack:
        ports = {
            "raw TCP": _raw_server(pool, stack, arrived["raw TCP"]),
            "unary gRPC": _unary_server(pool, stack, arrived["unary gRPC"]),
        }
        for name, sealing in sealings.items():
            port = _free_port()
            server = DataServer(f"127.0.0.1:{port}", Sink(arrived[name]), pool, sealing)
            stack.callback(server.close)
            ports[name] = server.ports[0]
        print(json.dumps(ports), flush=True)
        sys.stdin.readline()
        print(json.dumps(arrived), flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _raw_server(pool: ThreadPoolExecutor, stack: ExitStack, arrived: list[int]) -> int:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    pool.submit(_take_raw, listener, arrived)
    return int(listener.getsockname()[1])


def _take_raw(listener: socket.socket, arrived: list[int]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place = memoryview(bytearray(max(SIZES)))
        while head := connection.recv(LENGTH.size, socket.MSG_WAITALL):
            left = place[: LENGTH.unpack(head)[0]]
            while left:
                left = left[connection.recv_into(left) :]
            arrived.append(time.monotonic_ns())
            connection.sendall(ACK)


def _unary_server(pool: ThreadPoolExecutor, stack: ExitStack, arrived: list[int]) -> int:
    def take(request: bytes, _: grpc.ServicerContext) -> bytes:
        Header.FromString(request[4 : 4 + int.from_bytes(request[:4], "little")])
        arrived.append(time.monotonic_ns())
        return ACK

    _, service, method = UNARY.split("/")
    handlers = grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(take)})
    server = grpc.server(pool, handlers=[handlers], options=UNARY_OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(None).wait())
    return int(port)


# -- the measuring process


@contextmanager
def raw(port: int) -> Iterator[Way]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def give(tensor: Tensor) -> None:
            connection.sendall(LENGTH.pack(tensor.size_bytes))
            connection.sendall(tensor.data)

        def take() -> None:
            connection.recv(len(ACK), socket.MSG_WAITALL)

        def one(tensor: Tensor) -> None:
            give(tensor)
            take()

        def many(tensor: Tensor, count: int) -> None:
            for _ in range(count):  # acks are small: they wait in the socket
                give(tensor)
            for _ in range(count):
                take()

        yield one, many


@contextmanager
def unary(port: int) -> Iterator[Way]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=UNARY_OPTIONS) as channel:
        call = channel.unary_unary(UNARY)

        def one(tensor: Tensor) -> None:
            call(codec.pack(_header(0, tensor), memoryview(tensor.data)), timeout=60)

        def many(tensor: Tensor, count: int) -> None:
            pending: deque[Any] = deque()
            for n in range(count):
                if len(pending) == UNARY_AT_ONCE:
                    pending.popleft().result()
                pending.append(call.future(codec.pack(_header(n, tensor), memoryview(tensor.data)), timeout=60))
            for reply in pending:
                reply.result()

        yield one, many


@contextmanager
def stream(port: int, sealing: Sealing) -> Iterator[Way]:
    clock = MonotonicClock(MonotonicClock().now_us())
    timer = Timer(clock)
    failed: list[str] = []
    identity = sealing.who(sealed=sealing.doors[0])
    edge = Edge(f"127.0.0.1:{port}", clock, timer, lambda _, why: failed.append(why), identity=identity)
    number = 0

    def many(tensor: Tensor, count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            edge.send(_header(number, None), tensor, clock.now_us() + LIMIT_US)
        edge.drain(LIMIT_US)
        if failed:
            raise RuntimeError(failed[0])

    yield lambda tensor: many(tensor, 1), many
    edge.close()
    timer.close()


def _header(number: int, tensor: Tensor | None) -> Header:
    header = Header(request_id=number, stream="cam.ue1", model="vit", step=1, reply_to="10.0.0.1:5000")
    if tensor is not None:
        header.dtype, header.size_bytes = tensor.dtype, tensor.size_bytes
        header.shape.extend(tensor.shape)
    return header


def measure() -> dict[str, Any]:
    """{size: {way: {"ms", "round_ms", "mbit_s"}}} and {size: {wire: what it costs}}, p50 of all."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name) / "certificates"
        now = datetime.now(UTC)
        holders = [Holder(one, "127.0.0.1", ("agent",)) for one in ("server", "client")]
        issue(folder, Authority(RUN, now, now + timedelta(hours=1)), holders)
        server = stack.enter_context(_server(folder))
        assert server.stdin is not None
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        sealing = Sealing("all", load(folder, RUN, "client"))
        ways = [
            raw(ports[WAYS[0]]),
            unary(ports[WAYS[1]]),
            stream(ports[WAYS[2]], Sealing()),
            stream(ports[WAYS[3]], sealing),
        ]
        opened = {name: stack.enter_context(way) for name, way in zip(WAYS, ways, strict=True)}
        given = {size: _given(opened, size) for size in SIZES}
        server.stdin.write("\n")
        server.stdin.flush()
        arrived = json.loads(server.stdout.readline())
        found, first = {}, 0
        for size in SIZES:
            found[str(size)] = {name: _figures(given[size][name], arrived[name][first:], size) for name in WAYS}
            first += ROUNDS[size] + BURSTS * _burst(size)
        bits = {str(size): _fewer_bits(size) for size in SIZES}
        return {"loopback": found, "decode round": decoding.measure(), "fewer bits": bits}


@contextmanager
def _server(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.transport", "--serve", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # a way was never opened, and its server waits
            process.kill()


def _burst(size: int) -> int:
    return min(BURST_MAX, BURST_BYTES // size)


def _given(ways: Mapping[str, Way], size: int) -> dict[str, dict[str, list[int]]]:
    """When each tensor was given away and its acknowledgement was there, and when each burst was (ns), by way."""
    tensor = Tensor("float32", (1, size // 4), os.urandom(size))
    found: dict[str, dict[str, list[int]]] = {name: {"given": [], "acked": [], "burst": []} for name in ways}
    for _ in range(ROUNDS[size]):
        for name, (one, _) in ways.items():
            found[name]["given"].append(time.monotonic_ns())
            one(tensor)
            found[name]["acked"].append(time.monotonic_ns())
    for _ in range(BURSTS):
        for name, (_, many) in ways.items():
            began_ns = time.monotonic_ns()
            many(tensor, _burst(size))
            found[name]["burst"].append(time.monotonic_ns() - began_ns)
    return found


def _figures(given: Mapping[str, list[int]], arrived: list[int], size: int) -> dict[str, float]:
    began = given["given"]
    way_ns = [there - here for here, there in zip(began, arrived, strict=False)]
    round_ns = [back - here for here, back in zip(began, given["acked"], strict=True)]
    return {
        "ms": quantile(way_ns, 0.5) / 1e6,
        "round_ms": quantile(round_ns, 0.5) / 1e6,
        "mbit_s": _burst(size) * size * 8e3 / quantile(given["burst"], 0.5),
    }


def _p50_ms(call: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1e3 * quantile(took, 0.5)


def _fewer_bits(size: int) -> dict[str, dict[str, float]]:
    values = np.random.default_rng(1).standard_normal((size // 4096, 1024), np.float32)
    tensor = Tensor("float32", values.shape, values.reshape(-1).data.cast("B"))
    found: dict[str, dict[str, float]] = {}
    for wire in WIRES[1:]:
        sent = quantise(tensor, wire)
        there = _p50_ms(partial(quantise, tensor, wire), ROUNDS[size])
        back = _p50_ms(partial(restore, sent.tensor), ROUNDS[size])
        found[wire] = {
            "quantise_ms": there,
            "restore_ms": back,
            "ns_per_byte": (there + back) * 1e6 / size,
            "share_of_bytes": sent.tensor.size_bytes / size,
            "relative_error": sent.relative_error,
        }
    return found


def better(nodes: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """All as the nodes run, but unary gRPC by each figure on the engine that it is better on."""
    for size, ways in nodes["loopback"].items():
        here, there = ways[WAYS[1]], default["loopback"][size][WAYS[1]]
        ways[WAYS[1]] = {what: (max if what == "mbit_s" else min)(here[what], there[what]) for what in here}
    return {**nodes, "decode round": decoding.better(nodes["decode round"], default["decode round"])}


def show(measured: Mapping[str, Any]) -> None:
    for what, title in (("ms", "one way, ms"), ("round_ms", "and back, ms")):
        table = Table("size", *WAYS, "unary / stream", "over TCP, ms", "encryption", width=WIDTH, title=title)
        for size, ways in measured["loopback"].items():
            tcp, unary_ms, ours, sealed = (ways[name][what] for name in WAYS)
            shown = [f"{value:.3f}" for value in (tcp, unary_ms, ours, sealed)]
            shown += [f"{unary_ms / ours:.2f}x", f"{ours - tcp:.3f}", f"{sealed / ours:.2f}x"]
            table.add_row(_size(int(size)), *shown)
        Console(width=WIDTH).print(table)
    decoding.show(measured["decode round"])
    speed = Table("size", *WAYS, "encryption", width=WIDTH, title="many at once, Gbit/s")
    for size, ways in measured["loopback"].items():
        rates = [ways[name]["mbit_s"] / 1e3 for name in WAYS]
        speed.add_row(_size(int(size)), *(f"{rate:.2f}" for rate in rates), f"{rates[2] / rates[3]:.2f}x")
    bits = Table("size", "wire", "quantise, ms", "restore, ms", "ns a byte", "bytes", "relative error", width=WIDTH)
    for size, wires in measured["fewer bits"].items():
        for wire, one in wires.items():
            figures = [f"{one[name]:.3f}" for name in ("quantise_ms", "restore_ms", "ns_per_byte", "share_of_bytes")]
            bits.add_row(_size(int(size)), wire, *figures, f"{one['relative_error']:.2e}")
    for one in (speed, bits):
        Console(width=WIDTH).print(one)


def _size(size: int) -> str:
    return f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return
    if asked.measure:
        print(json.dumps(measure()))
        return
    measured = better(*engines.on_each("benchmarks.transport"))
    show(measured)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "transport.json").write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
