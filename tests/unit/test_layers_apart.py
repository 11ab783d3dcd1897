"""Layers by parts over several agents: the tokens of the unsplit model, wherever heads go and whatever is lost."""

import random
from collections import Counter

import pytest

from nodes.models.splits import Split
from nodes.slices import rows_bytes
from tests.unit.apart import everything, gathered, three
from tests.unit.test_generation import is_whole

FAMILIES = ("llama_tiny", "gpt2_tiny")
TOKENS = 20


def spread(config, nodes, draw, kind):
    """A mixed placement: `kind` says whether there are rows, and columns; a layer may be whole."""

    def layer(i):
        if i and draw.random() < 0.3:
            return draw.choice(nodes)
        heads = [draw.choice(nodes) for _ in range(config.movable)]
        proj = None if kind & 1 else draw.choice(nodes)
        cut = draw.randrange(1, config.hidden)
        mlp = [(draw.choice(nodes), cut), (draw.choice(nodes), config.hidden - cut)] if kind & 2 else draw.choice(nodes)
        return Split.assigned(draw.choice(nodes), heads, proj, mlp)

    return [draw.choice(nodes), *(layer(i) for i in range(config.layers)), draw.choice(nodes)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_any_placement_says_what_the_whole_model_says(apart_of, family, count):
    chat = apart_of(family, count=8)
    chat.phone()
    draw = random.Random(f"{family} {count}")
    placement = spread(chat.split, [f"n{i}" for i in range(count)], draw, kind=count % 4)
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 0 and len(rounds) == 8


@pytest.mark.parametrize(
    ("family", "ahead", "rows"),
    [
        pytest.param("llama_tiny", True, False, id="llama, copied ahead, heads"),
        pytest.param("llama_tiny", False, True, id="llama, pulled, rows"),
        pytest.param("gpt2_tiny", False, False, id="gpt2, pulled, heads"),
        pytest.param("gpt2_tiny", True, True, id="gpt2, copied ahead, rows"),
    ],
)
def test_a_head_moves_at_every_token_with_its_keys_and_values(apart_of, family, ahead, rows):
    """Another head each time, to the next of four nodes; none is begun anew, and what travels is that head's."""
    chat = apart_of(family)
    chat.phone()
    layer = gathered("a", "abcd"[: chat.split.movable], None if rows else "b", "c")
    ways = [["a", *[layer] * chat.config.layers, "b"]]
    for n in range(1, TOKENS):
        layer, head = n % chat.config.layers, n % chat.split.movable
        split = ways[-1][1 + layer]
        to = "abcd"["abcd".index(split.node_of(head)) - 3]
        ways.append([*ways[-1][: 1 + layer], split.moved(head, to), *ways[-1][2 + layer :]])
    chat.lay(ways[0])
    chat.take(ways[0])

    def move(n):
        chat.lay(ways[n], ahead=ways[n - 1] if ahead else None)
        chat.take(ways[n])
        if n > 1:  # those that the session has left
            chat.let_go(ways[n - 2], ways[n - 1], ways[n])

    for n in range(1, TOKENS):
        chat.at_token(n, lambda n=n: move(n))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 0 and [r["epoch"] for r in rounds] == list(range(1, TOKENS + 1))
    pulled = chat.of("kv")
    assert len(pulled) == TOKENS - 1 and not any(record["why"] for record in pulled)
    assert {record["phase"] for record in pulled} == {"prepare" if ahead else "switch"}
    prompt = rounds[1]["position"]
    cost = chat.costs["chat"][1]
    for n, record in enumerate(pulled, 1):
        assert record["heads"] == [n % chat.split.movable] and record["blocks"][0] == 1 + n % chat.config.layers
        assert record["tokens"] == [0, prompt + n - 1]
        assert record["bytes"] == rows_bytes(cost, 0, prompt + n - 1, heads=1)


def test_a_node_lost_at_every_token_loses_no_token(apart_of):
    """The node with most parts goes down at each token, and one that has none takes its place."""
    chat = apart_of("gpt2_tiny")
    chat.phone()
    chat.lay(three(chat))
    chat.take(three(chat))

    def lose(n):
        old, new = ("b", "d") if n % 2 else ("d", "b")
        chat.down(old)
        if n > 1:
            chat.up(new)
        chat.lay(three(chat, b=new))
        chat.take(three(chat, b=new), lost=[old])

    for n in range(1, TOKENS):
        chat.at_token(n, lambda n=n: lose(n))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == TOKENS - 1
    assert {r["error"] for r in rounds} <= {"", "CACHE_LOST"}


@pytest.mark.parametrize(("losing", "count"), [("b", TOKENS), ("c", TOKENS // 2)])
def test_a_node_lost_under_the_round_of_every_token_loses_no_token(apart_of, losing, count):
    """Once within the round of each token, each time as another of the tensors for the node's parts comes in."""
    chat = apart_of(count=count)
    chat.phone()
    places = {node: three(chat, **{losing: node}) for node in (losing, "d")}
    for placement in places.values():
        chat.lay(placement)
    chat.take(places[losing])
    struck, parts, seen = [], set(), Counter()  # lengths of the session, kinds of parts, tensors of rounds

    def strikes(node, header):
        """Whether the node goes down now: at the n-th tensor of round n, as far as rounds have so many."""
        length = header.position + header.tokens
        if header.ended:
            return False
        seen[header.life, length] += 1
        if length in struck or seen[header.life, length] <= len(struck) % (seen[1, struck[0]] if struck else 1):
            return False  # the input's round was struck at its first tensor, and went through in the next life
        struck.append(length)
        parts.add(header.part.split(":")[0])
        new = "d" if node == losing else losing
        chat.down(node)
        chat.up(new)
        chat.lay(places[new])
        chat.take(places[new], lost=[node])
        return True

    for node in places:
        agent = chat.hosts[node].agent
        plain = agent.enter
        agent.enter = lambda header, tensor, node=node, plain=plain: not strikes(node, header) and plain(header, tensor)
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert struck == list(range(struck[0], struck[0] + count)) and session["replays"] == count
    failed = [r for r in rounds if r["outcome"] == "failed"]
    assert [(r["token"], r["error"]) for r in failed] == [(n, "PEER_LOST") for n in range(count)]
    assert parts >= {"b": {"", "heads", "rows", "proj"}, "c": {"heads", "rows", "mlp"}}[losing]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_is_taken_apart_and_put_together_within_an_answer(apart_of, family):
    """Whole on b, by parts, by parts elsewhere, whole on d, whole on b: keys and values follow, none is begun anew."""
    chat = apart_of(family)
    chat.phone()
    whole = lambda node: ["a", *[node] * chat.config.layers, "a"]  # noqa: E731
    ways = [whole("b"), three(chat), three(chat, "c", "d"), whole("d"), whole("b"), three(chat, "e", "b"), whole("b")]
    chat.lay(ways[0])
    chat.take(ways[0])
    for n in range(1, len(ways)):
        ahead = ways[n - 1] if n % 2 else None
        chat.at_token(2 * n, lambda n=n, ahead=ahead: (chat.lay(ways[n], ahead), chat.take(ways[n])))
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 0 and len(rounds) == TOKENS
    assert not any(record["why"] for record in chat.of("kv"))
    assert rounds[-1]["epoch"] == len(ways)


def test_each_part_is_told_in_the_journal_and_the_layer_in_one_span(apart_of):
    chat = apart_of()
    chat.phone()
    split = gathered("a", "ab" * (chat.split.movable // 2) + "a" * (chat.split.movable % 2), "b", "c")
    placement = ["a", split, *["c"] * (chat.config.layers - 1), "a"]
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    second = rounds[1]
    kinds = [(s["node"], s["kind"]) for s in second["spans"] if s["kind"] in {"compute", "layer"}]
    assert kinds == [("a", "compute"), ("c", "layer"), ("c", "compute"), ("a", "compute")]
    steps = [s["step"] for s in second["spans"] if s["kind"] in {"compute", "layer"}]
    assert steps == [1, 2, 3, 4]
    [layer] = [s for s in second["spans"] if s["kind"] == "layer"]
    parts = [p for p in chat.of("part") if p["request"] == second["id"]]
    assert sorted((p["node"], p["part"]) for p in parts) == sorted((n, p) for n, _, _, p in everything(placement) if p)
    assert all(p["layer"] == 1 and p["position"] == second["position"] for p in parts)
    assert all(layer["start_us"] <= p["t_us"] <= layer["end_us"] for p in parts)
    width = 4 * chat.config.width
    sent = {(p["node"], p["part"].split(":")[0]): p["sent_bytes"] for p in parts}
    one = 4 * chat.config.width // chat.split.movable
    at_a = len(split.heads[0][1].numbers)
    assert sent == {
        ("a", "norm"): 2 * width,
        ("a", "heads"): at_a * one,
        ("b", "heads"): 0,
        ("b", "proj"): width,
        ("c", "mlp"): 0,
    }


def test_many_sessions_at_once_keep_apart(apart_of):
    chat = apart_of(count=6)
    chat.phone(sessions=5)
    placement = three(chat)
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    sessions = chat.sessions(5)
    assert [s["outcome"] for s in sessions] == ["ok"] * 5
    assert all(s["tokens"] == chat.right and s["replays"] == 0 for s in sessions)


def test_without_numbers_sizes_are_right(apart_of):
    chat = apart_of(numerics=False)
    chat.phone()
    placement = three(chat)
    chat.lay(placement)
    chat.take(placement)
    moved = three(chat, "c", "b")
    chat.at_token(9, lambda: chat.move(placement, moved))
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert session["replays"] == 0
    assert {p["sent_bytes"] for p in chat.of("part") if p["position"]} > {0, 4 * chat.config.width}
