"""The loop: telemetry in, decision, commands out. It decides nothing itself.

Rules:
  * The world is reached through `ports` only; times are the clock's microseconds since the experiment's time zero.
  * A move is driven through `moves.TRANSITIONS`. Nothing is switched before the ledger holds it; nothing a request may
    still use is released. A drain that takes longer than `drain_limit_us` goes on beside the next periods.
  * What was committed is gone forward with: after a crash `begin` takes the last committed placement up again.
  * A policy that fails is not followed (`guard`); the loop goes on.
  * Where privacy forbids what serves (it may change during a run), the policy is told and must move it at once. What it
    does not move stops being served, by name: its requests get no route until it may be where it is, or is moved.
  * A KEEP is recorded only when something triggered; a refusal, and that nothing is feasible, whenever the words
    change. The bytes of a move stand in its `prepare` records only.

    loop = Coordinator(problem, policy, telemetry, agents, phones, clock, ledger, record, stopwatch, 1_000_000)
    loop.begin(0)
    loop.run(120_000_000)
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller import parts
from controller.detect import Detector, Rule
from controller.explain import recorded
from controller.guard import LIMIT_US, Guard, Verdict
from controller.ledger import Ledger, LedgerError
from controller.model import Decision, Placement, Problem, Slice, Snapshot, Trigger
from controller.moves import Load, Move, advance, plan_move, route, routes, slices
from controller.policies.protocol import Policy
from controller.ports import Agents, Clock, Phones, PrepareFailed, Record, ReleaseFailed, Telemetry
from controller.table import Table
from controller.validity import forbidden_streams

DRAIN_POLL_US = 50_000
DRAIN_LIMIT_US = 2_000_000


class NoPlacement(Exception):
    """The experiment cannot begin: nothing can serve it, or the nodes refused the first placement."""


@dataclass(slots=True)
class _Run:
    """One move on its way."""

    number: int
    epoch: int
    release: tuple[Slice, ...]
    state: str = "prepare"
    loaded: list[Slice] = dataclasses.field(default_factory=list)

    def step(self, event: str) -> None:
        self.state = advance(self.state, event)


class Coordinator:
    """`stopwatch` gives real microseconds; a decision may take `limit_us` of them.

    `on_live` gets a small dict of texts for progress each period.
    """

    def __init__(  # noqa: PLR0917 one argument for each port
        self,
        problem: Problem,
        policy: Policy,
        telemetry: Telemetry,
        agents: Agents,
        phones: Phones,
        clock: Clock,
        ledger: Ledger,
        record: Record,
        stopwatch: Callable[[], int],
        period_us: int,
        on_live: Callable[[dict[str, Any]], None] | None = None,
        rule: Rule | None = None,
        drain_limit_us: int = DRAIN_LIMIT_US,
        phase_us: int = 0,
        limit_us: int = LIMIT_US,
    ) -> None:
        self._problem = problem
        self._guard = Guard(problem, policy, stopwatch, limit_us)
        self._telemetry, self._agents, self._phones = telemetry, agents, phones
        self._clock, self._ledger, self._record = clock, ledger, record
        self._period_us, self._phase_us = period_us, phase_us
        self._on_live, self._drain_limit_us = on_live, drain_limit_us
        self._detector = Detector(problem, rule)
        self._current = Placement(0, {})
        self._draining: list[_Run] = []
        self._stopped: tuple[str, ...] = ()  # streams that are not served because privacy forbids where they are
        self._restarted: tuple[Trigger, ...] = ()
        self._judged: tuple[Table | None, Mapping[str, tuple[str, ...]], tuple[str, ...]] = (None, {}, ())
        self._decisions = self._moves = 0
        self._said = self._reason = ""

    @property
    def current(self) -> Placement:
        """The placement that new requests take."""
        return self._current

    def begin(self, now_us: int) -> None:
        """Places everything for the first time, or takes up what the ledger says; raises NoPlacement."""
        snapshot = self._telemetry.snapshot(now_us)
        self._detector.look(snapshot, {})  # who is up now: what goes down before the first step must be seen
        committed = self._ledger.recover()
        if committed:
            self._take_up(committed, snapshot)
            return
        verdict = self._guard.start(snapshot)
        self._note_decision(verdict, snapshot)
        decision = verdict.decision
        if decision.action == "INFEASIBLE":
            raise NoPlacement(decision.reason)
        why = self._move(decision.placement, snapshot)
        if why:
            raise NoPlacement(f"the first placement could not be prepared: {why}")
        self._live()

    def run(self, until_us: int) -> None:
        """Steps once a period, `phase_us` behind its multiples, and returns at `until_us`."""
        while (now := self._clock.now_us()) < until_us:
            tick = ((now - self._phase_us) // self._period_us + 1) * self._period_us + self._phase_us
            self._clock.sleep_until(min(tick, until_us))
            if tick < until_us:
                self.step(tick)

    def step(self, now_us: int | None = None) -> None:
        """One period: look, decide, move. `now_us`: when it was due, so that being late by chance decides nothing."""
        now = self._clock.now_us() if now_us is None else now_us
        self._release_drained()
        snapshot = self._telemetry.snapshot(now)
        triggers = self._restarted + self._rezoned(snapshot)
        triggers += self._detector.look(snapshot, self._current.nodes)
        self._restarted = ()
        decision = self._decide(snapshot, triggers)
        if decision.action in ("REMAP", "RESPLIT"):
            self._move(decision.placement, snapshot)
        self._stop_what_is_forbidden()
        self._live()

    def _rezoned(self, snapshot: Snapshot) -> tuple[Trigger, ...]:
        """Takes up changed privacy; which streams may not stay."""
        if snapshot.zones is None or dict(snapshot.zones) == dict(self._problem.zones):
            return ()
        self._problem = dataclasses.replace(self._problem, zones=dict(snapshot.zones))
        self._guard.rezone(self._problem)
        forbidden = self._forbidden(self._current.nodes)
        return tuple(Trigger("privacy", stream, 1.0, 0.0) for stream in forbidden)

    def _forbidden(self, nodes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Which streams may not be where `nodes` has them; asked again of the same under the same rules, remembered."""
        asked = self._guard.table, nodes
        if self._judged[0] is not asked[0] or self._judged[1] is not nodes:
            self._judged = *asked, forbidden_streams(*asked)
        return self._judged[2]

    def _stop_what_is_forbidden(self) -> None:
        stopped = self._forbidden(self._current.nodes)
        if stopped != self._stopped:
            self._stopped = stopped
            self._phones.switch(self._current.epoch, self._open(routes(self._problem, self._current.nodes)))

    def _open(self, ways: Mapping[str, tuple[Slice, ...]]) -> dict[str, tuple[Slice, ...]]:
        """The routes, none for streams that are stopped."""
        return {stream: () if stream in self._stopped else way for stream, way in ways.items()}

    def _decide(self, snapshot: Snapshot, triggers: tuple[Trigger, ...]) -> Decision:
        verdict = self._guard.decide(snapshot, self._current, triggers)
        decision = verdict.decision
        moves = decision.action in ("REMAP", "RESPLIT")
        served = decision.placement.nodes if moves else self._current.nodes
        if unserved := self._forbidden(served):
            said = f"{decision.reason}; not served, privacy forbids where it is: {', '.join(unserved)}"
            decision = dataclasses.replace(decision, reason=said)
            verdict = dataclasses.replace(verdict, decision=decision)
        trouble = verdict.refused or decision.action == "INFEASIBLE"
        if triggers or moves or ((trouble or unserved) and decision.reason != self._reason):
            self._note_decision(verdict, snapshot)
        return decision

    def _move(self, placement: Placement, snapshot: Snapshot) -> str:
        """The whole life of a move; says why it was aborted, empty when it was not."""
        move = plan_move(self._problem, self._current.nodes, placement.nodes, snapshot)
        run = self._new_run(self._ledger.last_epoch() + 1, move.release)
        why = self._prepare(run, move.prepare) or self._commit(run, placement)
        if why:
            return why
        self._switch(run, move, placement)
        self._drain(run)
        return ""

    def _new_run(self, epoch: int, release: tuple[Slice, ...]) -> _Run:
        self._moves += 1
        return _Run(self._moves, epoch, release)

    def _prepare(self, run: _Run, loads: tuple[Load, ...]) -> str:
        for load in loads:
            run.loaded.append(load.piece)  # before the answer: a node that refuses may hold part of it
            try:
                prepared = self._agents.prepare(load.piece, load.source)
            except PrepareFailed as failure:
                why = f"{load.piece.node}: {failure.why}"
                self._note(run, piece=load.piece, why=why)
                self._abort(run, why)
                return why
            self._note(run, piece=load.piece, size=prepared.bytes_moved, digest=prepared.digest)
        run.step("loaded")
        return ""

    def _commit(self, run: _Run, placement: Placement) -> str:
        try:
            self._ledger.commit(Placement(run.epoch, placement.nodes), self._clock.now_us())
        except LedgerError as failure:
            self._abort(run, str(failure))
            return str(failure)
        self._note(run)
        run.step("written")
        return ""

    def _abort(self, run: _Run, why: str) -> None:
        run.step("failed")
        for piece in run.loaded:
            self._let_go(run, piece)
        self._note(run, why=why)

    def _switch(self, run: _Run, move: Move, placement: Placement) -> None:
        self._stopped = self._forbidden(placement.nodes)
        self._phones.switch(run.epoch, self._open(move.routes))
        self._note(run)
        self._current = Placement(run.epoch, placement.nodes)
        self._detector.relearn(self._clock.now_us())
        run.step("switched")

    def _drain(self, run: _Run) -> None:
        limit_us = self._clock.now_us() + self._drain_limit_us
        while waiting := self._phones.in_flight(run.epoch):
            if self._clock.now_us() >= limit_us:
                run.step("late")
                self._note(run, why=f"{waiting} requests of earlier epochs go on; their slices stay")
                self._draining.append(run)
                return
            self._clock.sleep_until(min(self._clock.now_us() + DRAIN_POLL_US, limit_us))
        self._release(run)

    def _release_drained(self) -> None:
        for run in [run for run in self._draining if not self._phones.in_flight(run.epoch)]:
            self._draining.remove(run)
            self._release(run)

    def _release(self, run: _Run) -> None:
        self._note(run)
        run.step("empty")
        for piece in run.release:
            self._let_go(run, piece)
        run.step("released")
        self._note(run)

    def _let_go(self, run: _Run, piece: Slice) -> None:
        """Releases a slice unless the serving placement or a drain still needs it; a node may fail to."""
        used = slices(self._problem, self._current.nodes)
        if piece in used or any(piece in other.release for other in self._draining):
            return
        try:
            self._agents.release(piece)
        except ReleaseFailed as failure:
            self._note(run, piece=piece, why=f"{piece.node}: {failure.why}")
            return
        self._note(run, piece=piece)

    def _take_up(self, committed: Placement, snapshot: Snapshot) -> None:
        """After a crash: the committed epoch is loaded and switched to again, the one before it released."""
        history = self._ledger.history()
        before = history[-2].nodes if len(history) > 1 else {}
        release = plan_move(self._problem, before, committed.nodes, snapshot).release
        move = plan_move(self._problem, {}, committed.nodes, snapshot)
        run = self._new_run(committed.epoch, release)
        for load in move.prepare:
            try:
                prepared = self._agents.prepare(load.piece, load.source)
            except PrepareFailed as failure:  # there is no way back; the next decision moves off this node
                self._note(run, piece=load.piece, why=f"{load.piece.node}: {failure.why}")
                continue
            self._note(run, piece=load.piece, size=prepared.bytes_moved, digest=prepared.digest)
        run.step("loaded")
        self._note(run, why="committed before a restart")
        run.step("written")
        self._switch(run, move, committed)
        self._drain(run)
        # what happened while nobody looked would be learned as normal
        self._restarted = (Trigger("start", "restart", 0.0, 0.0),)
        self._live()

    def _note(
        self, run: _Run, piece: Slice | None = None, size: int = 0, why: str = "", digest: str | None = None
    ) -> None:
        self._record(
            "move",
            self._clock.now_us(),
            move=run.number,
            epoch=run.epoch,
            phase=run.state,
            slice=dataclasses.asdict(piece) if piece else None,
            bytes=size,
            why=why,
            **({} if digest is None else {"digest": digest}),
        )

    def _note_decision(self, verdict: Verdict, snapshot: Snapshot) -> None:
        decision = verdict.decision
        self._decisions += 1
        self._reason, self._said = decision.reason, f"{decision.action}: {decision.reason}"
        self._record(
            "decision",
            snapshot.now_us,
            n=self._decisions,
            **recorded(self._problem, snapshot, decision),
            duration_us=verdict.took_us,
            refused=verdict.refused,
        )

    def _live(self) -> None:
        if self._on_live:
            placement = placement_text(self._problem, self._current.nodes)
            live = {"epoch": self._current.epoch, "placement": placement, "decision": self._said}
            self._on_live({"t_us": self._clock.now_us(), **live})


def placement_text(problem: Problem, nodes: Mapping[str, tuple[str, ...]]) -> str:
    """For people: "cam1: ue1[0-3] mec1[4-13]; cam2: ...", blocks inclusive."""

    def way(stream: str) -> str:
        return " ".join(parts.text(stop) for stop in route(problem, stream, nodes[stream]))

    return "; ".join(f"{stream}: {way(stream)}" for stream in sorted(nodes))
