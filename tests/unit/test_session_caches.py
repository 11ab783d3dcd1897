"""What nodes keep of sessions: refused when it does not fit or not belong, counted, and let go of."""

import pytest

from nodes.proto.data_pb2 import Header
from nodes.session.sessions import CacheLost
from nodes.slices import rows_bytes
from nodes.wire import shipping
from testbed.emulation import problem
from testbed.emulation.sessions import Sessions
from testbed.plan import ModelPlan
from tests.unit.chatting import TOKENS


def two(chat):
    assert chat.place("a", 0, 2).ok and chat.place("b", 2, 5).ok
    chat.go("a:0-2", "b:2-5")


def kept_bytes(chat, first, last, tokens):
    return sum(rows_bytes(cost, 0, tokens) for cost in chat.costs["chat"][first:last])


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_round_for_another_position_is_refused_by_name_and_nothing_is_computed(chat_of, shift):
    chat = chat_of()
    chat.phone()
    two(chat)
    agent, spoilt = chat.hosts["b"].agent, []
    plain, computed = agent.enter, []

    def enter(header, tensor):
        if header.position and not spoilt:
            spoilt.append(agent.served)
            header.position += shift
            plain(header, tensor)
            computed.append(agent.served)
            return True
        return plain(header, tensor)

    agent.enter = enter
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right) and session["replays"] == 1
    assert [r["error"] for r in chat.rounds() if r["outcome"] == "failed"] == ["CACHE_LOST"]
    assert spoilt == computed


def test_a_round_of_another_length_than_it_says_is_refused_by_name_and_spoils_nothing_for_others(chat_of):
    chat = chat_of()
    chat.phone(sessions=2)
    two(chat)
    agent, spoilt = chat.hosts["a"].agent, []
    plain = agent.enter

    def enter(header, tensor):
        if header.position and header.session == "cam/0" and not header.ended:
            spoilt.append(header)
            header.tokens += 1
        return plain(header, tensor)

    agent.enter = enter
    chat.start()
    one, other = sorted(chat.sessions(2), key=lambda s: s["session"])
    assert (one["outcome"], one["error"], one["tokens"]) == ("failed", "BAD_TENSOR", list(chat.right[:1]))
    assert other["tokens"] == list(chat.right) and len(spoilt) == 1


def test_memory_is_charged_for_every_token_and_freed_at_the_end(chat_of):
    chat = chat_of()
    chat.phone()
    two(chat)
    before = {name: chat.used_bytes(name) for name in "ab"}
    seen = {}
    chat.at_token(8, lambda: seen.update({name: chat.used_bytes(name) for name in "ab"}))
    chat.start()
    [session] = chat.sessions()
    prompt = chat.rounds()[1]["position"]
    assert seen["a"] - before["a"] == kept_bytes(chat, 0, 2, prompt + 7) > 0
    assert seen["b"] - before["b"] == kept_bytes(chat, 2, 5, prompt + 7) > 0
    chat.until(lambda: {name: chat.used_bytes(name) for name in "ab"} == before)
    assert session["outcome"] == "ok"


def test_a_session_that_does_not_fit_fails_by_name(chat_of):
    chat = chat_of()
    chat.phone()
    weights = sum(cost.weight_bytes for cost in chat.costs["chat"])
    working = max(cost.working_bytes for cost in chat.costs["chat"])
    chat.add("a", memory_bytes=weights + working + 40_000)  # some forty tokens of the sixty of the prompt
    assert chat.place("a", 0, 5).ok
    chat.go("a:0-5")
    chat.start()
    [session] = chat.sessions()
    assert (session["outcome"], session["error"], session["tokens"]) == ("failed", "OUT_OF_MEMORY", [])
    chat.until(lambda: chat.used_bytes("a") == weights + working)


@pytest.mark.parametrize("short", [False, True])
def test_what_the_planner_counts_for_sessions_is_what_they_take(chat_of, short):
    """Three at once have room in the bytes of the decision problem, and not in what it would say without them."""
    chat = chat_of()
    chat.phone(sessions=3)
    model = problem._model(ModelPlan("chat", "llama_tiny", "", "", 1), TOKENS)
    blocks = problem._keeping(model, "llama_tiny", Sessions(3, chat.prompt + TOKENS)).blocks
    need = sum(block.weight_bytes + (0 if short else block.kept_bytes) for block in blocks)
    chat.add("a", memory_bytes=need + max(block.working_bytes for block in blocks))
    assert chat.place("a", 0, 5).ok
    chat.go("a:0-5")
    chat.start()
    ended = {(session["outcome"], session["error"]) for session in chat.sessions(3)}
    assert ended == {("ok", "")} if not short else ("failed", "OUT_OF_MEMORY") in ended


def test_a_node_without_room_for_the_sessions_refuses_the_slice_and_the_old_one_serves_on(chat_of):
    chat = chat_of()
    chat.phone()
    two(chat)
    costs = chat.costs["chat"][2:5]
    full = sum(cost.weight_bytes for cost in costs) + max(cost.working_bytes for cost in costs)
    chat.add("c", memory_bytes=full + 10_000)
    replies = []
    chat.at_token(5, lambda: replies.append((chat.place("c", 2, 5, kv=[("b", 2, 5)]), chat.used_bytes("c"))))
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right) and session["replays"] == 0
    [(reply, used)] = replies
    assert not reply.ok and "session cam/0" in reply.why and used == 0


