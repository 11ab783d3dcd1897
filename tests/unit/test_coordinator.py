"""The loop over an in-memory world: what it records, and that no failure leaves a stream unserved."""

import dataclasses
import json
import os

import numpy as np
import pytest

from controller.coordinator import Coordinator, NoPlacement
from controller.ledger import Ledger
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Slice, Snapshot, Stream
from controller.policies.joint import Joint
from controller.policies.static import Static
from controller.ports import Prepared, PrepareFailed, ReleaseFailed

SECOND = 1_000_000
PROBLEM = Problem(
    hosts=(
        Host("ue", "home", 10**9, 10**9),
        Host("edge", "site", 100 * 10**9, 10**9),
        Host("mec", "site", 50 * 10**9, 10**9),
    ),
    models={"m": Model("m", tuple(Block(str(i), 10**9, 10_000_000, 100_000) for i in range(4)), 100_000)},
    streams=(Stream("s", "m", "ue", 400_000), Stream("t", "m", "ue", 400_000)),
    sla=Sla(95, 120_000, 5_000_000),
    weights="transfer",
)
ON_EDGE, ON_MEC = {"s": ("edge",) * 4, "t": ("edge",) * 4}, {"s": ("mec",) * 4, "t": ("mec",) * 4}
WHOLE_EDGE, WHOLE_MEC = Slice("edge", "m", 0, 4), Slice("mec", "m", 0, 4)


class Crash(Exception):
    """The controller dies here."""


class World:
    """Clock, telemetry, agents, phones and journal in one; `fail_at` counts the commands."""

    def __init__(self):
        self.now, self.loaded, self.routes, self.epoch = 0, set(), {}, 0
        self.records, self.commands, self.sources = [], 0, []
        self.crash_at = self.in_flight_until = 0
        self.refuse, self.release_fails = False, False
        self.load_ppm, self.down = 0, set()
        self.zones = None

    def now_us(self):
        return self.now

    def sleep_until(self, t_us):
        assert t_us > self.now, "a sleep that does not sleep"
        self.now = t_us

    def snapshot(self, now_us):
        nodes = tuple(
            NodeState(host.name not in self.down, self.load_ppm if host.name == "edge" else 0, 0)
            for host in PROBLEM.hosts
        )
        delay = np.array([[0, 2000, 4000], [2000, 0, 2000], [4000, 2000, 0]])
        return Snapshot(now_us, nodes, delay, np.full((3, 3), 10**9), {"s": 100_000, "t": 100_000}, self.zones)

    def command(self):
        self.commands += 1
        if self.commands == self.crash_at:
            raise Crash

    def prepare(self, piece, source):
        self.command()
        if self.refuse or piece.node in self.down:
            raise PrepareFailed("out of memory")
        self.loaded.add(piece)
        self.sources.append(source)
        self.command()
        return Prepared(0 if source is None else 40_000_000, "digest")

    def release(self, piece):
        self.command()
        if self.release_fails or piece.node in self.down:
            raise ReleaseFailed("no answer")
        self.loaded.discard(piece)

    def switch(self, epoch, routes):
        self.command()
        self.epoch, self.routes = epoch, routes
        self.command()

    def in_flight(self, before_epoch):
        return 3 if before_epoch > 1 and self.now < self.in_flight_until else 0

    def record(self, kind, t_us, **fields):
        assert t_us == self.now or kind == "decision"
        json.dumps(fields)  # a journal record is JSON
        self.records.append({"kind": kind, "t_us": t_us, **fields})

    def of(self, kind):
        return [record for record in self.records if record["kind"] == kind]

    def unserved(self):
        """Streams whose route uses what is not loaded."""
        return [s for s, route in self.routes.items() if not all(p in self.loaded for p in route)]


@pytest.fixture
def world():
    return World()


def coordinator(world, path, policy=Joint, **options):
    ticks = iter(range(0, 10**9, 700))
    return Coordinator(
        PROBLEM,
        policy(PROBLEM, {}),
        world,
        world,
        world,
        world,
        Ledger(path / "ledger"),
        world.record,
        lambda: next(ticks),
        SECOND,
        **options,
    )


def phases(world, number):
    return [r["phase"] for r in world.of("move") if r["move"] == number]


