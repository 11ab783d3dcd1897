import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.proto.data_pb2 import Header, Hop, Span
from nodes.wire import codec
from nodes.wire.codec import Assembler, FrameError, Tensor


def header(**fields):
    return Header(
        request_id=7,
        stream="cam",
        model="vit",
        step=1,
        route=[Hop(node="mec", address="10.0.0.4:5000", first=0, last=12)],
        spans=[Span(node="ue1", kind="network", start_us=1)],
        **fields,
    )


def assemble(frames):
    assembler = Assembler()
    return [whole for frame in frames if (whole := assembler.push(frame)) is not None]


@given(st.binary(max_size=3000), st.integers(1, 1000))
def test_any_bytes_survive_any_chunking(data, chunk_bytes):
    tensor = Tensor("uint8", (len(data),), data)
    frames = list(codec.frames(header(), tensor, chunk_bytes))
    [(first, back)] = assemble(frames)
    assert codec.same(tensor, back)
    assert (first.request_id, first.stream, len(first.route), len(first.spans)) == (7, "cam", 1, 1)
    assert len(frames) == max(1, -(-len(data) // chunk_bytes))


def test_route_and_spans_travel_once():
    frames = list(codec.frames(header(), Tensor("uint8", (10,), bytes(10)), 4))
    later = [codec.unpack(frame)[0] for frame in frames[1:]]
    assert all(not h.route and not h.spans and h.request_id == 7 for h in later)


def test_a_scalar_and_an_empty_tensor():
    scalar, empty = Tensor("int64", (), bytes(8)), Tensor("float32", (0, 3), b"")
    for tensor in (scalar, empty):
        [(_, back)] = assemble(codec.frames(header(), tensor))
        assert codec.same(tensor, back)


def test_an_error_frame_has_no_tensor():
    [(first, tensor)] = assemble(codec.frames(header(error="gone", error_code="PEER_LOST"), None))
    assert tensor is None and first.error_code == "PEER_LOST"


def test_same_is_bitwise():
    a = Tensor("float32", (1,), b"\0\0\0\0")
    assert codec.same(a, Tensor("float32", (1,), memoryview(bytearray(4))))
    assert not codec.same(a, Tensor("float32", (1,), b"\0\0\0\x80"))  # -0.0 == 0.0, yet other bytes
    assert not codec.same(a, Tensor("float32", (1, 1), b"\0\0\0\0"))
    assert not codec.same(a, Tensor("uint8", (4,), b"\0\0\0\0"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"dtype": "float64", "shape": [1], "size_bytes": 8}, "float64"),
        ({"dtype": "uint8", "shape": [1] * 9, "size_bytes": 1}, "9 dimensions"),
        ({"dtype": "uint8", "shape": [1 << 31], "size_bytes": 1 << 31}, "at most 1073741824"),
        ({"dtype": "float32", "shape": [3], "size_bytes": 3}, "has 12 bytes, not 3"),
        ({"dtype": "uint8", "shape": [3], "size_bytes": 3, "chunks": 4}, "4 chunks"),
        ({"dtype": "uint8", "shape": [3], "size_bytes": 3, "chunks": 0}, "0 chunks"),
        ({"error_code": "X", "size_bytes": 5}, "carries no tensor"),
    ],
)
def test_limits_are_checked_before_anything_is_allocated(fields, why):
    with pytest.raises(FrameError, match=why) as caught:
        Assembler().push(codec.pack(header(**{"chunks": 1, **fields})))
    assert caught.value.header.request_id == 7


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff",
        (codec.HEADER_MAX_BYTES + 1).to_bytes(4, "little") + bytes(codec.HEADER_MAX_BYTES + 1),
        b"\x05\0\0\0abc",
        b"\x03\0\0\0\xff\xff\xff",
        b"\0\0\0\0" + bytes(codec.CHUNK_MAX_BYTES + 1),
    ],
)
def test_garbage_is_refused_by_name(frame):
    with pytest.raises(FrameError):
        Assembler().push(frame)


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_a_reason_and_the_next_tensor_is_whole(frame):
    assembler, good = Assembler(), Tensor("uint8", (10,), bytes(range(10)))
    try:
        assembler.push(frame)
    except FrameError as error:
        assert error.why
    *_, last = [assembler.push(one) for one in codec.frames(header(), good, 4)]
    assert last is not None and codec.same(last[1], good)


def test_a_header_that_is_too_long_is_not_sent():
    with pytest.raises(FrameError, match="at most"):
        codec.pack(Header(error="x" * codec.HEADER_MAX_BYTES))


def test_chunks_out_of_order_too_long_or_of_another_tensor_are_refused():
    frames = list(codec.frames(header(), Tensor("uint8", (10,), bytes(10)), 4))
    for bad in ([frames[1]], [frames[0], frames[2]], [frames[0], frames[1], frames[1]]):
        with pytest.raises(FrameError, match="out of order"):
            assemble(bad)
    with pytest.raises(FrameError, match="another tensor"):
        assemble([frames[0], codec.pack(Header(request_id=8, step=1, chunk=1, chunks=3), b"1234")])
    with pytest.raises(FrameError, match="14 bytes by chunk 1"):
        assemble([frames[0], codec.pack(Header(request_id=7, step=1, chunk=1, chunks=3), bytes(10))])
    with pytest.raises(FrameError, match="9 bytes by chunk 2 of 3, not 10"):
        assemble([*frames[:2], codec.pack(Header(request_id=7, step=1, chunk=2, chunks=3), b"1")])


def test_a_new_tensor_drops_an_unfinished_one():
    tensor = Tensor("uint8", (10,), bytes(range(10)))
    frames = list(codec.frames(header(), tensor, 4))
    [(_, back)] = assemble([*frames[:2], *frames])
    assert codec.same(tensor, back)


def test_a_tensor_of_one_chunk_stays_where_its_frame_lies():
    [frame] = codec.frames(header(), Tensor("uint8", (1000,), bytes(1000)))
    _, tensor = Assembler().push(frame)
    assert isinstance(tensor.data, memoryview) and tensor.data.obj is frame


def test_nothing_is_allocated_for_what_was_only_announced():
    tracemalloc.start()
    lies = Header(dtype="uint8", shape=[codec.TENSOR_MAX_BYTES], size_bytes=codec.TENSOR_MAX_BYTES, chunks=4096)
    assembler = Assembler()
    for _ in range(100):
        assert assembler.push(codec.pack(lies, b"x")) is None
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 1 << 20
