"""Copy or compute again: what the ways, the speeds and the length of the text say."""

import contextlib

import pytest

from nodes.costing.costs import costs
from nodes.costing.kvcost import Reach, Stop, Transfer, copy_us, prefill_us
from nodes.phone.chats import Known
from nodes.slices import rows_bytes, step_work
from tests.unit.chatting import Chat

CHAT = costs("smollm2")
LAYER = CHAT[1]
ROUTE = (Stop("edge", 0, 12), Stop("mec", 12, 32))
WAYS = {("ue", "edge"): Reach(40_000_000, 8_000), ("edge", "mec"): Reach(1_000_000_000, 2_000)}
SPEEDS = {"edge": 640 * 10**9, "mec": 4 * 10**12}


def test_copying_takes_as_long_as_the_slowest_of_the_transfers():
    near, far = Transfer("edge", "mec", 1, 11), Transfer("ue", "edge", 11, 13)
    size = 10 * rows_bytes(LAYER, 0, 500)
    assert size == 10 * 500 * 2 * 3 * 64 * 4
    assert copy_us(CHAT, 500, [near], WAYS) == pytest.approx(size * 8e6 / 1e9 + 4 * 2_000)
    assert copy_us(CHAT, 500, [far], WAYS) == pytest.approx(size / 5 * 8e6 / 40e6 + 4 * 8_000)
    assert copy_us(CHAT, 500, [near, far], WAYS) == copy_us(CHAT, 500, [far], WAYS)
    assert copy_us(CHAT, 500, [], WAYS) == 0


def test_computing_again_takes_all_slices_and_the_ways_between():
    work = [sum(w.flops for w in step_work(CHAT, stop.first, stop.last, 0, 500)) for stop in ROUTE]
    moved = 500 * 8 * 8e6 / 40e6 + 8_000 + 500 * 576 * 4 * 8e6 / 1e9 + 2_000
    expected = work[0] * 1e6 / SPEEDS["edge"] + work[1] * 1e6 / SPEEDS["mec"] + moved
    assert prefill_us(CHAT, 500, "ue", ROUTE, SPEEDS, WAYS) == pytest.approx(expected)


def test_what_is_not_known_is_not_chosen():
    assert copy_us(CHAT, 10, [Transfer("mec", "edge", 1, 2)], WAYS) == float("inf")
    assert prefill_us(CHAT, 10, "ue", ROUTE, {"edge": 1}, WAYS) == float("inf")
    assert prefill_us(CHAT, 10, "edge", ROUTE[::-1], SPEEDS, WAYS) == float("inf")


def test_a_slow_way_makes_computing_cheaper_and_a_slow_processor_copying():
    def choice(rate_bps, flops_per_s):
        ways = {**WAYS, ("edge", "mec"): Reach(rate_bps, 2_000)}
        again = prefill_us(CHAT, 500, "ue", ROUTE, {"edge": flops_per_s, "mec": flops_per_s}, WAYS)
        return "prefill" if again < copy_us(CHAT, 500, [Transfer("edge", "mec", 12, 31)], ways) else "copy"

    assert choice(10_000_000, 10**12) == "prefill"
    assert choice(1_000_000_000, 10**12) == "copy"
    assert choice(10_000_000, 10**10) == "copy"


@pytest.mark.parametrize(("rate_bps", "replays"), [(10**9, 0), (100_000, 1)])
def test_a_session_does_what_is_cheaper(tmp_path, rate_bps, replays):
    with contextlib.ExitStack() as stack:
        chat = Chat(tmp_path, stack, "llama_tiny", tmp_path)
        chat.phone(kv="auto")
        for node, first, last in (("a", 0, 2), ("b", 2, 5), ("c", 2, 5)):
            assert chat.place(node, first, last).ok
        at = {name: host.agent.spec.address for name, host in chat.hosts.items()}
        reaches = {(at[x], at[y]): Reach(rate_bps if x == "b" else 10**9, 100) for x in at for y in at if x != y}
        client, known = chat.hosts["ue1"].client, Known(dict.fromkeys(at, 10**9), reaches)
        client.switch(1, {"cam": [chat.hop("a", 0, 2), chat.hop("b", 2, 5)]}, known=known)
        chat.at_token(6, lambda: client.switch(2, {"cam": [chat.hop("a", 0, 2), chat.hop("c", 2, 5)]}, known=known))
        chat.start()
        [session] = chat.sessions()
        assert session["tokens"] == list(chat.right) and session["replays"] == replays
        assert len(chat.of("kv")) == 1 - replays
