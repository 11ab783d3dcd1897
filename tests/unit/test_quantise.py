import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nodes.proto.data_pb2 import Header
from nodes.wire import codec
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.quantise import choose, quantise, relative_error, restore
from nodes.wire.transport import Busy
from tests.unit.hosts import FLOATS, one_hop, three_hops

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=9)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def tensor(values):
    array = np.ascontiguousarray(values, "<f4")
    return Tensor("float32", array.shape, array.reshape(-1).data.cast("B"))


def values(found):
    return np.frombuffer(found.data, "<f4").reshape(found.shape)


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.float32, SHAPES, elements=FINITE), st.sampled_from(("fp16", "int8")))
def test_what_arrives_is_as_near_as_the_bits_allow_and_the_error_is_told(x, wire):
    sent = quantise(tensor(x), wire)
    back = restore(sent.tensor)
    if not sent.tensor.wire:
        assert codec.same(back, tensor(x)) and sent.relative_error == 0
        return
    assert sent.tensor.size_bytes < x.nbytes
    largest = np.abs(x).max(-1, keepdims=True).astype(np.float64)
    step = np.maximum(np.abs(x) * 2.0**-11, 2.0**-25) if wire == "fp16" else largest / 127 / 2
    nothing = 127 * float(np.finfo(np.float32).tiny) if wire == "int8" else 1e-44  # a row of less has no scale
    assert np.all(np.abs(values(back) - x.astype(np.float64)) <= step * 1.001 + nothing)
    told = relative_error(back, tensor(x))
    assert told is None or math.isclose(told, sent.relative_error, rel_tol=1e-3, abs_tol=1e-9)


def test_random_activations_lose_a_hundredth_by_int8_and_a_five_thousandth_by_fp16():
    x = tensor(np.random.default_rng(1).standard_normal((1, 128, 1024)))
    assert 0.005 < quantise(x, "int8").relative_error < 0.01
    assert 1e-4 < quantise(x, "fp16").relative_error < 3e-4
    assert quantise(x, "int8").tensor.size_bytes == 128 * (1024 + 4)
    assert quantise(x, "fp16").tensor.size_bytes == 128 * 1024 * 2


@pytest.mark.parametrize("wire", ["fp16", "int8"])
def test_what_cannot_lose_bits_travels_as_it_is(wire):
    for whole in (
        Tensor("int64", (4,), bytes(32)),
        Tensor("uint8", (4,), bytes(4)),
        tensor(np.zeros((0, 3))),
        tensor([np.nan, 1.0, 2.0, 3.0]),
        tensor([np.inf, 1.0, 2.0, 3.0]),
    ):
        assert quantise(whole, wire).tensor is whole
        assert quantise(whole, wire).relative_error == 0


def test_each_has_something_that_it_cannot_hold():
    assert quantise(tensor([[70_000.0, 1.0]]), "fp16").tensor.wire == ""
    assert quantise(tensor([[3.4028235e38, 0.0]]), "int8").tensor.wire == ""  # 127 rounded steps would be infinite
    assert quantise(tensor([[1.0], [2.0]]), "int8").tensor.wire == ""  # a scale for each value would be longer
    assert quantise(tensor(5.0), "int8").tensor.wire == ""


def test_zeros_and_the_largest_value_of_a_row_are_exact():
    x = np.array([[0, 0, 0, 0, 0], [127, -64, 1, 0, 3]], np.float32)
    sent = quantise(tensor(x), "int8")
    assert np.array_equal(values(restore(sent.tensor)), x) and sent.relative_error == 0


