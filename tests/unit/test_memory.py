"""What a node holds, counted in bytes, and what it refuses."""

import pytest

from nodes.compute.memory import Memory, MemoryRefused


def test_a_block_is_counted_once():
    memory = Memory("mec", 1_000)
    memory.hold(("vit", 0, 2), {0: 100, 1: 200}, 50)
    memory.hold(("vit", 1, 3), {1: 200, 2: 300}, 40)
    memory.hold(("vit", 1, 3), {1: 200, 2: 300}, 40)
    assert memory.used_bytes == 100 + 200 + 300 + 50
    memory.drop(("vit", 0, 2))
    assert memory.used_bytes == 200 + 300 + 40
    memory.drop(("vit", 0, 2))
    memory.drop(("vit", 1, 3))
    assert memory.used_bytes == 0


def test_a_refusal_names_node_need_and_free():
    memory = Memory("edge1", 1_000)
    memory.hold(("vit", 0, 1), {0: 900}, 0)
    with pytest.raises(MemoryRefused, match=r"edge1: vit\[1:2\] needs 150 bytes, 100 are free"):
        memory.hold(("vit", 1, 2), {1: 120}, 30)
    memory.take("request 1", 100)
    with pytest.raises(MemoryRefused, match="request 2 needs 1 bytes, 0 are free"):
        memory.take("request 2", 1)
    memory.give(100)
    assert memory.used_bytes == 900


def test_a_session_holds_what_it_said_last():
    memory = Memory("edge1", 1_000)
    memory.keep("chat", 300)
    memory.keep("chat", 400)
    memory.keep("other", 100)
    assert (memory.used_bytes, memory.session_bytes) == (500, 500)
    memory.keep("chat", 250)
    assert memory.forget("chat") == 250 and memory.forget("chat") == 0
    assert memory.used_bytes == 100
    memory.clear()
    assert memory.used_bytes == memory.session_bytes == 0


def test_a_session_that_grows_out_of_memory_is_refused_by_name_and_keeps_what_it_had():
    memory = Memory("edge1", 1_000)
    memory.hold(("gpt", 0, 1), {0: 600}, 100)
    memory.keep(("chat.ue1", 7), 250)
    with pytest.raises(MemoryRefused, match=r"edge1: what session \('chat.ue1', 7\) keeps needs 60 bytes, 50 are free"):
        memory.keep(("chat.ue1", 7), 310)
    assert memory.used_bytes == 950
    with pytest.raises(MemoryRefused, match="a picture needs 51 bytes, 50 are free"):
        memory.take("a picture", 51)
    memory.keep(("chat.ue1", 7), 300)  # to the last byte


def test_a_smaller_session_is_never_refused():
    memory = Memory("edge1", 100)
    memory.keep("a", 100)
    memory.limit_bytes = 50  # the node has less than it thought
    memory.keep("a", 80)
    assert memory.used_bytes == 80
