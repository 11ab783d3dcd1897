"""The answers that a phone keeps: by what was asked, the longest unasked gives way, and each use is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.phone.client import Samples, StreamSpec
from nodes.phone.resultcache import ResultCache, key
from nodes.proto.agent_pb2_grpc import PhoneStub
from nodes.wire.codec import Tensor, same
from testbed.summary import summarise
from tests.unit.hosts import INPUTS, answers
from tests.unit.journal_factory import a_run

APART_US = 100_000_000  # each is answered before the next, however slow the machine is


def answer(value):
    return Tensor("uint8", (1,), bytes([value]))


def test_the_same_bits_are_the_same_question_and_nothing_else_is():
    asked = Tensor("float32", (2, 1), bytes(8))
    assert key(asked) == key(Tensor("float32", (2, 1), memoryview(bytearray(8))))
    others = [
        Tensor("float32", (1, 2), bytes(8)),
        Tensor("int64", (2, 1), bytes(8)),
        Tensor("float32", (2, 1), b"1" * 8),
    ]
    assert len({key(other) for other in [asked, *others]}) == 4


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 6), max_size=40))
def test_it_holds_the_last_that_were_asked_for(entries, asked):
    cache, order = ResultCache(entries), []
    for one in asked:
        found = cache.get(bytes([one]))
        assert (found is not None) == (one in order)
        assert found is None or found.data == bytes([one])
        if found is None:
            cache.put(bytes([one]), answer(one))
        order = [*(other for other in order if other != one), one][-entries:]
    assert len(cache) == len(order)


def test_what_is_kept_does_not_change_with_the_buffer_it_came_in():
    cache, buffer = ResultCache(1), bytearray(b"\x07")
    cache.put(b"", Tensor("uint8", (1,), memoryview(buffer)))
    buffer[0] = 9
    assert cache.get(b"").data == b"\x07"


def test_a_cache_of_nothing_is_refused():
    with pytest.raises(ValueError, match="1 at least"):
        ResultCache(0)


def phone(world, requests, entries, right):
    stream = StreamSpec("cam", "fake", tuple(APART_US * k for k in range(requests)), APART_US * requests)
    world.add("ue1", streams=(stream,), samples={"fake": Samples(INPUTS, right, keeps=entries)})
    world.phone_stub = PhoneStub(world.channel)
    world.add("mec")
    assert world.prepare("mec", 0, 6).ok
    world.route(world.hop("mec", 0, 6))
    world.start()
    world.one_by_one(requests, APART_US)
    return world.requests(requests)


def test_what_was_answered_before_is_answered_at_once_and_compared(world):
    records = phone(world, 7, 3, answers())
    assert [r["cached"] for r in records] == [False] * 3 + [True] * 4
    assert all(r["outcome"] == "ok" and r["checked"] and r["equal"] and not r["duplicates"] for r in records)
    assert all(bool(r["spans"]) != r["cached"] for r in records)
    assert len(world.hosts["ue1"].client.status()[1]) == 3  # hits tell nothing of the placement


def test_what_gave_way_is_asked_for_again(world):
    assert [r["cached"] for r in phone(world, 6, 2, answers())] == [False] * 6  # three inputs in turn, room for two


def test_a_kept_answer_that_is_wrong_is_found_out(world):
    right = answers()
    wrong = Tensor("float32", right[1].shape, b"\x01" + bytes(right[1].data[1:]))
    assert not same(wrong, right[1])
    records = phone(world, 6, 3, {**right, 1: wrong})
    assert [r["equal"] for r in records] == [True, False, True] * 2


def test_without_a_cache_nothing_is_said_of_one(world):
    assert all("cached" not in r for r in phone(world, 3, 0, answers()))


def test_the_summary_counts_hits_among_lookups():
    records = a_run()
    assert "cache" not in summarise(records)
    looked = [r for r in records if r["kind"] == "request"][:8]
    for n, request in enumerate(looked):
        request["cached"] = n >= 2
    assert summarise(records)["cache"] == {"hits": 6, "lookups": 8, "ratio": 0.75}
