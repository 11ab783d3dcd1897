"""Copy or compute again: what the ways, the speeds and the length of the text say."""

import pytest

from nodes.compute.processor import Speed
from nodes.costing.costs import costs
from nodes.costing.kvcost import ENDLESS, RISK, Reach, Stop, Transfer, copy_us, replica_pays, rounds_us
from nodes.phone import chats
from nodes.phone.chats import Known
from nodes.proto.data_pb2 import Held
from nodes.slices import rows_bytes, step_work
from tests.unit.chatting import TOKENS
from tests.unit.test_replicas import strike_once

CHAT = costs("smollm2")
LAYER = CHAT[1]
ROUTE = (Stop("edge", 0, 12), Stop("mec", 12, 32))
WAYS = {("ue", "edge"): Reach(40_000_000, 8_000), ("edge", "mec"): Reach(1_000_000_000, 2_000)}
WAYS |= {(b, a): reach for (a, b), reach in WAYS.items()} | {("mec", "ue"): Reach(40_000_000, 10_000)}
SPEEDS = {"edge": Speed(640 * 10**9), "mec": Speed(4 * 10**12)}


def test_copying_takes_as_long_as_the_slowest_of_the_transfers():
    near, far = Transfer("edge", "mec", 1, 11), Transfer("ue", "edge", 11, 13)
    size = 10 * rows_bytes(LAYER, 0, 500)
    assert size == 10 * 500 * 2 * 3 * 64 * 4
    assert copy_us(CHAT, 0, 500, [near], WAYS) == pytest.approx(size * 8e6 / 1e9 + 4 * 2_000)
    assert copy_us(CHAT, 0, 500, [far], WAYS) == pytest.approx(size / 5 * 8e6 / 40e6 + 4 * 8_000)
    assert copy_us(CHAT, 0, 500, [near, far], WAYS) == copy_us(CHAT, 0, 500, [far], WAYS)
    assert copy_us(CHAT, 499, 500, [near], WAYS) == pytest.approx(size / 500 * 8e6 / 1e9 + 4 * 2_000)
    assert copy_us(CHAT, 0, 500, [], WAYS) == 0


def test_transfers_over_the_same_way_come_one_after_the_other():
    both = [Transfer("edge", "mec", 1, 6), Transfer("edge", "mec", 6, 11)]
    assert copy_us(CHAT, 0, 500, both, WAYS) == copy_us(CHAT, 0, 500, [Transfer("edge", "mec", 1, 11)], WAYS)


def test_computing_again_takes_all_slices_and_the_ways_between():
    work = [sum(w.flops for w in step_work(CHAT, stop.first, stop.last, 0, 500)) for stop in ROUTE]
    moved = 500 * 8 * 8e6 / 40e6 + 8_000 + 500 * 576 * 4 * 8e6 / 1e9 + 2_000 + 8 * 8e6 / 40e6 + 10_000
    expected = work[0] * 1e6 / 640e9 + work[1] * 1e6 / 4e12 + moved
    assert rounds_us(CHAT, [(0, 500)], "ue", ROUTE, SPEEDS, WAYS) == pytest.approx(expected)
    twice = rounds_us(CHAT, [(0, 500), (500, 1)], "ue", ROUTE, SPEEDS, WAYS)
    assert twice - expected == pytest.approx(rounds_us(CHAT, [(500, 1)], "ue", ROUTE, SPEEDS, WAYS))


def test_a_slow_memory_takes_as_long_as_the_weights_need_to_be_read():
    slow = {node: Speed(speed.flops_per_s, 10 * 10**9) for node, speed in SPEEDS.items()}
    read = sum(w.read_bytes for stop in ROUTE for w in step_work(CHAT, stop.first, stop.last, 500, 1))
    ways = rounds_us(CHAT, [(500, 1)], "ue", ROUTE, dict.fromkeys(SPEEDS, Speed(10**18)), WAYS)
    assert rounds_us(CHAT, [(500, 1)], "ue", ROUTE, slow, WAYS) == pytest.approx(read * 1e6 / 10e9 + ways, rel=1e-3)


def test_what_is_not_known_is_not_chosen():
    assert copy_us(CHAT, 0, 10, [Transfer("mec", "pc", 1, 2)], WAYS) == ENDLESS
    assert rounds_us(CHAT, [(0, 10)], "ue", ROUTE, {"edge": Speed(1)}, WAYS) == ENDLESS
    assert rounds_us(CHAT, [(0, 10)], "pc", ROUTE, SPEEDS, WAYS) == ENDLESS


def test_a_slow_way_makes_computing_cheaper_and_a_slow_processor_copying():
    def choice(rate_bps, flops_per_s):
        ways, speeds = {**WAYS, ("edge", "mec"): Reach(rate_bps, 2_000)}, dict.fromkeys(SPEEDS, Speed(flops_per_s))
        again = rounds_us(CHAT, [(0, 500)], "ue", ROUTE, speeds, ways)
        return "prefill" if again < copy_us(CHAT, 0, 500, [Transfer("edge", "mec", 12, 31)], ways) else "copy"

    assert choice(10_000_000, 10**12) == "prefill"
    assert choice(1_000_000_000, 10**12) == "copy"
    assert choice(10_000_000, 10**10) == "copy"


def test_a_node_that_stood_by_lacks_the_last_token_alone():
    near, ready = Transfer("edge", "mec", 1, 11), Transfer("edge", "mec", 1, 11, stood_by=True)
    assert copy_us(CHAT, 0, 500, [ready], WAYS) == copy_us(CHAT, 499, 500, [near], WAYS)
    assert copy_us(CHAT, 500, 500, [ready], WAYS) == copy_us(CHAT, 500, 500, [near], WAYS)


