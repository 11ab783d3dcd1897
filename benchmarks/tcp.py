"""One TCP stream that never pauses, seen as it arrives: the frames, or the lumps, on the receiver's interface."""

import socket
import threading
import time
from collections.abc import Sequence

from benchmarks.pairs import ETH_P_IP, Pair, stamped
from benchmarks.stream import STAMP
from testbed.network.namespace import inside

BLOCK = bytes(65536)
CONNECT_S = 30
TIMEOUT_US = 100_000
LEAST_BYTES = 200  # smaller frames are of the handshake
HEADER_BYTES = 14 + 20 + 32  # Ethernet, IP, TCP with its time stamp
SEGMENT_BYTES = 1448


def stream(pair: Pair, seconds: float, before_s: float = 0.0) -> list[tuple[int, int]]:
    """(time in ns, bytes on the wire) of all frames that arrive on h2 in `seconds`, after `before_s`."""
    sniffer, sink = _receivers(pair)
    with inside(pair.netns(0)):
        sender = socket.create_connection(sink.getsockname(), timeout=CONNECT_S)
    stop = threading.Event()
    threads = [threading.Thread(target=_send, args=(sender, stop), daemon=True)]
    threads.append(threading.Thread(target=_sink, args=(sink,), daemon=True))
    with sniffer, sink:
        for thread in threads:
            thread.start()
        begin_ns = time.time_ns() + round(before_s * 1e9)
        seen = _sniff(sniffer, begin_ns, begin_ns + round(seconds * 1e9))
        stop.set()
        sender.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
    return seen


def _receivers(pair: Pair) -> tuple[socket.socket, socket.socket]:
    with inside(pair.netns(1)):
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        sniffer.bind(("h2-eth0", ETH_P_IP))
        sink = socket.create_server((pair.address(1), 0))
    stamped(sniffer)
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, STAMP.pack(0, TIMEOUT_US))
    return sniffer, sink


def _send(sender: socket.socket, stop: threading.Event) -> None:
    try:
        while not stop.is_set():
            sender.sendall(BLOCK)
    except OSError:  # shut down
        return
    finally:
        sender.close()


def _sink(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(1 << 20):
            pass


def _sniff(sniffer: socket.socket, begin_ns: int, end_ns: int) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    head = bytearray(1)
    while True:
        try:  # with MSG_TRUNC the length is that of the frame, whatever of it is kept
            length, controls, _, _ = sniffer.recvmsg_into([head], 64, socket.MSG_TRUNC)
        except BlockingIOError:
            if time.time_ns() > end_ns:
                return seen
            continue
        seconds, ns = STAMP.unpack(controls[0][2])
        at_ns = seconds * 10**9 + ns
        if at_ns > end_ns:
            return seen
        if at_ns >= begin_ns and length > LEAST_BYTES:
            seen.append((at_ns, wire_bytes(length)))


def wire_bytes(length: int) -> int:
    """A lump is sent as segments, each with its own header."""
    return length + HEADER_BYTES * ((length - HEADER_BYTES - 1) // SEGMENT_BYTES)


def bits(seen: Sequence[tuple[int, int]], edges_ns: Sequence[int]) -> list[float]:
    """In each of the windows of equal width between the edges."""
    found, width_ns = [0.0] * (len(edges_ns) - 1), edges_ns[1] - edges_ns[0]
    for at_ns, size in seen:
        window = (at_ns - edges_ns[0]) // width_ns
        if 0 <= window < len(found):
            found[window] += size * 8
    return found
