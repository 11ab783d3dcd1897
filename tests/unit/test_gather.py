"""What waits for a sum: whole once all is there, bounded by the deadline, forgotten with an older life."""

import threading

import pytest

from nodes.compute.memory import Memory, MemoryRefused
from nodes.inlayer.gather import Gather
from nodes.models.shares import PROJ, Heads
from nodes.proto.data_pb2 import Header, Held
from nodes.session.slots import WHOLE, Pull, Slot, needed, plan, slots_of, within
from nodes.wire.codec import Tensor

HEADS = [Heads((0,)), Heads((1, 2))]


class Alarms:
    """A timer that a test lets ring."""

    def __init__(self):
        self.set = []

    def at(self, t_us, call):
        self.set.append((t_us, call))
        return self

    def cancel(self):
        pass


@pytest.fixture
def made():
    memory, timer = Memory("mec", 100), Alarms()
    return Gather(threading.Lock(), memory, timer), memory, timer


def header(part="", request=7, life=0, session="s"):
    return Header(request_id=request, step=2, part=part, session=session, life=life, deadline_us=500)


def tensor(size):
    return Tensor("uint8", (size,), bytes(size))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_it_is_whole_when_x_and_every_share_are_there_in_any_order(made, order):
    gather, memory, _ = made
    puts = [
        lambda: gather.put(PROJ, header(), tensor(10), HEADS),
        lambda: gather.put(PROJ, header("heads:0"), tensor(20)),
        lambda: gather.put(PROJ, header("heads:1,2"), tensor(30)),
    ]
    *before, last = [puts[i]() for i in order]
    assert before == [None, None] and last.x == tensor(10) and last.size_bytes == memory.used_bytes == 60
    assert last.arrived == {"heads:0": tensor(20), "heads:1,2": tensor(30)} and len(gather) == 0


def test_what_is_whole_says_in_which_life_of_the_node_it_is_charged(made):
    gather, _, _ = made
    assert gather.put(PROJ, header(), tensor(1), []).life == 0
    gather.put(PROJ, header(), tensor(1), HEADS)
    gather.clear()
    assert len(gather) == 0 and gather.put(PROJ, header(), tensor(1), []).life == 1


def test_requests_do_not_mix(made):
    gather, _, _ = made
    gather.put(PROJ, header(), tensor(1), HEADS)
    gather.put(PROJ, header("heads:0"), tensor(1))
    assert gather.put(PROJ, header("heads:1,2", request=8), tensor(1)) is None and len(gather) == 2


def test_what_does_not_fit_is_refused(made):
    gather, memory, _ = made
    gather.put(PROJ, header("heads:0"), tensor(90))
    with pytest.raises(MemoryRefused, match="what waits for proj of request 7 needs 20 bytes, 10 are free"):
        gather.put(PROJ, header("heads:1,2"), tensor(20))
    assert memory.used_bytes == 90


def test_what_is_not_whole_at_the_deadline_is_forgotten(made):
    gather, memory, timer = made
    gather.put(PROJ, header("heads:0"), tensor(20))
    gather.put(PROJ, header(), tensor(20), HEADS)
    [(t_us, ring)] = timer.set
    ring()
    assert (t_us, len(gather), memory.used_bytes) == (500, 0, 0)
    ring()
    assert memory.used_bytes == 0


def test_a_new_life_of_a_session_drops_what_waits_for_the_older(made):
    gather, memory, _ = made
    gather.put(PROJ, header("heads:0"), tensor(20))
    gather.put(PROJ, header("heads:0", request=8, session="other"), tensor(5))
    gather.put(PROJ, header("heads:0", request=9, life=1), tensor(30))
    assert len(gather) == 2 and memory.used_bytes == 35


def held(address, first, last, *heads):
    return Held(address=address, first=first, last=last, heads=heads)


COUNTS = [0, 3, 3, 3, 0]


def test_a_whole_block_is_asked_for_as_one():
    wanted = {slot: 4 for block in (1, 2, 3) for slot in slots_of(block, 3)}
    assert plan(wanted, [held("a", 0, 5)], COUNTS) == ([Pull("a", 1, 4, 4)], [])


def test_heads_are_asked_for_from_those_who_have_them():
    wanted = {slot: 0 for block in (1, 2) for slot in slots_of(block, 3)}
    sources = [held("a", 1, 3, 0, 2), held("b", 1, 2, 1), held("c", 2, 3)]
    pulls, missing = plan(wanted, sources, COUNTS)
    assert pulls == [Pull("a", 1, 3, 0, (0, 2)), Pull("b", 1, 2, 0, (1,)), Pull("c", 2, 3, 0, (1,))]
    assert missing == []


def test_heads_that_have_come_further_are_asked_for_apart_and_what_nobody_has_is_told():
    wanted = {Slot(1, 0): 5, Slot(1, 1): 7, Slot(2, 0): 5, Slot(4, WHOLE): 0}
    pulls, missing = plan(wanted, [held("a", 1, 3)], COUNTS)
    assert pulls == [Pull("a", 1, 3, 5, (0,)), Pull("a", 1, 2, 7, (1,))] and missing == [Slot(4)]


def test_of_what_others_hold_only_what_is_needed_is_taken():
    assert within(held("a", 0, 5), 2, 9) == held("a", 2, 5)
    assert within(held("a", 0, 5), 2, 3, (0, 1)) == held("a", 2, 3, 0, 1)
    assert within(held("a", 2, 3, 1, 2), 0, 5) == held("a", 2, 3, 1, 2)
    assert within(held("a", 2, 3, 1, 2), 2, 3, (0, 1)) == held("a", 2, 3, 1)
    assert within(held("a", 2, 3, 1, 2), 2, 3, (0,)) is None and within(held("a", 0, 2), 2, 3) is None


def test_what_is_needed_of_a_block_is_that_of_all_its_pieces():
    assert needed([(1, 2, (0,)), (1, 2, (2,)), (2, 4, None), (2, 3, (1,)), (5, 6, ())]) == {
        **{1: frozenset({0, 2}), 2: None, 3: None},
        5: frozenset(),
    }
