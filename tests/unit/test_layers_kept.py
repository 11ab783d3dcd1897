"""What nodes with parts of layers keep, refuse by name, and forget."""

import random

import pytest

from nodes.proto.agent_pb2 import SliceRef
from nodes.proto.data_pb2 import Header, Hop, Placed
from nodes.slices import rows_bytes
from nodes.wire.codec import Tensor
from tests.unit.apart import everything, gathered, three
from tests.unit.test_generation import is_whole


def quiet(chat):
    """Waits until every node has let go of the session."""
    chat.until(lambda: not any(host.agent._sessions._book.held for host in chat.hosts.values()))


def test_memory_is_charged_for_each_part_and_freed_at_the_end(apart_of):
    chat = apart_of()
    chat.phone()
    placement = three(chat)
    chat.lay(placement)
    before = {name: chat.used_bytes(name) for name in chat.hosts}
    chat.take(placement)
    seen = []
    chat.at_token(7, lambda: seen.append({name: chat.used_bytes(name) - before[name] for name in chat.hosts}))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    tokens, cost = rounds[6]["position"] + 1, chat.costs["chat"][1]
    for node in "abc":
        heads = sum(len(share.numbers) for layer in placement[1:-1] for at, share in layer.heads if at == node)
        assert seen[0][node] == rows_bytes(cost, 0, tokens, heads=1) * heads, node
    quiet(chat)
    assert {name: chat.used_bytes(name) for name in chat.hosts} == before
    chat.let_go(placement)
    assert set(map(chat.used_bytes, chat.hosts)) == {0}


def test_what_two_parts_have_in_common_is_charged_once(apart_of):
    chat = apart_of()
    chat.phone()
    whole, apart_ = (
        ["a"] * chat.units,
        ["a", gathered("a", "a" * chat.split.movable, "a", "a"), *["a"] * (chat.units - 2)],
    )
    chat.lay(whole)
    before = chat.used_bytes("a")
    chat.lay(apart_)
    assert chat.used_bytes("a") == before
    chat.let_go(whole, apart_)
    chat.let_go(apart_)
    assert chat.used_bytes("a") == 0


@pytest.mark.parametrize(("lacks", "says"), [("heads", "heads:0"), ("proj", "proj"), ("mlp", "mlp"), ("norm", "norm")])
def test_a_part_that_is_not_there_is_named(apart_of, lacks, says):
    chat = apart_of(count=2)
    chat.phone()
    placement = ["a", gathered("b", "a" + "b" * (chat.split.movable - 1), "c", "c"), *["a"] * (chat.units - 2)]
    chat.lay(placement)
    chat.take(placement)
    node, first, last, part = next(p for p in everything(placement) if p[3].startswith(lacks))
    told = []
    client = chat.hosts["ue1"].agent
    plain = client.answer
    client.answer = lambda header, tensor: (told.append((header.error_code, header.error)), plain(header, tensor))
    chat.agents[node].Release(SliceRef(model="chat", first=first, last=last, part=part), timeout=60)
    chat.start()
    chat.until(lambda: told)
    assert told[0] == ("UNKNOWN_SLICE", f"{node}: chat[1:2] {part} is not here") and part.startswith(says)


def test_caches_at_another_position_are_refused_by_name(apart_of):
    chat = apart_of()
    chat.phone()
    placement = three(chat)
    chat.lay(placement)
    chat.take(placement)
    agent, spoilt = chat.hosts["b"].agent, []
    plain = agent.enter

    def enter(header, tensor):
        if header.part.startswith("heads") and not header.arrived and header.position and not spoilt:
            spoilt.append(header.position)
            header.position += 1
        return plain(header, tensor)

    agent.enter = enter
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 1
    assert [r["error"] for r in rounds if r["outcome"] == "failed"] == ["CACHE_LOST"]


@pytest.mark.parametrize("part", ["", "heads", "proj"])
def test_a_tensor_of_another_length_is_refused_by_name(apart_of, part):
    chat = apart_of(count=4)
    chat.phone()
    placement = ["a", gathered("b", "c" * chat.split.movable, "c", "c"), *["a"] * (chat.units - 2)]
    chat.lay(placement)
    chat.take(placement)
    agent, spoilt = chat.hosts["c" if part else "b"].agent, []
    plain = agent.enter

    def enter(header, tensor):
        mine = header.part.startswith(part) if part else not header.part
        if mine and header.position and not header.ended and not spoilt:
            spoilt.append(header.part)
            header.tokens += 1
        return plain(header, tensor)

    agent.enter = enter
    chat.start()
    [session] = chat.sessions()
    assert spoilt and (session["outcome"], session["error"]) == ("failed", "BAD_TENSOR")


NAMES = [
    "",
    "norm",
    "heads:0",
    "heads:1,2",
    "rows:0",
    "proj",
    "sum",
    "mlp",
    "mlp:norm",
    "mlp:0-9",
    "mlp:sum",
    "heads:9",
    "x",
]


def test_no_frame_of_a_stranger_breaks_a_node_and_nothing_of_it_stays(apart_of):
    """Any part, any place, any shape: refused or forgotten."""
    chat = apart_of()
    chat.phone()
    placement = three(chat)
    chat.lay(placement)
    agent, draw = chat.hosts["b"].agent, random.Random(7)
    before = chat.used_bytes("b")
    for n in range(400):
        parts = [
            Placed(node=draw.choice("abx"), address=agent.spec.address, part=draw.choice(NAMES))
            for _ in range(draw.randrange(1, 5))
        ]
        hop = Hop(node=draw.choice("ab"), address=agent.spec.address, first=draw.randrange(6), parts=parts)
        header = Header(request_id=draw.randrange(9), model="chat", route=[hop], part=draw.choice(NAMES))
        header.arrived, header.deadline_us = draw.random() < 0.4, agent.clock.now_us() + 200_000
        header.session, header.tokens = draw.choice(["", "s"]), draw.randrange(3)
        header.life, header.position, header.ended = draw.randrange(3), draw.choice([0, 0, 7]), draw.random() < 0.05
        shape = draw.choice([(1, 1, chat.config.width), (1, 2, 32), (3,), (0, 0, 0), (1, 1, 1)])
        size = 4 * shape[0] * (shape[1] * shape[2] if len(shape) > 1 else 1)
        assert agent.enter(header, Tensor("float32", shape, bytes(size))) is True, n
    agent._sessions.end("s", 9)
    chat.until(lambda: len(agent._parts._gather) == 0 and chat.used_bytes("b") == before)
    hop = Hop(
        node="b",
        address=agent.spec.address,
        first=1,
        parts=[Placed(node="b", part="proj"), Placed(node="a", part="heads:0")],
    )
    waits = Header(request_id=1, model="chat", route=[hop], part="proj", deadline_us=agent.clock.now_us() + 10**9)
    agent.enter(waits, Tensor("float32", (1, 1, 2), bytes(8)))
    assert len(agent._parts._gather) == 1
    chat.down("b")
    assert len(agent._parts._gather) == 0 and chat.used_bytes("b") == 0