def test_a_replica_pays_where_to_keep_it_up_takes_a_tenth_of_computing_again():
    """By hand, ten layers of 500 tokens: their rows once over the way, or their FLOPs at the standby's speed."""
    kept, tokens = Transfer("edge", "mec", 1, 11), 500
    carry_us = 10 * rows_bytes(LAYER, 0, tokens) * 8e6 / 1e9 + 4 * 2_000
    flops = sum(work.flops for work in step_work(CHAT, 1, 11, 0, tokens))
    even = round(RISK * flops * 1e6 / carry_us)  # FLOP/s of the standby at which both are the same
    reach = WAYS["edge", "mec"]
    assert replica_pays(CHAT, kept, tokens, Speed(even * 99 // 100), reach)
    assert not replica_pays(CHAT, kept, tokens, Speed(even * 101 // 100), reach)
    assert not replica_pays(CHAT, kept, tokens, Speed(even * 99 // 100), Reach(reach.rate_bps // 2, reach.delay_us))
    assert not replica_pays(CHAT, kept, tokens, Speed(even), None)
    of_one = Transfer("edge", "mec", 1, 11, heads=1)  # a third of the rows and of the work
    assert replica_pays(CHAT, of_one, tokens, Speed(even // 2), reach)


@pytest.mark.parametrize(
    ("rate_bps", "copied", "replays"),
    [(10**9, False, 0), (100_000, False, 1), (100_000, True, 0)],
    ids=["a fast way", "a slow way", "a slow way, copied ahead"],
)
def test_a_session_does_what_is_reckoned_cheaper_and_says_why(chat_of, rate_bps, copied, replays):
    chat = chat_of()
    chat.phone(kv="auto")
    for node, first, last in (("a", 0, 2), ("b", 2, 5), ("c", 2, 5)):
        assert chat.place(node, first, last).ok
    at = {name: host.agent.spec.address for name, host in chat.hosts.items()}
    reaches = {(at[x], at[y]): Reach(rate_bps if x == "b" else 10**9, 100) for x in at for y in at if x != y}
    client, speeds = chat.hosts["ue1"].client, dict.fromkeys(at, Speed(10**9))
    client.switch(1, {"cam": [chat.hop("a", 0, 2), chat.hop("b", 2, 5)]}, known=Known(speeds, reaches))

    def move():
        now_us = chat.hosts["ue1"].clock.now_us() if copied else 0
        if copied:
            assert chat.place("c", 2, 5, kv=[("b", 2, 5)]).ok
        route = {"cam": [chat.hop("a", 0, 2), chat.hop("c", 2, 5)]}
        client.switch(2, route, known=Known(speeds, reaches, now_us))

    chat.at_token(6, move)
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right) and session["replays"] == replays and len(chat.right) == TOKENS
    assert [k["phase"] for k in chat.of("kv")] == ([] if replays else ["prepare" if copied else "switch"])
    [told] = chat.of("kv_choice")
    assert (told["choice"], told["epoch"]) == ("prefill" if replays else "copy", 2) and told["replica_us"] is None
    assert (told["prefill_us"] < told["copy_us"]) == bool(replays)
    held = chat.prompt + 5
    assert told["tokens"] == ([held, held] if copied else [0, held])


@pytest.mark.parametrize(
    ("lost", "onto", "poor", "choice"),
    [
        (False, "d", "b", "replica"),
        (False, "c", "d", "copy"),
        (True, "d", "b", "replica"),
        (True, "c", "b", "replica"),
        (True, "c", "d", "prefill"),
    ],
    ids=[
        "a move to who stood by, from a slow holder",
        "a move to another node",
        "who stood by takes over",
        "another takes over what the replica has",
        "the way from the replica is slow",
    ],
)
def test_auto_goes_on_from_a_replica_where_that_is_cheapest(chat_of, monkeypatch, lost, onto, poor, choice):
    """b is to be left, or is lost under a round; d stands by it. The way from `poor` is slow."""
    monkeypatch.setattr(chats, "ASK_S", 30.0)
    chat = chat_of()
    chat.phone(kv="auto")
    for node, first, last in (("a", 0, 2), ("b", 2, 5), ("c", 2, 5), ("d", 2, 5)):
        assert chat.place(node, first, last).ok
    at = {name: host.agent.spec.address for name, host in chat.hosts.items()}
    client, speeds = chat.hosts["ue1"].client, dict.fromkeys(at, Speed(10**9))
    reaches = {(at[x], at[y]): Reach(500_000 if x == poor else 10**9, 100) for x in at for y in at if x != y}
    known, way = Known(speeds, reaches), [chat.hop("a", 0, 2), chat.hop("b", 2, 5)]
    chat.stand_by(way, {"b": "d"}, [("b", Held(address=at["b"], first=2, last=5))])
    client.switch(1, {"cam": way}, known=known)

    def go_over():
        route = {"cam": [chat.hop("a", 0, 2), chat.hop(onto, 2, 5)]}
        client.switch(2, route, lost=["b"] if lost else [], known=known)

    def ready():
        chat.until(lambda: chat.kept("d", 2, 5) >= chat.prompt + 5)
        if not lost:
            go_over()

    chat.at_token(6, ready)
    if lost:
        strike_once(chat, "b", chat.prompt + 5, go_over)
    chat.start()
    [session] = chat.sessions()
    assert session["tokens"] == list(chat.right)
    [told] = chat.of("kv_choice")
    prices = {name: told[f"{name}_us"] for name in ("copy", "replica", "prefill") if told[f"{name}_us"] is not None}
    assert told["choice"] == choice == min(prices, key=prices.__getitem__)
    assert ("copy" in prices) == (not lost) and ("replica" in prices) == (lost or onto == "d")
    assert (session["replays"], session["resumes"]) == (int(choice == "prefill"), int(lost and choice == "replica"))
