"""Sessions over several agents: the tokens of the unsplit model, wherever the caches go and whatever is lost."""

import pytest

from nodes.slices import rows_bytes
from tests.unit.chatting import TOKENS

FAMILIES = ("llama_tiny", "gpt2_tiny", "whisper_tiny")


def split(chat, *nodes):
    """The model cut into equal parts, in order, one a node; the route."""
    cuts = [round(i * chat.units / len(nodes)) for i in range(len(nodes) + 1)]
    route = []
    for node, a, b in zip(nodes, cuts, cuts[1:], strict=False):
        assert chat.place(node, a, b).ok
        route.append(f"{node}:{a}-{b}")
    return route


def is_whole(chat, session):
    """All tokens, the right ones, each asked for once."""
    assert (session["outcome"], session["error"]) == ("ok", "")
    assert session["tokens"] == list(chat.right)
    rounds = chat.rounds()
    come = 0
    for answered in (r for r in rounds if r["outcome"] == "ok"):
        again = answered["replay"] and answered["position"] == 0 and come > 0  # the input, brought back
        assert answered["token"] == (0 if again else come)
        come += not again
    assert come == len(chat.right)
    assert all(r["checked"] and r["equal"] for r in rounds if r["outcome"] == "ok")
    assert not any(r["duplicates"] for r in rounds)
    return rounds


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("nodes", [("a",), ("a", "b"), ("ue1", "a", "b")])
def test_a_split_model_says_what_the_whole_model_says(chat_of, family, nodes):
    chat = chat_of(family)
    chat.phone()
    chat.go(*split(chat, *nodes))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert len(rounds) == TOKENS and session["replays"] == 0
    assert [r["token"] for r in rounds] == list(range(TOKENS))
    assert rounds[0]["position"] == 0
    steps = [r["position"] for r in rounds[1:]]
    assert steps == list(range(steps[0], steps[0] + TOKENS - 1))
    assert session["begun_us"] < session["first_us"] < session["done_us"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ahead", [True, False], ids=["copied ahead", "pulled"])
def test_caches_follow_a_move_at_every_token(chat_of, family, ahead):
    """The last half of the model goes to and fro; each move takes the caches along, and none is begun anew."""
    chat = chat_of(family)
    chat.phone()
    half = chat.units - 2
    first, last = split_at(chat, half, "a", "b")
    chat.go(first, last)

    def move(n):
        old, new = ("b", "c") if n % 2 else ("c", "b")
        assert chat.place(new, half, chat.units, kv=[(old, half, chat.units)] if ahead else ()).ok
        chat.go(first, f"{new}:{half}-{chat.units}")

    for n in range(1, TOKENS):
        chat.at_token(n, lambda n=n: move(n))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 0 and len(rounds) == TOKENS
    assert [r["epoch"] for r in rounds] == list(range(1, TOKENS + 1))
    where = [[s["node"] for s in r["spans"] if s["kind"] == "compute"][-1] for r in rounds]
    assert where == ["b" if n % 2 == 0 else "c" for n in range(TOKENS)]
    pulled = chat.of("kv")
    assert {record["phase"] for record in pulled} == ({"prepare"} if ahead else {"switch"})
    assert not any(record["why"] for record in pulled)


def split_at(chat, cut, one, other):
    assert chat.place(one, 0, cut).ok and chat.place(other, cut, chat.units).ok
    return f"{one}:0-{cut}", f"{other}:{cut}-{chat.units}"


def test_the_first_move_takes_all_rows_and_the_next_only_what_is_new(chat_of):
    chat = chat_of()
    chat.phone()
    chat.go(*split_at(chat, 2, "a", "b"))
    chat.at_token(5, lambda: (chat.place("c", 2, 5), chat.go("a:0-2", "c:2-5")))
    chat.at_token(9, lambda: chat.go("a:0-2", "b:2-5"))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    prompt = rounds[1]["position"]
    cost = chat.costs["chat"][2]
    there, back = chat.of("kv")
    assert (there["tokens"], there["blocks"]) == ([0, prompt + 4], [2, 4])  # the head keeps nothing
    assert there["bytes"] == 2 * rows_bytes(cost, 0, prompt + 4)
    assert back["tokens"] == [prompt + 4, prompt + 8]
    assert back["bytes"] == 2 * 4 * cost.step.kv_bytes_per_token


def test_a_new_cut_takes_caches_from_several_nodes(chat_of):
    chat = chat_of()
    chat.phone()
    chat.go(*split_at(chat, 2, "a", "b"))
    chat.at_token(7, lambda: (chat.place("c", 1, 3), chat.place("b", 3, 5), chat.go("a:0-2", "b:2-5")))
    chat.at_token(8, lambda: (chat.place("a", 0, 1), chat.go("a:0-1", "c:1-3", "b:3-5")))
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert session["replays"] == 0
    assert {(r["source"], *r["blocks"]) for r in chat.of("kv")} == {
        (chat.hosts["a"].agent.spec.address, 1, 2),
        (chat.hosts["b"].agent.spec.address, 2, 3),
    }


@pytest.mark.parametrize("family", FAMILIES[1:])  # llama: below, under the rounds
def test_a_node_lost_at_every_token_loses_no_token(chat_of, family):
    """Whoever holds the caches goes down at each token, and a node that has none takes its place."""
    chat = chat_of(family)
    chat.phone()
    half = chat.units - 2
    first, last = split_at(chat, half, "a", "b")
    chat.go(first, last)

    def lose(n):
        old, new = ("b", "c") if n % 2 else ("c", "b")
        chat.down(old)
        if n > 1:
            chat.up(new)
        assert chat.place(new, half, chat.units, kv=[(old, half, chat.units)]).ok
        chat.go(first, f"{new}:{half}-{chat.units}", lost=[old])

    for n in range(1, TOKENS):
        chat.at_token(n, lambda n=n: lose(n))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == TOKENS - 1
    assert all(r["error"] in ("", "CACHE_LOST") for r in rounds)


@pytest.mark.parametrize("moment", ["as it comes in", "while it is computed", "as its output leaves"])
def test_a_node_lost_under_the_round_of_every_token_loses_no_token(chat_of, moment):
    """The holder of the caches goes down within each round, once for each token; another takes its place each time."""
    chat = chat_of()
    chat.phone()
    first, last = split_at(chat, 2, "a", "b")
    assert chat.place("c", 2, 5).ok
    chat.go(first, last)
    struck = []

    def strikes(node, header):
        """Whether the node goes down now: once at each length that a round brings the session to."""
        length = header.position + header.tokens
        if header.ended or not header.session or length in struck:
            return False
        struck.append(length)
        new = "c" if node == "b" else "b"
        chat.down(node)
        chat.up(new)
        assert chat.place(new, 2, 5).ok
        chat.go("a:0-2", f"{new}:2-5", lost=[node])
        return True

    for node in "bc":
        strike_at(chat.hosts[node].agent, moment, lambda header, node=node: strikes(node, header))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    prompt = struck[0]
    assert struck == list(range(prompt, prompt + TOKENS)) and session["replays"] == TOKENS
    failed = [r for r in rounds if r["outcome"] == "failed"]
    assert [(r["token"], r["error"]) for r in failed] == [(n, "PEER_LOST") for n in range(TOKENS)]


def strike_at(agent, moment, strikes):
    """Asks at a moment of each round whether the node is lost now; then nothing more comes of the round."""
    enter, run, forward = agent.enter, agent._sessions.run, agent.forward
    if moment == "as it comes in":
        agent.enter = lambda header, tensor: not strikes(header) and enter(header, tensor)
    elif moment == "while it is computed":
        agent._sessions.run = lambda header, *more: (run(header, *more), strikes(header))[0]
    else:
        agent.forward = lambda header, *more: None if strikes(header) else forward(header, *more)


def test_a_session_waits_for_a_route_that_works(chat_of):
    chat = chat_of()
    chat.phone(deadline_us=1_500_000)  # what the round waits that finds no route
    chat.go(*split_at(chat, 2, "a", "b"))
    chat.at_token(4, lambda: chat.release("b", 2, 5))
    chat.start()
    chat.until(lambda: any(r["error"] == "UNKNOWN_SLICE" for r in chat.of("request")))
    assert chat.place("c", 2, 5).ok
    chat.go("a:0-2", "c:2-5")
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert {r["error"] for r in rounds} == {"", "UNKNOWN_SLICE"} and session["replays"] >= 1
