"""What the rivals share: when they look again, whom they place after whom, and how they say what they chose.

A rival is a rule for the row of one stream. Streams are placed in the order of their names; each sees the load and the
memory of those before it and cares for itself only, as its paper does. A stream that the rule places nowhere stays
where it is. Rivals do not ask what a move costs: they go wherever their rule says, at most once in `cooldown_s`.
Options: redo (never, triggered, always: when the rule is applied again), cooldown_s 5, placement (the first one).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from controller.chain import Overfull, Room, overfull_in, room_beside
from controller.cost import UNREACHABLE_US, load_of, predict
from controller.model import Candidate, Decision, Placement, Problem, Snapshot, Trigger
from controller.moves import action_of, move_cost
from controller.policies.chain_cost import ChainCost, chain_cost
from controller.policies.start import BadOption, named, number, pinned_rows
from controller.scene import alone
from controller.table import Row, Rows, Table, runs, tabulate
from controller.validity import forbidden_streams, objection

Redo = Literal["never", "triggered", "always"]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the rule for one stream may look at."""

    table: Table
    snapshot: Snapshot
    stream: str
    before: Rows  # the streams that were placed before it
    current: Row | None
    epoch: int  # of what serves now, 0 at the start
    room: Room
    cost: ChainCost
    overfull: Callable[[Row], Overfull | None]  # of a row or its beginning

    @property
    def source(self) -> int:
        return self.table.source(self.stream)

    @property
    def blocks(self) -> int:
        return len(self.table.chain(self.stream).weight)

    def worth_us(self, row: Row) -> float:
        """The latency of a row, infinite when it cannot be."""
        parts = runs(row)
        total = float(self.cost.enter[parts[0][2]] + self.cost.leave[parts[-1][2]])
        total += sum(float(self.cost.run[part]) for part in parts)
        total += sum(float(self.cost.hop[b[0]][a[2], b[2]]) for a, b in pairwise(parts))
        return total if np.isfinite(total) and self.overfull(row) is None else float("inf")


