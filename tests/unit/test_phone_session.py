"""The phone's side of a generation, without a network: which round is next, and who is asked for what."""

from nodes.phone.generation import Generate, Session, sources
from nodes.proto.data_pb2 import Hop


def hop(node, first, last, part=""):
    return Hop(node=node, address=f"{node}:1", first=first, last=last, part=part)


ROUTE = [hop("a", 0, 3), hop("b", 3, 6)]
NEW = [hop("a", 0, 2), hop("c", 2, 6)]


def session(tokens=4, **more):
    return Session("cam/0", Generate(tokens, 10_000_000, **more), 7)


def played(one, route, *tokens, epoch=1):
    for token in tokens:
        assert one.took(one.next(route, epoch), token)


def test_the_input_goes_once_and_then_the_last_token_alone():
    one = session()
    first = one.next(ROUTE, 1)
    assert (first.position, first.given, first.count, first.ordinal, first.replay) == (0, (), 7, 0, False)
    played(one, ROUTE, 11, 12)
    third = one.next(ROUTE, 1)
    assert (third.position, third.given, third.count, third.ordinal) == (8, (12,), 1, 2)
    played(one, ROUTE, 13, 14)
    assert one.finished and one.tokens == [11, 12, 13, 14]


def test_a_new_life_brings_back_what_was_there_and_asks_for_the_next_token():
    one = session()
    played(one, ROUTE, 11, 12, 13)
    one.lost()
    back = one.next(NEW, 2)
    assert (back.life, back.position, back.given, back.ordinal, back.replay) == (1, 0, (), 0, True)
    assert not any(h.kv_sources for h in back.route)
    assert not one.took(back, 11) and one.tokens == [11, 12, 13]
    step = one.next(NEW, 2)
    assert (step.position, step.given, step.count, step.ordinal, step.replay) == (7, (11, 12, 13), 3, 3, True)
    assert one.took(step, 14) and one.finished
    assert one.length == 10


def test_a_life_that_is_lost_while_it_is_brought_back_is_followed_by_another():
    one = session()
    played(one, ROUTE, 11, 12)
    one.lost()
    one.took(one.next(NEW, 2), 11)
    one.lost()
    again = one.next(ROUTE, 3)
    assert (again.life, again.position, again.given, again.replay) == (2, 0, (), True)
    one.took(again, 11)
    assert one.next(ROUTE, 3).given == (11, 12)


def test_hops_are_told_who_held_their_blocks_along_the_way_the_session_went():
    one = session()
    played(one, ROUTE, 11)
    moved = one.next(NEW, 3).route
    told = [[(held.address, held.first, held.last) for held in h.kv_sources] for h in moved]
    assert told == [[], [("a:1", 2, 3), ("b:1", 3, 6)]]
    assert one.moves(NEW) and not one.moves(ROUTE)
    played(one, NEW, 12, epoch=3)
    assert one.epoch == 3 and not any(h.kv_sources for h in one.next(NEW, 3).route)


def test_parts_of_blocks_are_not_taken_for_one_another():
    assert sources([hop("a", 0, 3, "heads:0")], hop("b", 0, 3, "heads:1")) == []
    assert sources([hop("a", 0, 3, "heads:0")], hop("b", 0, 3, "heads:0"))


def test_what_hears_the_input_has_no_part_in_the_next_tokens():
    one = session(enters=3)
    first = one.next(ROUTE, 1)
    assert first.first_step(3) == 0
    one.took(first, 11)
    assert one.next(ROUTE, 1).first_step(3) == 1


def test_the_end_comes_with_its_token():
    one = session(end=12)
    played(one, ROUTE, 11)
    assert not one.finished
    played(one, ROUTE, 12)
    assert one.finished