@pytest.mark.parametrize("wire", ["fp16", "int8"])
def test_it_goes_through_frames_and_back(wire):
    sent = quantise(tensor(np.random.default_rng(2).standard_normal((3, 40, 64))), wire)
    assembler = codec.Assembler()
    *_, whole = [assembler.push(frame) for frame in codec.frames(Header(request_id=1), sent.tensor, 1000)]
    assert codec.same(whole[1], sent.tensor)
    assert codec.same(restore(whole[1]), restore(sent.tensor))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"dtype": "float32", "shape": [4], "size_bytes": 4, "wire": "int4"}, "int4"),
        ({"dtype": "int64", "shape": [4], "size_bytes": 8, "wire": "fp16"}, "int64 does not travel"),
        ({"dtype": "float32", "shape": [2, 4], "size_bytes": 8, "wire": "int8"}, "has 16 bytes, not 8"),
        ({"dtype": "float32", "shape": [2, 4], "size_bytes": 32, "wire": "fp16"}, "has 16 bytes, not 32"),
    ],
)
def test_a_frame_that_says_otherwise_is_refused(fields, why):
    with pytest.raises(FrameError, match=why):
        codec.Assembler().push(codec.pack(Header(chunks=1, **fields)))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_a_scale_that_is_none_is_refused(scale):
    data = np.array([scale], "<f4").tobytes() + bytes(4)
    with pytest.raises(FrameError, match="scale"):
        restore(Tensor("float32", (4,), data, "int8"))


def test_auto_weighs_the_link_against_the_time_to_quantise():
    assert choose("auto", 600_000, 0) == "fp32"  # nothing is known yet
    assert choose("auto", 600_000, 10_000_000) == "int8"
    assert choose("auto", 600_000, 1_000_000_000) == "int8"
    assert choose("auto", 600_000, 100_000_000_000) == "fp32"
    assert {choose(wish, 600_000, 10_000_000) for wish in ("fp32", "fp16", "int8")} == {"fp32", "fp16", "int8"}


def test_the_error_of_an_answer_is_that_of_the_norms():
    assert relative_error(tensor([3.0, 4.5]), tensor([3.0, 4.0])) == pytest.approx(0.1)
    assert relative_error(tensor([1.0]), tensor([1.0])) == 0
    assert relative_error(tensor([1.0]), tensor([1.0, 2.0])) is None
    assert relative_error(tensor([np.nan]), tensor([1.0])) is None
    assert relative_error(tensor([1.0]), tensor([0.0])) is None
    assert relative_error(Tensor("int64", (1,), bytes(8)), Tensor("int64", (1,), bytes(8))) is None


@pytest.mark.parametrize(("wire", "worst"), [("fp16", 1e-3), ("int8", 5e-2)])
def test_hops_tell_their_error_and_answers_theirs(wire, worst, world):
    add = world.add
    world.add = lambda name, **more: add(name, wire=wire, **more)
    three_hops(world, requests=2)
    world.start()
    for request in world.requests(2):
        hops = [span for span in request["spans"] if span["kind"] == "network"]
        assert request["outcome"] == "ok" and 0 <= request["relative_error"] < worst
        assert [span["wire"] for span in hops] == [wire] * 4
        assert {span["size_bytes"] for span in hops} == {codec.wire_bytes((FLOATS,), wire)}
        assert all(0 <= span["relative_error"] < worst for span in hops)


def test_auto_begins_as_it_is_and_changes_when_it_knows_the_way(world):
    add = world.add
    world.add = lambda name, **more: add(name, wire="auto", **more)
    one_hop(world, requests=3)
    world.hosts["ue1"].agent.outbox.pack = pack = Counting(world.hosts["ue1"].agent.outbox.pack)
    world.start()
    assert {request["outcome"] for request in world.requests(3)} == {"ok"}
    assert pack.wires[0] == "" and set(pack.wires) <= {"", "int8", "fp16"}


class Counting:
    def __init__(self, pack):
        self.pack, self.wires = pack, []

    def __call__(self, *arguments):
        found = self.pack(*arguments)
        self.wires.append(found[0].wire)
        return found


def test_a_phone_learns_that_an_edge_is_busy(world):
    one_hop(world, requests=2, deadline_us=30_000_000)
    edge = world.hosts["mec"].agent.outbox.send = Full(world.hosts["mec"].agent.outbox.send)
    world.start()
    requests = world.requests(2)
    assert [(r["outcome"], r["error"]) for r in requests] == [("failed", "BUSY")] * 2
    assert edge.refused == 2


class Full:
    """An outbox that takes errors only."""

    def __init__(self, send):
        self.send, self.refused = send, 0

    def __call__(self, address, header, tensor):
        if tensor is not None:
            self.refused += 1
            raise Busy(f"{address}: too much is on its way")
        self.send(address, header, tensor)