class Rival:
    """The frame; a rival gives `row`, or `rows` when its rule is about all streams at once."""

    redo: ClassVar[Redo] = "triggered"
    rule: str  # in words, for the reasons

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        self._table = tabulate(problem)
        self._asked = pinned_rows(self._table, options)
        self._redo = choice(options, "redo", get_args(Redo), self.redo)
        self._cooldown_us = round(number(options, "cooldown_s", 5) * 1e6)
        self._due, self._epoch, self._quiet_until_us = False, 0, 0

    def rezone(self, problem: Problem) -> None:
        """Privacy has changed: from now on this is the problem."""
        self._table = tabulate(problem)
        self._due = True

    def row(self, scene: Scene) -> Row | None:
        """Where the blocks of one stream go; None: nowhere."""
        raise NotImplementedError

    def rows(self, snapshot: Snapshot, current: Rows, epoch: int) -> dict[str, Row]:
        """The streams that can be placed, by the rule."""
        placed: dict[str, Row] = {}
        for stream in sorted(self._table.streams):
            row = self.row(self.scene(snapshot, stream, placed, current, epoch))
            if row is not None:
                placed[stream] = row
        return placed

    def scene(self, snapshot: Snapshot, stream: str, others: Rows, current: Rows, epoch: int) -> Scene:
        table = self._table
        load = load_of(table, snapshot, others, dict.fromkeys(others, 0.0))
        room = room_beside(table, stream, others, current)
        cost = chain_cost(table, snapshot, stream, others=load, weight=1.0, room=room)
        row = current.get(stream)
        return Scene(table, snapshot, stream, others, row, epoch, room, cost, overfull_in(table, stream, room))

    def start(self, snapshot: Snapshot) -> Decision:
        trigger, rows = (Trigger("start", "run", 0.0, 0.0),), self._asked or self.rows(snapshot, {}, 0)
        nowhere = [stream for stream in sorted(self._table.streams) if stream not in rows]
        if nowhere:
            reason = f"{self.rule} places nowhere: {', '.join(nowhere)}"
            return Decision("INFEASIBLE", Placement(0, {}), trigger, (), reason)
        chosen = self._candidate(snapshot, self.rule, rows, {})
        reason = "start: as the experiment asks" if self._asked else f"start: {self.rule}"
        decision = Decision("RESPLIT", Placement(1, chosen.nodes), trigger, (chosen,), reason, self._bound(snapshot))
        why_not = objection(self._table, snapshot, Placement(0, {}), decision)
        if why_not:
            return Decision("INFEASIBLE", Placement(0, {}), trigger, (), why_not)
        return decision

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        why_not = self._rest(snapshot.now_us, current, triggers)
        if why_not:
            return Decision("KEEP", current, triggers, (), why_not)
        old = {stream: self._table.row(nodes) for stream, nodes in current.nodes.items()}
        placed = self.rows(snapshot, old, current.epoch)
        rows, stayed = {**old, **placed}, sorted(set(old) - set(placed))
        said = self.rule + (f"; places nowhere: {', '.join(stayed)}" if stayed else "")
        keep, bound = self._candidate(snapshot, "keep", old, old), self._bound(snapshot)
        if not placed:
            return Decision("INFEASIBLE", current, triggers, (keep,), said, bound)
        if rows == old:
            self._due = bool(stayed)
            return Decision("KEEP", current, triggers, (keep,), f"{said}: the same as now", bound)
        return self._go(
            snapshot, current, Decision(action_of(old, rows), current, triggers, (keep,), said, bound), rows
        )

    def _rest(self, now_us: int, current: Placement, triggers: tuple[Trigger, ...]) -> str:
        """Why the rule is not applied now; empty when it is."""
        if current.epoch != self._epoch:  # a move was committed
            self._quiet_until_us = now_us + self._cooldown_us if self._epoch else 0
            self._epoch, self._due = current.epoch, False
        self._due = self._due or bool(triggers) or self._redo == "always"
        if self._redo == "never":
            return f"{self.rule}: never moves"
        if not self._due:
            return "nothing has changed"
        if now_us >= self._quiet_until_us or forbidden_streams(self._table, current.nodes):
            return ""  # who may not stay does not wait
        return f"cool-down until {self._quiet_until_us / 1e6:.1f} s"

    def _go(self, snapshot: Snapshot, current: Placement, draft: Decision, rows: Rows) -> Decision:
        old = {stream: self._table.row(nodes) for stream, nodes in current.nodes.items()}
        chosen, (keep,) = self._candidate(snapshot, self.rule, rows, old), draft.candidates
        self._quiet_until_us = snapshot.now_us + self._cooldown_us  # should the move fail, it is asked again then
        lost = replace(keep, why_not=_lost(keep, chosen))
        moved = replace(draft, placement=Placement(current.epoch + 1, chosen.nodes), candidates=(lost, chosen))
        why_not = objection(self._table, snapshot, current, moved)
        if not why_not:
            return moved
        candidates = keep, replace(chosen, why_not=why_not)
        return replace(draft, action="INFEASIBLE", candidates=candidates, reason=why_not)

    def _candidate(self, snapshot: Snapshot, name: str, rows: Rows, old: Rows) -> Candidate:
        size, time = move_cost(self._table, old, rows, snapshot)
        return Candidate(name, named(self._table, rows), predict(self._table, snapshot, rows), size, time)

    def _bound(self, snapshot: Snapshot) -> int:
        """No placement of all streams has a lower sum of latencies."""
        scene = alone(self._table, snapshot, sorted(self._table.streams))
        return round(sum(found.least_us for found in scene.values() if found.least_us < float("inf")))


def choice(options: Mapping[str, Any], name: str, words: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in words:
        raise BadOption(f"policy option {name}: {value!r}; right are {', '.join(words)}")
    return str(value)


def _lost(keep: Candidate, chosen: Candidate) -> str:
    before, after = (sum(part.total_us for part in c.predicted.values()) for c in (keep, chosen))
    if before >= UNREACHABLE_US:
        return "not served as it is"
    return f"the rule says otherwise: {before / 1e3:.1f} ms now, {after / 1e3:.1f} ms by the rule"
