"""Layers by parts over several agents: the tokens of the unsplit model, wherever heads go and whatever is lost."""

import contextlib
import random

import pytest

from nodes.codec import Tensor
from nodes.models.splits import Split
from nodes.proto.agent_pb2 import SliceRef
from nodes.proto.data_pb2 import Header, Hop, Placed
from nodes.slices import rows_bytes
from tests.unit.apart import Apart, everything, gathered
from tests.unit.test_generation import is_whole
from tests.unit.test_session_caches import wait_until

FAMILIES = ("llama_tiny", "gpt2_tiny")
TOKENS = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def chat_of(tmp_path, made):
    with contextlib.ExitStack() as stack:
        yield lambda family="llama_tiny", **more: Apart(tmp_path, stack, family, made, **more)


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
def test_any_placement_says_what_the_whole_model_says(chat_of, family, count):
    chat = chat_of(family, count=8)
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
def test_a_head_moves_at_every_token_with_its_keys_and_values(chat_of, family, ahead, rows):
    """Another head each time, to the next of four nodes; none is begun anew, and what travels is that head's."""
    chat = chat_of(family)
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


def three(chat, b="b", c="c"):
    """Layers in all shapes over a, b and c: gathered, and by rows and columns."""
    heads = [b if i % 2 else c for i in range(chat.split.movable)]
    wide = chat.split.hidden
    first = Split.assigned("a", ["a", *heads[1:]], b, c)
    last = Split.assigned(b, heads[::-1], None, [(c, wide - 40), ("a", 40)])
    return ["a", first, *[last] * (chat.config.layers - 2), first, "a"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_lost_at_every_token_loses_no_token(chat_of, family):
    """The node with most parts goes down at each token, and one that has none takes its place."""
    chat = chat_of(family)
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


@pytest.mark.parametrize(
    ("part", "n"), [("heads", 1), ("heads", 9), ("proj", 2), ("mlp", 20), ("columns", 3), ("x", 4)]
)
def test_a_node_lost_under_a_round_loses_no_token(chat_of, part, n):
    """It goes down as the tensor for one of its parts comes in."""
    chat = chat_of()
    chat.phone()
    wide = chat.split.hidden
    mlp = (
        {"b": [("b", wide - 9), ("a", 9)], "d": [("d", wide - 9), ("a", 9)]}
        if part == "columns"
        else {"b": "b", "d": "d"}
    )

    def placed(b):
        heads = [b, *["a"] * (chat.split.movable - 1)] if part in {"heads", "columns"} else ["a"] * chat.split.movable
        split = Split.assigned(
            b if part == "x" else "a",
            heads,
            b if part == "proj" else "a",
            mlp[b] if part in {"mlp", "columns"} else "a",
        )
        return ["a", split, *["a"] * (chat.config.layers - 1), "a"]

    chat.lay(placed("b"))
    chat.lay(placed("d"))
    chat.take(placed("b"))
    agent, seen = chat.hosts["b"].agent, []
    plain = agent.enter

    def enter(header, tensor):
        mine = header.part.startswith({"columns": "mlp:", "x": ""}.get(part, part)) and not header.ended
        seen.extend([header] if mine else [])
        if mine and len(seen) == n:
            chat.down("b")
            chat.take(placed("d"), lost=["b"])
            return False
        return plain(header, tensor)

    agent.enter = enter
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 1
    assert [r["error"] for r in rounds if r["outcome"] == "failed"] == ["PEER_LOST"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_is_taken_apart_and_put_together_within_an_answer(chat_of, family):
    """Whole on b, by parts, by parts elsewhere, whole on d, whole on b: keys and values follow, none is begun anew."""
    chat = chat_of(family)
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


def quiet(chat):
    """Waits until every node has let go of the session."""
    with chat.changed:
        for _ in range(100):
            if not any(host.agent._sessions._held for host in chat.hosts.values()):
                return
            chat.changed.wait(0.02)
    raise AssertionError("a node keeps the session")


def test_memory_is_charged_for_each_part_and_freed_at_the_end(chat_of):
    chat = chat_of()
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


def test_what_two_parts_have_in_common_is_charged_once(chat_of):
    chat = chat_of()
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


def test_each_part_is_told_in_the_journal_and_the_layer_in_one_span(chat_of):
    chat = chat_of()
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


@pytest.mark.parametrize(("lacks", "says"), [("heads", "heads:0"), ("proj", "proj"), ("mlp", "mlp"), ("norm", "norm")])
def test_a_part_that_is_not_there_is_named(chat_of, lacks, says):
    chat = chat_of(count=2)
    chat.phone(deadline_us=300_000)
    placement = ["a", gathered("b", "a" + "b" * (chat.split.movable - 1), "c", "c"), *["a"] * (chat.units - 2)]
    chat.lay(placement)
    chat.take(placement)
    node, first, last, part = next(p for p in everything(placement) if p[3].startswith(lacks))
    told = []
    client = chat.hosts["ue1"].agent
    plain = client.answer
    client.answer = lambda header, tensor: (told.append((header.error_code, header.error)), plain(header, tensor))
    chat.agents[node].Release(SliceRef(model="chat", first=first, last=last, part=part), timeout=5)
    chat.start()
    with chat.changed:
        chat.changed.wait_for(lambda: any(r["error"] == "UNKNOWN_SLICE" for r in chat.of("request")), 5)
    assert told[0] == ("UNKNOWN_SLICE", f"{node}: chat[1:2] {part} is not here") and part.startswith(says)


def test_caches_at_another_position_are_refused_by_name(chat_of):
    chat = chat_of()
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


def test_many_sessions_at_once_keep_apart(chat_of):
    chat = chat_of(count=6)
    chat.phone(sessions=5)
    placement = three(chat)
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    sessions = chat.sessions(5)
    assert [s["outcome"] for s in sessions] == ["ok"] * 5
    assert all(s["tokens"] == chat.right and s["replays"] == 0 for s in sessions)


def test_without_numbers_sizes_are_right(chat_of):
    chat = chat_of(numerics=False)
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


@pytest.mark.parametrize("part", ["", "heads", "proj"])
def test_a_tensor_of_another_length_is_refused_by_name(chat_of, part):
    chat = chat_of(count=4)
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


def test_no_frame_of_a_stranger_breaks_a_node_and_nothing_of_it_stays(chat_of):
    """Any part, any place, any shape: refused or forgotten."""
    chat = chat_of()
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
    wait_until(chat, lambda: len(agent._parts._gather) == 0 and chat.used_bytes("b") == before)
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
