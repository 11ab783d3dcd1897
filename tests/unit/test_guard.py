"""A policy that fails does not stop the service: the last good placement stays, and the journal says why."""

import dataclasses
import sys

import pytest

from controller.guard import Guard
from controller.ledger import Ledger
from controller.model import Placement
from controller.policies.static import Static
from controller.watch import TimeUp, watched
from tests.unit.test_coordinator import ON_EDGE, PROBLEM, SECOND, Coordinator, World


class Stranger:
    """Moves to `mec` at its first decision in the way `how` says; before that it starts as static does."""

    def __init__(self, how, when="decide"):
        self.how, self.when, self.policy = how, when, Static(PROBLEM, {})

    def start(self, snapshot):
        decision = self.policy.start(snapshot)
        return self.spoiled(decision) if self.when == "start" else decision

    def decide(self, snapshot, current, triggers):
        moved = dataclasses.replace(
            self.policy.start(snapshot),
            action="REMAP",
            placement=Placement(current.epoch + 1, {**ON_EDGE}),
            triggers=(),
        )
        return self.spoiled(moved)

    def spoiled(self, decision):
        if self.how == "raises":
            raise ValueError("lost\nits way")
        if self.how == "leaves":
            sys.exit(1)
        while self.how == "hangs":
            pass
        if self.how == "nothing":
            return None
        nodes = {"s": ("edge",) * 4, "t": ("moon",) * 4} if self.how == "moon" else {"s": 7}
        return dataclasses.replace(decision, placement=Placement(decision.placement.epoch, nodes), candidates=())


WAYS = [
    ("raises", "raised ValueError: lost"),
    ("leaves", "wanted to end the process"),
    ("hangs", "was stopped after its 1 s"),
    ("nothing", "answered NoneType"),
    ("moon", "no node 'moon'"),
    ("rubbish", "stream t is placed nowhere"),
]


def loop(world, path, policy, **options):
    ticks = iter(range(0, 10**12, 700))
    ports = (world, world, world, world, Ledger(path / "ledger"), world.record, lambda: next(ticks), SECOND)
    return Coordinator(PROBLEM, policy, *ports, limit_us=SECOND, **options)


@pytest.mark.parametrize(("how", "said"), WAYS)
def test_the_last_good_placement_stays(tmp_path, how, said):
    world = World()
    running = loop(world, tmp_path, Stranger(how))
    running.begin(0)
    running.run(5 * SECOND)
    assert (world.epoch, running.current.nodes) == (1, ON_EDGE) and not world.unserved()
    first, refused = world.of("decision")  # said once, not in each period
    assert first["refused"] == "" and refused["action"] == "KEEP"
    assert said in refused["refused"] and refused["reason"].endswith("; the last good placement stays")
    world.load_ppm = 800_000
    running.run(10 * SECOND)
    assert world.of("decision")[-1]["triggers"][0]["kind"] == "load"  # a trigger is always recorded


@pytest.mark.parametrize(("how", "said"), WAYS)
def test_a_start_that_fails_is_made_good(tmp_path, how, said):
    world = World()
    running = loop(world, tmp_path, Stranger(how, "start"))
    running.begin(0)
    assert running.current.nodes == ON_EDGE
    (decision,) = world.of("decision")
    assert said in decision["refused"] and "in its place start: the best placement that was found" in decision["reason"]


def test_an_answer_that_comes_too_late_is_not_taken():
    policy, now = Static(PROBLEM, {}), iter([0, 11_000])
    verdict = Guard(PROBLEM, policy, lambda: next(now), 10_000).start(World().snapshot(0))
    assert verdict.refused == "the policy took 0.011 s, its limit is 0.01 s" and verdict.took_us == 11_000
    assert verdict.decision.action == "RESPLIT"


def test_a_good_answer_is_taken_as_it_is():
    policy = Static(PROBLEM, {})
    verdict = Guard(PROBLEM, policy, lambda: 0).start(World().snapshot(0))
    assert verdict.decision == policy.start(World().snapshot(0)) and not verdict.refused


def test_the_watch_stops_what_never_comes_back():
    ticks = iter(range(10**9))
    with pytest.raises(TimeUp), watched(lambda: next(ticks), 5):
        namespace = {"__name__": "stranger"}
        exec(
            "def endless():\n  while True:\n    try:\n      pass\n    except Exception:\n      pass",
            namespace,
        )
        namespace["endless"]()
    assert sys.gettrace() is None
