"""Every placement of layers on nodes gives the bits of the unsplit model: in one piece each, and node by node again.

What crosses from node to node crosses as a message: in frames, and back out of them, where it lies as it happens to.
"""

import itertools

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from nodes.models import chain_of
from nodes.prepare import inputs
from nodes.proto.data_pb2 import Header
from nodes.runtime.rawtensors import raw, view
from nodes.runtime.slicing import cut, one_thread
from nodes.wire.codec import Assembler, Tensor, frames
from tests.unit.oracles import lively
from tests.unit.test_models_answers import TINY

PLACEMENTS = 50  # of each kind
CHUNK_BYTES = 3000  # small, so that a tensor is several frames


@pytest.fixture(autouse=True, scope="module")
def single() -> None:
    one_thread()


@pytest.fixture(scope="module", params=TINY)
def model(request):
    """The family, its weights, an input, and the answer of the unsplit model."""
    family = request.param
    weights, x = lively(family), torch.from_numpy(inputs.make(family, 0, 0))
    return family, weights, x, cut(family, weights)(x)


def sent(x: torch.Tensor) -> torch.Tensor:
    assembler = Assembler()
    for frame in frames(Header(request_id=1), raw(x), CHUNK_BYTES):
        found = assembler.push(frame)
    assert found is not None
    assert isinstance(found[1], Tensor)
    return view(found[1])


def answer(model, row):
    """Of a row of nodes, one for each unit: neighbours on one node are one slice."""
    family, weights, x, _ = model
    begin = 0
    for _, units in itertools.groupby(row):
        end = begin + len(list(units))
        held = {name: weights[name] for unit in chain_of(family).units[begin:end] for name in unit.weights}
        x = cut(family, held, begin, end)(sent(x))  # with no weights but its own
        begin = end
    return sent(x)


def rows(count: int, *, revisits: bool):
    """A node for each of so many units, of 2 to 5 nodes; without revisits in blocks, one behind another."""
    nodes = st.integers(2, min(5, count))
    if revisits:
        more = nodes.flatmap(
            lambda n: st.lists(st.integers(0, n - 1), min_size=count - n, max_size=count - n).map(
                list(range(n)).__add__
            )
        )
        return more.flatmap(st.permutations)
    cuts = nodes.flatmap(lambda n: st.sets(st.integers(1, count - 1), min_size=n - 1, max_size=n - 1))
    return cuts.map(lambda where: [sum(at <= unit for at in where) for unit in range(count)])


def test_every_family_is_here() -> None:
    assert {family.split("_")[0] for family in TINY} == {
        "bert", "gpt2", "llama", "minilm", "mobilenet", "vit", "whisper"
    }  # fmt: skip


def test_every_single_cut(model) -> None:
    count = len(chain_of(model[0]).units)
    for at in range(1, count):
        assert torch.equal(answer(model, [0] * at + [1] * (count - at)), model[3]), at


def test_every_unit_on_a_node_of_its_own(model) -> None:
    assert torch.equal(answer(model, list(range(len(chain_of(model[0]).units)))), model[3])


@pytest.mark.parametrize("revisits", [False, True], ids=["in blocks", "revisiting"])
def test_random_placements_over_two_to_five_nodes(model, revisits: bool) -> None:
    count, seen = len(chain_of(model[0]).units), []

    @seed(1)
    @settings(max_examples=PLACEMENTS, database=None, deadline=None, derandomize=False)
    @given(rows(count, revisits=revisits))
    def holds(row: list[int]) -> None:
        seen.append(tuple(row))
        assert torch.equal(answer(model, row), model[3]), row

    holds()
    assert len(seen) >= min(PLACEMENTS, len({*seen}))
    assert len({*seen}) > 5
    assert max(len({*row}) for row in seen) == min(5, count)