def test_begins_with_epoch_one(world, tmp_path):
    loop = coordinator(world, tmp_path)
    loop.begin(0)
    assert (world.epoch, loop.current.nodes, world.loaded) == (1, ON_EDGE, {WHOLE_EDGE})
    assert world.sources == [None]
    assert phases(world, 1) == ["prepare", "commit", "switch", "drain", "done"]
    (decision,) = world.of("decision")
    assert (decision["n"], decision["epoch"], decision["duration_us"]) == (1, 1, 700)
    assert decision["candidates"][0]["nodes"] == {"s": ["edge"] * 4, "t": ["edge"] * 4}
    assert decision["triggers"][0]["kind"] == "start" and decision["gap"] >= 0


def test_moves_when_the_load_rises(world, tmp_path):
    loop = coordinator(world, tmp_path)
    loop.begin(0)
    loop.run(10 * SECOND)
    assert len(world.of("decision")) == 1  # nothing changed: nothing recorded
    world.load_ppm = 800_000
    loop.run(20 * SECOND)
    assert loop.current.nodes == ON_MEC and world.epoch == 2
    assert world.loaded == {WHOLE_MEC} and world.sources[-1] == "edge"
    assert world.now == 20 * SECOND
    moved = world.of("decision")[-1]
    assert moved["action"] == "REMAP" and moved["triggers"][0]["kind"] == "load"
    assert sum(r["bytes"] for r in world.of("move")) == 40_000_000
    assert [r["slice"] for r in world.of("move") if r["phase"] == "release" and r["slice"]] == [
        dataclasses.asdict(WHOLE_EDGE)
    ]


def test_static_records_that_it_keeps(world, tmp_path):
    loop = coordinator(world, tmp_path, Static)
    loop.begin(0)
    loop.run(10 * SECOND)
    world.load_ppm = 800_000
    loop.run(20 * SECOND)
    assert [d["action"] for d in world.of("decision")] == ["RESPLIT", "KEEP"]
    assert loop.current.nodes == ON_EDGE


def begun(world, tmp_path, **options):
    loop = coordinator(world, tmp_path, **options)
    loop.begin(0)
    loop.run(10 * SECOND)
    world.load_ppm = 800_000
    return loop


def test_a_refused_slice_aborts_and_the_old_epoch_serves(world, tmp_path):
    loop = begun(world, tmp_path)
    world.refuse = True
    loop.run(14 * SECOND)
    assert (world.epoch, loop.current.nodes, world.loaded) == (1, ON_EDGE, {WHOLE_EDGE})
    assert phases(world, 2)[-1] == "abort" and "mec: out of memory" in world.of("move")[-1]["why"]
    world.refuse = False
    loop.run(30 * SECOND)
    assert (world.epoch, loop.current.nodes) == (2, ON_MEC)  # the epoch of the aborted move was not used


def test_old_slices_stay_until_the_last_request_ended(world, tmp_path):
    loop = begun(world, tmp_path)
    world.in_flight_until = 17 * SECOND
    loop.run(16 * SECOND + 500_000)
    assert world.epoch == 2 and world.loaded == {WHOLE_EDGE, WHOLE_MEC}
    loop.run(20 * SECOND)
    assert world.loaded == {WHOLE_MEC}
    assert "3 requests" in next(r["why"] for r in world.of("move") if r["phase"] == "drain" and r["move"] == 2)
    assert phases(world, 2)[-1] == "done"


def test_drain_is_polled_and_short_when_requests_end(world, tmp_path):
    loop = begun(world, tmp_path)
    while world.epoch == 1:
        world.in_flight_until = world.now + SECOND + 120_000
        loop.run(world.now + SECOND + 1)
    assert phases(world, 2) == ["prepare", "commit", "switch", "drain", "release", "done"]


def test_moves_off_a_dead_node_that_cannot_release(world, tmp_path):
    loop = coordinator(world, tmp_path)
    loop.begin(0)
    world.down = {"edge"}  # before the first step
    loop.run(3 * SECOND)
    assert loop.current.nodes == ON_MEC and not world.unserved()
    assert world.of("decision")[-1]["triggers"][0]["kind"] == "node_down"
    assert any(r["why"] == "edge: no answer" for r in world.of("move"))
    assert phases(world, 2)[-1] == "done"


