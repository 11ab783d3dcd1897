"""Weights of parts of layers over the network: what moves is what lacks, the tokens are those of the unsplit model."""

import re

import pytest
import torch

from nodes.inlayer.parts import part
from nodes.models.config import weight_shapes
from nodes.models.shares import MLP, MLP_NORM, MLP_SUM, NORM, PROJ, Columns, Heads, bundles, weight_bytes
from nodes.models.splits import Split
from nodes.prepare import tensorfile
from nodes.proto.agent_pb2 import PrepareRequest, SliceRef
from nodes.proto.data_pb2 import WeightsRequest
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.slicing import cut
from nodes.wire import shipping
from nodes.wire.codec import Tensor
from tests.unit.apart import everything, lively_file
from tests.unit.oracles import lively
from tests.unit.test_generation import is_whole

FAMILIES = ("llama_tiny", "gpt2_tiny")


def blank(chat, *names):
    """Nodes on whose own disk all weights are 0: what they compute with has come."""
    path = chat.folder / "blank.safetensors"
    tensorfile.write(path, {n: torch.zeros(shape).numpy() for n, shape in weight_shapes(chat.family).items()})
    for name in names:
        chat.add(name, loader=Numeric({"chat": ModelFile(chat.family, path)}))


def prepare(chat, node, source, first, last, name=""):
    address = chat.address(source) if source else ""
    piece = SliceRef(model="chat", first=first, last=last, part=name)
    return chat.agents[node].Prepare(PrepareRequest(slice=piece, source_address=address, deadline_s=60), timeout=90)


def prepare_all(chat, old, new, source):
    """By node, the bytes that came and what is there now, by name: the digest."""
    moved, digests = dict.fromkeys("ade", 0), {}
    for node, first, last, name in everything(new):
        if (node, first, last, name) not in everything(old):
            reply = prepare(chat, node, source, first, last, name)
            assert reply.ok, reply.why
            moved[node] += reply.bytes_moved
            digests[first, last, name] = reply.digest
    return moved, digests


def four_ways(chat):
    """Of layer 0: whole on a; a head, proj and mlp on d; all but half of the columns on d, these on e; whole on d."""
    heads, rest = chat.split.movable, ["a"] * (chat.units - 2)
    half = bundles(chat.split)[8]
    one = Split.assigned("a", ["d", *"a" * (heads - 1)], "d", "d")
    two = Split.assigned("a", ["d"] * heads, "d", [("d", half), ("e", chat.split.hidden - half)])
    return [["a", place, *rest] for place in ("a", one, two, "d")]


def weights_of(chat, *shares):
    return sum(weight_bytes(chat.split, share) for share in shares)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_come_over_the_network_and_a_generation_goes_on_with_them(apart_of, family):
    chat = apart_of(family)
    chat.phone()
    ways = four_ways(chat)
    chat.lay(ways[0])
    blank(chat, "d", "e")
    chat.take(ways[0])
    done = []

    def move(n):
        if n > 1:  # those that the session has left
            chat.let_go(ways[n - 2], ways[n - 1])
        done.append(prepare_all(chat, ways[n - 1], ways[n], "a"))
        chat.take(ways[n])

    for n in (1, 2, 3):
        chat.at_token(4 * n, lambda n=n: move(n))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 0 and rounds[-1]["epoch"] == 4
    heads, half = [Heads((i,)) for i in range(chat.split.movable)], bundles(chat.split)[8]
    left, right = Columns(0, half), Columns(half, chat.split.hidden)
    assert [moved for moved, _ in done] == [
        {"a": 0, "d": weights_of(chat, heads[0], PROJ, MLP), "e": 0},
        {"a": 0, "d": weights_of(chat, *heads[1:]), "e": weights_of(chat, right)},
        {"a": 0, "d": weights_of(chat, right, NORM), "e": 0},
    ]
    assert weights_of(chat, left, right, MLP_NORM, MLP_SUM) == weights_of(chat, MLP)
    whole = lively(family)
    for _, digests in done:
        for (first, last, name), digest in digests.items():
            right_one = part(family, whole, first - 1, name) if name else cut(family, whole, first, last)
            assert digest == right_one.digest, name


def test_without_its_weights_a_part_is_another(apart_of):
    chat = apart_of()
    blank(chat, "d")
    reply = prepare(chat, "d", "", 1, 2, "heads:0")
    assert reply.ok and reply.bytes_moved == 0
    assert reply.digest != part(chat.family, lively(chat.family), 0, "heads:0").digest


def test_without_numbers_as_many_bytes_move(apart_of):
    chat = apart_of(numerics=False)
    chat.phone()
    ways = four_ways(chat)
    chat.lay(ways[0])
    chat.add("d"), chat.add("e")
    heads = [Heads((i,)) for i in range(chat.split.movable)]
    assert prepare_all(chat, ways[0], ways[1], "a")[0]["d"] == weights_of(chat, heads[0], PROJ, MLP)
    assert prepare_all(chat, ways[1], ways[2], "a")[0]["d"] == weights_of(chat, *heads[1:])


class Lying(Numeric):
    """Sends something else than it was asked for."""

    lie = ""

    def weights(self, model, block, part=""):
        if self.lie == "too much":
            yield "more", Tensor("float32", (9,), bytes(36))
        rows = list(super().weights(model, block, part))
        yield from rows[1:] if self.lie == "too little" else rows


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("too much", "bytes more than the blocks have"),
        ("too little", r"weight model.layers.0.self_attn.q_proj.weight\[0:0-\d+\] is missing"),
        ("down", "b is down"),
    ],
)
def test_what_does_not_come_aborts_the_move_and_the_old_placement_serves_on(apart_of, weights_folder, lie, why):
    chat = apart_of()
    chat.phone()
    old, new = four_ways(chat)[:2]
    chat.lay(old)
    blank(chat, "d")
    lying = Lying({"chat": ModelFile(chat.family, lively_file(chat.family, weights_folder))})
    lying.lie = lie
    chat.add("b", loader=lying)
    if lie == "down":
        chat.down("b")
    chat.take(old)
    told = []
    chat.at_token(3, lambda: told.append(prepare(chat, "d", "b", 1, 2, "heads:0")))
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert not told[0].ok and re.search(why, told[0].why), told[0].why
    assert session["replays"] == 0 and chat.used_bytes("d") == 0
    assert prepare_all(chat, old, new, "a")[0]["d"] == weights_of(chat, Heads((0,)), PROJ, MLP)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"first": 1, "last": 2, "parts": ["heads:99"]}, "heads:99: llama_tiny has heads 0.."),
        ({"first": 1, "last": 2, "parts": ["x"]}, "no part 'x'"),
        ({"first": 0, "last": 1, "parts": ["mlp"]}, r"chat\[0:1\] has no parts"),
        ({"first": 1, "last": 3, "parts": ["mlp"]}, r"chat\[1:3\] has no parts"),
    ],
)
def test_parts_that_there_are_not_are_refused_by_name(apart_of, asked, why):
    chat = apart_of()
    chat.add("a")
    with pytest.raises(shipping.ShippingError, match=why):
        shipping.fetch(chat.address("a"), WeightsRequest(model="chat", **asked), limit_bytes=10**6, deadline_s=60)
