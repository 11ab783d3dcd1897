"""A node that stands by: when another is lost, a session goes on from what it has, and no token is another."""

import pytest
import torch

from nodes.models.config import config_of
from nodes.phone import chats
from nodes.proto.agent_pb2 import FollowRequest
from nodes.runtime.rawtensors import raw
from nodes.session.caches import Caches
from nodes.wire import kvshipping
from nodes.wire.kvshipping import Rows
from tests.unit.apart import three
from tests.unit.chatting import TOKENS
from tests.unit.test_generation import is_whole, split_at, strike_at


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Who stands by is waited for, however busy the machine is."""
    monkeypatch.setattr(chats, "ASK_S", 30.0)


def ready(chat):
    """a and b serve; c and d are there."""
    chat.phone(kv="replica")
    half = chat.units - 2
    way = split_at(chat, half, "a", "b")
    for node in "cd":
        chat.add(node)
    return half, way


def await_rows(chat, node, tokens, first, last):
    """Until a node that stands by has so many tokens."""
    chat.until(lambda: chat.kept(node, first, last) >= tokens)


@pytest.mark.parametrize(
    ("family", "moment"),
    [
        ("llama_tiny", "at the end of a round"),
        ("llama_tiny", "while it is computed"),
        ("gpt2_tiny", "as its output leaves"),
        ("whisper_tiny", "while it is computed"),
    ],
)
def test_the_node_that_stood_by_goes_on_at_any_token(chat_of, family, moment):
    """The holder is lost at every third token; who stood by serves from then on, and the other stands by it."""
    chat = chat_of(family)
    half, (first, last) = ready(chat)
    standing, lost = {"b": "c", "c": "b"}, []
    chat.go(first, last, standby={"b": "c"})

    def lose(old, tokens):
        new = standing[old]
        await_rows(chat, new, tokens, half, chat.units)
        lost.append(tokens)
        chat.down(old)
        assert chat.place(new, half, chat.units).ok
        chat.up(old)
        chat.go(first, f"{new}:{half}-{chat.units}", lost=[old], standby={new: old})

    def strikes(node, header):
        known = header.position
        due = header.session and not header.ended and not header.resumed and known and (known - chat.prompt) % 3 == 1
        if not due or known in lost:
            return False
        lose(node, known)
        return True

    if moment == "at the end of a round":
        for n in range(2, TOKENS, 3):
            chat.at_token(n, lambda n=n: lose("bc"[len(lost) % 2], chat.prompt + n - 1))
    else:
        for node in "bc":
            strike_at(chat.hosts[node].agent, moment, lambda header, node=node: strikes(node, header))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    resumed = [r for r in rounds if r.get("resumed")]
    assert len(lost) == 6 and session["replays"] == 0 and session["resumes"] == len(resumed)
    if moment == "at the end of a round":  # all that was there is elsewhere, too
        assert not resumed and {r["outcome"] for r in rounds} == {"ok"}
    else:
        assert [r["position"] for r in resumed] == lost and all(r["outcome"] == "ok" for r in resumed)
    came = [k for k in chat.of("kv") if k["phase"] == "replica"]
    assert came and not any(k["why"] for k in came) and {k["phase"] for k in chat.of("kv")} == {"replica"}


def strike_once(chat, node, position, then):
    """The node goes down as the round at this position comes in."""
    struck = []

    def strikes(header):
        if header.position != position or header.ended or struck:
            return False
        struck.append(position)
        chat.down(node)
        then()
        return True

    strike_at(chat.hosts[node].agent, "as it comes in", strikes)


def test_who_stood_by_but_is_behind_is_given_the_tokens_that_it_lacks(chat_of):
    chat = chat_of()
    half, (first, last) = ready(chat)
    chat.go(first, last, standby={"b": "c"})
    at = chat.prompt + 4

    def part():
        await_rows(chat, "c", at, half, chat.units)
        chat.agents["c"].Follow(FollowRequest(), timeout=60)

    def go_over():
        assert chat.place("c", half, chat.units).ok
        chat.go(first, f"c:{half}-{chat.units}", lost=["b"])

    chat.at_token(5, part)
    strike_once(chat, "b", at + 5, go_over)
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert (session["replays"], session["resumes"]) == (0, 1)
    [resumed] = [r for r in rounds if r.get("resumed")]
    assert resumed["position"] == at and resumed["token"] == 10
    assert len(rounds) == TOKENS + 1  # the lost one twice, and no other


def test_another_node_takes_over_with_what_the_one_that_stood_by_has(chat_of):
    chat = chat_of()
    half, (first, last) = ready(chat)
    chat.go(first, last, standby={"b": "c"})

    def go_over():
        assert chat.place("d", half, chat.units).ok
        chat.go(first, f"d:{half}-{chat.units}", lost=["b"], standby={"d": "c"})

    chat.at_token(8, lambda: await_rows(chat, "c", chat.prompt + 7, half, chat.units))
    strike_once(chat, "b", chat.prompt + 7, go_over)
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert (session["replays"], session["resumes"]) == (0, 1)
    [pulled] = [k for k in chat.of("kv") if k["phase"] == "switch"]
    assert pulled["source"] == chat.hosts["c"].agent.spec.address and pulled["tokens"] == [0, chat.prompt + 7]


def test_when_who_stood_by_is_lost_too_the_session_is_begun_anew(chat_of):
    chat = chat_of()
    half, (first, last) = ready(chat)
    chat.go(first, last, standby={"b": "c"})

    def go_over():
        chat.down("c")
        assert chat.place("d", half, chat.units).ok
        chat.go(first, f"d:{half}-{chat.units}", lost=["b", "c"])

    strike_once(chat, "b", chat.prompt + 7, go_over)
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert (session["replays"], session["resumes"]) == (1, 0)


def test_a_move_to_the_node_that_stands_by_takes_little_along(chat_of):
    chat = chat_of()
    half, (first, last) = ready(chat)
    chat.go(first, last, standby={"b": "c"})

    def move():
        await_rows(chat, "c", chat.prompt + 6, half, chat.units)
        assert chat.place("c", half, chat.units, kv=[("b", half, chat.units)]).ok
        chat.go(first, f"c:{half}-{chat.units}", standby={"c": "b"})

    chat.at_token(7, move)
    chat.at_token(9, lambda: chat.release("b", half, chat.units))
    chat.at_token(12, lambda: await_rows(chat, "b", chat.prompt + 11, half, chat.units))
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert session["replays"] == session["resumes"] == 0
    assert {k["phase"] for k in chat.of("kv")} == {"replica"}
    back = [k["tokens"] for k in chat.of("kv") if k["node"] == "b"]
    assert back and min(begin for begin, _ in back) > chat.prompt  # b stands by with what it had, and what is new


def test_what_stands_by_has_no_room_of_its_own_and_goes_with_the_session(chat_of):
    """It is not taken where there is no room, and let go of when a slice needs the room."""
    chat = chat_of()
    half, (first, last) = ready(chat)
    costs = chat.costs["chat"][half:]
    slice_bytes = sum(cost.weight_bytes for cost in costs) + max(cost.working_bytes for cost in costs)
    for name, room in (("tight", 10_000), ("wide", 2_000_000)):
        chat.add(name, memory_bytes=slice_bytes + room)
        assert chat.place(name, half, chat.units).ok
    chat.release("wide", half, chat.units)
    chat.go(first, last, standby={"b": "wide"})
    used = []

    def look():
        await_rows(chat, "wide", chat.prompt + 8, half, chat.units)
        used.append(chat.used_bytes("wide"))
        filler = chat.hosts["wide"].agent
        filler._memory.limit_bytes = slice_bytes + 1_000
        used.extend([chat.place("wide", half, chat.units).ok, chat.used_bytes("wide")])
        chat.go(first, last, standby={"b": "tight"})

    chat.at_token(9, look)
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert used[0] > 0 and used[1:] == [True, slice_bytes]
    assert chat.used_bytes("tight") == slice_bytes
    assert not [k for k in chat.of("kv") if k["node"] == "tight"]


def test_an_ended_session_leaves_nothing_with_who_stood_by(chat_of):
    chat = chat_of()
    _, (first, last) = ready(chat)
    chat.go(first, last, standby={"b": "c"})
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert [k for k in chat.of("kv") if k["node"] == "c"]
    chat.until(lambda: chat.used_bytes("c") == 0)


def test_heads_that_were_lost_go_on_where_another_stood_by(apart_of):
    """Three nodes hold the heads of all layers; d stands by c with its heads alone and takes its place."""
    chat = apart_of()
    chat.phone(kv="replica")
    placement, after = three(chat), three(chat, c="d")
    chat.lay(placement)
    chat.lay(after)
    chat.take(placement, standby={"c": "d"})
    chat.at_token(7, lambda: chat.until(lambda: chat.kept_heads("d", placement, "c") == chat.prompt + 6))
    strike_once(chat, "c", chat.prompt + 6, lambda: chat.take(after, lost=["c"]))
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert (session["replays"], session["resumes"]) == (0, 1)
    came = [k for k in chat.of("kv") if k["source"] == chat.address("c")]
    assert came and all(k["heads"] for k in came)


@pytest.mark.parametrize("family", ["llama_tiny", "whisper_tiny"])
def test_news_come_in_pieces_of_a_bounded_size(chat_of, monkeypatch, family):
    monkeypatch.setattr(kvshipping, "NEWS_MAX_BYTES", 5_000)
    chat = chat_of(family)
    half, (first, last) = ready(chat)
    chat.go(first, last, standby={"b": "c"})
    chat.at_token(8, lambda: await_rows(chat, "c", chat.prompt + 7, half, chat.units))

    def go_over():
        assert chat.place("c", half, chat.units).ok
        chat.go(first, f"c:{half}-{chat.units}", lost=["b"])

    strike_once(chat, "b", chat.prompt + 7, go_over)
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert (session["replays"], session["resumes"]) == (0, 1)
    came = [k for k in chat.of("kv") if k["phase"] == "replica"]
    fixed_bytes = sum(cost.kept_bytes for cost in chat.costs["chat"])  # comes whole, with the first token
    assert [k["tokens"][0] for k in came] == [0, *(k["tokens"][1] for k in came[:-1])]
    assert all(k["bytes"] <= 5_000 for k in came[1:]) and came[0]["bytes"] <= max(5_000, fixed_bytes + 5_000)
    assert len(came) > (5 if family == "llama_tiny" else 1)  # the input alone, and what followed


def test_news_that_overlap_cut_nothing_of_the_heads_that_a_node_serves(apart_of):
    """c serves heads of layers of which it stands by with those of b; what it has of these comes again, and more."""
    chat = apart_of()
    chat.phone(kv="replica")
    placement = three(chat)
    chat.lay(placement)
    chat.take(placement, standby={"b": "c"})
    block, heads = next((held.first, tuple(held.heads)) for node, held in chat._held(placement) if node == "b")
    source, target = (chat.hosts[node].agent._sessions for node in "bc")
    came = []

    def part():
        chat.until(lambda: chat.kept_heads("c", placement, "b") >= chat.prompt + 3)
        chat.agents["c"].Follow(FollowRequest(), timeout=5)

    def come_again():
        kept, end = source._book.held["cam/0"], chat.prompt + 7
        begin = target._book.held["cam/0"].rows[block, heads[0]] - 2
        tensors = {f"{i}/{name}": rows for i in heads for name, rows in kept.kept.rows(block, begin, end, i)}
        rows = Rows(chat.address("b"), "cam/0", "chat", 0, block, block + 1, begin, end, heads)
        came.append(target.take_news(rows, {block: tensors}, 0))
        came.append(target._book.held["cam/0"].rows[block, heads[0]] - end)

    chat.at_token(4, part)
    chat.at_token(8, come_again)
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert came == [True, 0] and len(rounds) == TOKENS and {r["outcome"] for r in rounds} == {"ok"}


def test_of_one_head_alone_rows_are_cut():
    """In torch: a block of which a node serves one head and stands by with another."""
    units = config_of("llama_tiny").units()
    caches, block = Caches(units), 1
    shape = next(size for name, size in units[block].keeps.items() if name == "keys")
    for head in (0, 1):
        rows = raw(torch.arange(5 * shape[3], dtype=torch.float32).reshape(1, 1, 5, shape[3]))
        caches.put(block, {"keys": rows, "values": rows}, head)
    caches.cut(block, 3, 1)
    assert [caches.heads(block, [head])[head].length for head in (0, 1)] == [5, 3]
    caches.cut(block, 2)
    assert [caches.heads(block, [head])[head].length for head in (0, 1)] == [2, 2]