def test_a_move_that_is_taken_back_leaves_nothing_and_the_old_caches_serve_on(chat_of):
    chat = chat_of()
    chat.phone()
    two(chat)
    used = []

    def try_out():
        assert chat.place("c", 2, 5, kv=[("b", 2, 5)]).ok
        used.append(chat.used_bytes("c"))
        chat.release("c", 2, 5)
        used.append(chat.used_bytes("c"))

    chat.at_token(5, try_out)
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right) and session["replays"] == 0
    assert used[0] > 0 and used[1] == 0
    assert {r["epoch"] for r in chat.rounds()} == {1}


def test_caches_go_with_the_slice_and_with_the_node(chat_of):
    chat = chat_of()
    chat.phone()
    two(chat)
    seen = []

    def move():
        assert chat.place("c", 2, 5).ok
        chat.go("a:0-2", "c:2-5")

    def let_go():
        chat.release("b", 2, 5)
        seen.append(chat.used_bytes("b"))

    chat.at_token(4, move)
    chat.at_token(6, let_go)
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right) and seen == [0]
    chat.down("c")
    assert chat.used_bytes("c") == 0


def test_idle_sessions_are_let_go_of(chat_of, monkeypatch):
    monkeypatch.setattr("nodes.session.sessions.Sessions.__init__.__defaults__", (None, 100_000))
    chat = chat_of()
    chat.phone()
    two(chat)
    used = chat.used_bytes("b")
    held = []

    def leave():
        """The phone waits for a route, the caches at b for the phone."""
        held.append(chat.used_bytes("b") - used)
        chat.release("a", 0, 2)

    chat.at_token(3, leave)
    chat.start()
    chat.until(lambda: held and chat.used_bytes("b") == used)
    assert held[0] > 0 and not chat.hosts["b"].agent._sessions._book.held


def test_old_lives_are_refused(chat_of):
    chat = chat_of()
    chat.phone()
    chat.place("a", 0, 5)
    sessions = chat.hosts["a"].agent._sessions
    header = Header(session="cam/0", model="chat", life=2, tokens=10)
    assert sessions.admit(header, 0, 5, ()) == []
    header.life = 1
    with pytest.raises(CacheLost, match="begun anew"):
        sessions.admit(header, 0, 5, ())
    header.life, header.position = 3, 10
    with pytest.raises(CacheLost, match="has 0 tokens here, not 10"):
        sessions.admit(header, 0, 5, ())


def test_without_numerics_sessions_have_the_right_sizes(chat_of):
    chat = chat_of("whisper_tiny", numerics=False)
    chat.phone()
    assert chat.place("a", 0, 4).ok and chat.place("b", 4, 7).ok
    chat.go("a:0-4", "b:4-7")
    chat.at_token(4, lambda: (chat.place("c", 4, 7), chat.go("a:0-4", "c:4-7")))
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == [0] * TOKENS
    rounds = chat.rounds()
    carried = [[s["size_bytes"] for s in r["spans"] if s["kind"] == "network"] for r in rounds]
    width, heard, starts = chat.config.width, chat.config.frames, chat.config.tokens
    sound = 4 * chat.config.mels * 2 * heard
    assert carried[0] == [sound, 4 * (heard + starts) * width, 8]
    assert all(sizes == [8, 4 * width, 8] for sizes in carried[1:])
    [pull] = chat.of("kv")
    assert pull["bytes"] == kept_bytes(chat, 4, 7, starts + 3)
    assert pull["blocks"] == [4, 6 if chat.units == 7 else 5]


def test_a_session_ends_at_its_last_word(chat_of):
    chat = chat_of()
    end = chat.right[4]
    chat.phone(end=end)
    two(chat)
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right[: list(chat.right).index(end) + 1])


def test_sessions_side_by_side_keep_apart(chat_of):
    chat = chat_of()
    chat.phone(sessions=4)
    two(chat)
    chat.start()
    sessions = chat.sessions(4)
    assert [s["tokens"] for s in sessions] == [list(chat.right)] * 4
    assert {s["session"] for s in sessions} == {f"cam/{k}" for k in range(4)}
    phone = chat.hosts["ue1"].client.status()
    assert phone[2] == 4 * TOKENS and phone[3] and not phone[0]


def test_sessions_are_copied_ahead_together_and_one_that_is_gone_meanwhile_is_left_out(chat_of, monkeypatch):
    chat = chat_of()
    chat.phone(sessions=3)
    two(chat)
    plain, asked, moved = shipping.fetch, [], []

    def fetch(address, request, **more):
        if request.others:
            request.others[0].session = "cam/9"  # it has ended between the catalogue and the rows
        asked.append((request.catalogue, 1 + len(request.others)))
        return plain(address, request, **more)

    def move():
        monkeypatch.setattr(shipping, "fetch", fetch)
        moved.append(chat.place("c", 2, 5, kv=[("b", 2, 5)]))
        monkeypatch.setattr(shipping, "fetch", plain)

    chat.at_token(8, move)
    chat.start()
    assert [s["tokens"] for s in chat.sessions(3)] == [list(chat.right)] * 3
    assert asked == [(True, 1), (False, 3)] and moved[0].ok
    copied = chat.of("kv")
    assert [bool(record["why"]) for record in copied] == [False, True, False]
    assert moved[0].bytes_moved == sum(record["bytes"] for record in copied) > 0


def test_prefill_brings_the_caches_back_instead_of_moving_them(chat_of):
    chat = chat_of()
    chat.phone(kv="prefill")
    two(chat)
    chat.at_token(6, lambda: (chat.place("c", 2, 5), chat.go("a:0-2", "c:2-5")))
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right) and session["replays"] == 1
    assert not chat.of("kv") and not [r for r in chat.rounds() if r["outcome"] == "failed"]
