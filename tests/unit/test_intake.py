"""The way of a tensor to its turn: the same for slices and for parts of layers."""

import threading
from types import SimpleNamespace

import pytest

from nodes.compute.memory import Memory, MemoryRefused
from nodes.hopfailure import HopFailed
from nodes.intake import Intake, Task
from nodes.pieces import Piece
from nodes.proto.data_pb2 import Header, Held
from nodes.session.sessions import CacheLost
from nodes.slices import BadTensor, Work
from nodes.wire.codec import Tensor

SLICE, HEADS, PROJ = Piece("m", 1, 3), Piece("m", 1, 2, "heads:0,2"), Piece("m", 1, 2, "proj")
X = Tensor("float32", (1, 1, 2), bytes(8))
SOURCES = [Held(address="b", first=1, last=3)]


class Sessions:
    """Says what it was asked; `lacks` has to be pulled, `wrong` is raised."""

    def __init__(self, lacks=(), admits=None, pulls=None):
        self.lacks, self.admits, self.pulls, self.asked = lacks, admits, pulls, []

    def admit(self, header, first, last, sources, heads=None):
        self.asked.append(("admit", first, last, len(sources), heads))
        if self.admits:
            raise self.admits
        return self.lacks

    def pull(self, pulls, deadline_s, phase):
        self.asked.append(("pull", deadline_s, phase))
        if self.pulls:
            raise self.pulls

    def run(self, header, first, last, compute, heads=None):
        self.asked.append(("run", first, last, heads))
        return compute("caches")


class World:
    """An intake whose device keeps its jobs for the test to run."""

    def __init__(self, sessions=None):
        self.clock = self
        self.device = SimpleNamespace(submit=self._submit)
        self.jobs, self.failed, self.records, self.ended, self.given = [], [], [], [], []
        self.now, self.submitted = 1000, threading.Event()
        self.memory, self.shelf, self.sessions = Memory("a", 100), SimpleNamespace(life=0), sessions or Sessions()
        lock = threading.Lock()
        record = lambda kind, t_us, **fields: self.records.append((kind, t_us, fields))  # noqa: E731
        self.intake = Intake("a", self, lock, self.memory, self.shelf, self.sessions, record, {"m": 4})

    def now_us(self):
        return self.now

    def fail(self, header, code, why):
        self.failed.append(code)
        self.submitted.set()

    def _submit(self, job):
        self.jobs.append(job)
        self.submitted.set()

    def put(self, piece=SLICE, session="s", wrong=None, flops=5):
        def run(kept):
            self.given.append(kept)
            if wrong:
                raise wrong
            return X

        header = Header(request_id=7, model="m", session=session, deadline_us=5000)
        charged = self.intake.take("x", X, self.shelf.life)
        done = lambda start, end, output: self.ended.append((start, end, output))  # noqa: E731
        self.intake.put(Task(header, piece, (Work(flops),), 900, charged, self.shelf.life, run, done), SOURCES)
        assert self.submitted.wait(60)

    def turn(self, late_us=0):
        job = self.jobs.pop()
        job.done(1100, 1200, late_us, job.run())
        return self.ended.pop()[2]


def test_what_lacks_nothing_queues_from_its_arrival_though_its_route_names_holders():
    world = World()
    world.put()
    assert [job.arrival_us for job in world.jobs] == [900]
    assert world.sessions.asked == [("admit", 1, 3, 1, None)]
    assert (world.jobs[0].alike, world.jobs[0].batch) == (SLICE, 4)


def test_what_has_pulled_queues_from_then_on():
    world = World(Sessions(lacks=["rows"]))
    world.put(HEADS)
    assert [job.arrival_us for job in world.jobs] == [1000]
    assert world.sessions.asked == [("admit", 1, 2, 1, (0, 2)), ("pull", 0.004, "switch")]


@pytest.mark.parametrize(
    ("piece", "session", "kept"), [(SLICE, "s", "caches"), (HEADS, "s", "caches"), (SLICE, "", None), (PROJ, "s", None)]
)
def test_only_what_keeps_something_is_given_the_caches(piece, session, kept):
    world = World()
    world.put(piece, session)
    assert world.turn() == X and world.given == [kept] and world.memory.used_bytes == 0
    assert bool(world.sessions.asked) == (kept is not None)


@pytest.mark.parametrize(("wrong", "code"), [(BadTensor("no"), "BAD_TENSOR"), (CacheLost("gone"), "CACHE_LOST")])
def test_what_goes_wrong_in_its_turn_has_a_name(wrong, code):
    world = World()
    world.put(wrong=wrong)
    output = world.turn()
    assert isinstance(output, HopFailed) and output.code == code and world.memory.used_bytes == 0


def test_what_was_given_up_is_not_begun():
    world = World()
    world.put()
    world.now = 5001
    assert world.turn().code == "DEADLINE" and world.given == []


@pytest.mark.parametrize(
    ("wrong", "code"), [(CacheLost("gone"), "CACHE_LOST"), (MemoryRefused("a", "x", 2, 1), "OUT_OF_MEMORY")]
)
def test_what_is_not_admitted_gives_its_memory_back(wrong, code):
    world = World(Sessions(admits=wrong))
    with pytest.raises(HopFailed) as failed:
        world.put()
    assert failed.value.code == code and world.memory.used_bytes == 0 and not world.jobs


def test_what_cannot_be_pulled_is_told_and_gives_its_memory_back():
    world = World(Sessions(lacks=["rows"], pulls=CacheLost("gone")))
    world.put()
    assert world.failed == ["CACHE_LOST"] and world.memory.used_bytes == 0 and not world.jobs


def test_a_node_that_went_down_meanwhile_owes_nothing():
    world = World()
    world.put()
    world.shelf.life, _ = 1, world.memory.clear()
    world.turn()
    assert world.memory.used_bytes == 0


def test_an_overrun_is_told_of_what_the_model_counts_and_of_nothing_else():
    world = World()
    world.put()
    world.turn(late_us=3)
    assert world.records == [("overrun", 1200, {"node": "a", "request": 7, "late_us": 3})]
    world.put(flops=0)
    world.turn(late_us=3)
    assert len(world.records) == 1


def test_what_does_not_fit_is_refused_by_name():
    world = World()
    with pytest.raises(HopFailed, match="a: x needs 800 bytes, 100 are free") as failed:
        world.intake.take("x", Tensor("float32", (200,), bytes(800)), 0)
    assert failed.value.code == "OUT_OF_MEMORY"
