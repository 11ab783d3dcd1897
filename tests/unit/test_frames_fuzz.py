"""A hundred thousand bad frames at the codec, a thousand at a live server: refused by name, no harm to anybody else."""

import random
import threading
from collections import Counter
from collections.abc import Iterator

import grpc
import psutil
import pytest

from nodes.clock import MonotonicClock, Timer
from nodes.proto.data_pb2 import Header, Hop, Span
from nodes.wire import codec, transport
from nodes.wire.codec import Assembler, FrameError, Tensor
from nodes.wire.edge import Edge
from tests.unit.test_transport import Inbox, Losses, header, serving

SEED = 20260101
FRAMES, LIVE = 100_000, 1000
GROWTH_MAX_BYTES = 50 << 20
WHOLE = Header(
    request_id=7,
    stream="cam.ue1",
    model="vit",
    route=[Hop(node="mec", address="10.0.0.4:5000", first=0, last=12)],
    reply_to="10.0.0.1:5000",
    spans=[Span(node="ue1", kind="network", start_us=1)],
    deadline_us=10**7,
)
GOOD = list(codec.frames(WHOLE, Tensor("float32", (10, 30), bytes(1200)), 500))
LONG = codec.pack(Header(chunks=1), bytes(codec.CHUNK_MAX_BYTES + 1))
LIES = (
    {"dtype": "uint8", "shape": [1 << 30], "size_bytes": 1 << 30, "chunks": 1},  # a gigabyte that never comes
    {"dtype": "uint8", "shape": [1 << 31], "size_bytes": 1 << 31, "chunks": 1},
    {"dtype": "float32", "shape": [2**32 - 1] * 8, "size_bytes": 1 << 20, "chunks": 1},
    {"dtype": "uint8", "shape": [0] * 9, "size_bytes": 0, "chunks": 1},
    {"dtype": "uint8", "shape": [4], "size_bytes": 4, "chunks": 2**32 - 1},
    {"dtype": "float32", "shape": [1, 2**30], "size_bytes": 4 + 2**30, "chunks": 1, "wire": "int8"},
    {"dtype": "object", "shape": [4], "size_bytes": 4, "chunks": 1},
    {"error_code": "X", "size_bytes": 1 << 30, "chunks": 1},
    {"request_id": 7, "chunk": 5, "chunks": 9},
)


def header_end(frame: bytes) -> int:
    return codec.LENGTH_BYTES + int.from_bytes(frame[: codec.LENGTH_BYTES], "little")


def garbage(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(200))


def truncated(draw: random.Random) -> bytes:
    """Of the header; a frame cut behind it is one with a shorter chunk, and told apart by its size."""
    frame = draw.choice(GOOD)
    return frame[: draw.randrange(header_end(frame))]


def oversized(draw: random.Random) -> bytes:
    if draw.random() < 0.01:
        return LONG
    length = draw.randrange(codec.HEADER_MAX_BYTES + 1, 2**32)
    return length.to_bytes(4, "little") + GOOD[0][4:100]


def lying(draw: random.Random) -> bytes:
    return codec.pack(Header(**draw.choice(LIES)), draw.randbytes(draw.randrange(3)))


def flipped(draw: random.Random) -> bytes:
    frame = bytearray(GOOD[0])
    for _ in range(draw.randint(1, 4)):
        frame[draw.randrange(header_end(GOOD[0]))] ^= 1 << draw.randrange(8)
    return bytes(frame)


KINDS = (garbage, truncated, oversized, lying, flipped)


def bad_frames(count: int, seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    draw = random.Random(seed)
    for _ in range(count):
        kind = draw.choice(KINDS)
        yield kind.__name__, kind(draw)


def fits(header: Header, tensor: Tensor | None) -> bool:
    """What a flipped bit left whole: another name or number, and still exactly the bytes that it says."""
    if tensor is None:
        return bool(header.error_code) and header.size_bytes == 0
    codec.check(tensor.dtype, tensor.shape, len(tensor.data), tensor.wire)
    return True


def test_bad_frames_are_refused_by_name_and_cost_no_memory():
    process, assembler = psutil.Process(), Assembler()
    before_bytes = process.memory_info().rss
    refused, taken, most_bytes = Counter(), Counter(), 0
    for n, (kind, frame) in enumerate(bad_frames(FRAMES)):
        try:
            whole = assembler.push(frame)
        except FrameError as error:
            assert error.why and len(error.why) < 1000
            refused[kind] += 1
        else:
            assert whole is None or fits(*whole)
            taken[kind] += 1
        if n % 5000 == 0:
            most_bytes = max(most_bytes, process.memory_info().rss)
    assert sum(refused.values()) + sum(taken.values()) == FRAMES
    assert taken["truncated"] == taken["oversized"] == taken["lying"] == 0, taken
    assert taken["garbage"] < FRAMES / 1000  # a few bytes may happen to be a frame of nothing
    assert taken["flipped"] < FRAMES / 5 * 0.7, taken  # of names and numbers that any value is right for
    assert most_bytes - before_bytes < GROWTH_MAX_BYTES
    *_, last = [assembler.push(frame) for frame in GOOD]
    assert last is not None and last[1].size_bytes == 1200


def _throw(address: str, frames: Iterator[tuple[str, bytes]]) -> Counter:
    """Each over a stream of its own; how each ended."""
    ends = Counter()
    with transport.open_channel(address) as channel:
        call = channel.stream_stream(transport.DELIVER)
        for kind, frame in frames:
            try:
                acks = list(call(iter([frame]), timeout=60))
                ends[kind, "refused by name" if acks else "unfinished"] += 1
            except grpc.RpcError as error:
                assert error.details(), kind
                ends[kind, error.code()] += 1
    return ends


@pytest.fixture
def edge_world():
    clock = MonotonicClock(MonotonicClock().now_us())
    timer = Timer(clock)
    yield clock, timer
    timer.close()


def test_a_server_under_bad_frames_serves_others_as_before(edge_world):
    clock, _ = edge_world
    inbox, lost, process = Inbox(), Losses(), psutil.Process()
    before_bytes = process.memory_info().rss
    ends: Counter = Counter()
    with serving(inbox) as address:
        edge = Edge(address, *edge_world, lost)
        thread = threading.Thread(target=lambda: ends.update(_throw(address, bad_frames(LIVE))))
        thread.start()
        sent = 0
        while thread.is_alive():
            edge.send(header(100_000 + sent), Tensor("uint8", (3000,), bytes(3000)), clock.now_us() + 20_000_000)
            sent += 1
            thread.join(0.005)
        edge.drain(20_000_000)
        edge.close()
    assert sum(ends.values()) == LIVE
    codes = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {end for _, end in ends} <= codes | {"refused by name", "unfinished"}, ends
    assert all(count < LIVE / 100 for (kind, end), count in ends.items() if end == "unfinished" and kind != "flipped")
    assert lost.list == []
    good = [head.request_id for head, _ in inbox.got if head.request_id >= 100_000]
    assert good == list(range(100_000, 100_000 + sent)) and sent > 10
    assert all(error.why for error in inbox.refused)
    assert process.memory_info().rss - before_bytes < GROWTH_MAX_BYTES