def test_when_nothing_can_begin(world, tmp_path):
    world.refuse = True
    with pytest.raises(NoPlacement, match="out of memory"):
        coordinator(world, tmp_path).begin(0)
    world.down = {"ue", "edge", "mec"}
    with pytest.raises(NoPlacement, match="s, t"):
        coordinator(world, tmp_path).begin(0)


def commands_of_a_move(tmp_path):
    world = World()
    loop = begun(world, tmp_path)
    before = world.commands
    loop.run(20 * SECOND)
    return before, world.commands


@pytest.mark.parametrize("offset", range(1, 6))
def test_a_crash_at_any_command_leaves_every_stream_served(world, tmp_path, offset):
    (tmp_path / "dry").mkdir()
    before, after = commands_of_a_move(tmp_path / "dry")
    assert after - before == 5  # two in prepare, two in switch, one release: all are tried
    loop = begun(world, tmp_path)
    world.crash_at = before + offset
    with pytest.raises(Crash):
        loop.run(20 * SECOND)
    assert not world.unserved() and world.routes
    committed = Ledger(tmp_path / "ledger").recover()
    again = coordinator(world, tmp_path)
    again.begin(world.now)
    assert again.current == committed and not world.unserved()
    assert world.epoch == committed.epoch
    again.run(40 * SECOND)
    assert not world.unserved() and again.current.nodes == ON_MEC
    assert world.loaded == {WHOLE_MEC}


def test_a_ledger_that_cannot_be_written_aborts(world, tmp_path, monkeypatch):
    loop = begun(world, tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    loop.run(14 * SECOND)
    assert (world.epoch, loop.current.nodes, world.loaded) == (1, ON_EDGE, {WHOLE_EDGE})
    assert phases(world, 2)[-1] == "abort" and "No space left" in world.of("move")[-1]["why"]


def test_progress_is_text(world, tmp_path):
    seen = []
    loop = coordinator(world, tmp_path, on_live=seen.append)
    loop.begin(0)
    loop.run(3 * SECOND)
    assert len(seen) == 3
    assert seen[-1]["placement"] == "s: edge[0-3]; t: edge[0-3]"
    assert seen[-1]["decision"].startswith("RESPLIT: start")


TIGHT = {"raw": frozenset({"home"}), "feature": frozenset({"home"})}
PHONE = Slice("ue", "m", 0, 4)


def test_stricter_privacy_moves_the_blocks_at_once(world, tmp_path):
    loop = coordinator(world, tmp_path)
    loop.begin(0)
    loop.run(10 * SECOND)
    world.zones = TIGHT
    loop.run(11 * SECOND + 1)
    assert loop.current.nodes == {"s": ("ue",) * 4, "t": ("ue",) * 4} and world.loaded == {PHONE}
    moved = world.of("decision")[-1]
    assert {t["kind"] for t in moved["triggers"]} == {"privacy"} and "s, t may not stay" in moved["reason"]


def test_what_cannot_be_moved_is_no_longer_served_until_it_may_be(world, tmp_path):
    loop = coordinator(world, tmp_path, Static)
    loop.begin(0)
    world.zones = TIGHT
    loop.run(3 * SECOND)
    assert loop.current.nodes == ON_EDGE and world.routes == {"s": (), "t": ()}
    told = world.of("decision")[1:]
    assert len(told) == 1 and told[0]["action"] == "KEEP"
    assert told[0]["reason"].endswith("not served, privacy forbids where it is: s, t")
    world.zones = {}
    loop.run(5 * SECOND)
    assert world.routes == {"s": (WHOLE_EDGE,), "t": (WHOLE_EDGE,)} and world.epoch == 1


def test_privacy_that_nothing_can_keep_stops_the_service_by_name(world, tmp_path):
    loop = coordinator(world, tmp_path)
    loop.begin(0)
    world.zones = {"feature": frozenset()}
    loop.run(4 * SECOND)
    assert world.routes == {"s": (), "t": ()}
    last = world.of("decision")[-1]
    assert last["action"] == "INFEASIBLE" and "not served, privacy forbids where it is: s, t" in last["reason"]
