"""Placement of all streams: the exact programme of each stream against the others, in rounds of best response.

What is minimised is the objective (`controller.objective`), by default the weighted sum of the predicted latencies; a
stream's turn also counts what it makes the others wait, so every accepted turn lowers the sum and the rounds end.
  1. The nodes worth considering for each stream, with a bound for all the others (`tiers`).
  2. Each stream alone: its best row, under memory pressure by `labels`, and the least that it can cost.
     Where memory is too short for all of these rows, all streams of a model go one way, the models end to end; of a
     handful then each goes its own way and shares what the others load (`sharing`), which is also their bound.
     Where a limit of utilisation keeps them apart, uses of what is over it pay a price, a bound too (`limits`).
  3. A handful: from the current placement or everyone's best row alone a round of best response, all streams answered
     together (`programme`), accepted one by one. More of them: each whole on a node of its own (`spread`).
  4. What the streams cost together at least, and the placement that this suggests (`together`).
  5. If the bound is not met, rounds of best response from there, of those that may gain by what 4. knows of them.
     A handful goes on from the other start, and from all on one node; then come small changes of the whole (`search`).
All work is bounded by counts, never by time: what is decided does not depend on the machine.

`bound_us` is certified, and about the streams that are planned for: the weighted sum of their latencies, how much
longer the others wait because of them, and what else the objective has. Others' load only adds waiting and takes
memory, so that is never less than each of them alone needs, nor than 4. says.

A plan always fits beside the slices that are loaded now, because a move loads the new ones before it releases the
old. A stream whose phone has no path to any host is *stranded*: no placement helps it, so it keeps what it has and
does not stand in the way of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controller.cost import Forecast, Outlook, speed_now
from controller.labels import Effort
from controller.limits import Limits
from controller.memory import overfull
from controller.model import Problem, Snapshot
from controller.objective import Objective
from controller.scene import HANDFUL, Scene
from controller.search import TRIALS, improved, swapped
from controller.sharing import Sharing
from controller.table import Floats, Row, Rows, Table, tabulate
from controller.turns import ROUNDS, Turn

ORDERS = 4  # orders in which streams choose one after the other
WHOLE, FEW = 16, 2  # nodes tried with everything on them, times streams; and at least
NEAR = 1e-3  # of the bound: then the rest is not sought
CROWDED = 0.05  # of what streams cost: they wait for each other so much that memory is not the only matter
STARTS = 4  # placements from which best responses are followed
HAMPERED = 2  # of them, where limits are in the way


@dataclass(frozen=True, slots=True)
class Plan:
    rows: Mapping[str, Row] | None  # None: some stream that has paths fits nowhere
    stranded: tuple[str, ...]
    unplaced: tuple[str, ...]  # why `rows` is None
    bound_us: float  # the objective of the streams planned for, and what they make others wait, are never less
    outlook: Outlook  # beside all the others
    whole: tuple[Rows, ...] = ()  # all of them on one node, for comparison


class Planner:
    """Plans for one problem; holds its arrays and nothing that changes."""

    def __init__(self, problem: Problem, objective: Objective | None = None) -> None:
        self.table: Table = tabulate(problem)
        self.objective = objective or Objective()

    def plan(
        self,
        snapshot: Snapshot,
        order: Sequence[str],
        weights: Mapping[str, float],
        current: Rows | None = None,
        *,
        forecast: Forecast | None = None,
    ) -> Plan:
        """The best placement found for the streams in `order`, those first in it choosing first.

        Streams of `current` that are not in `order` stay, and count. `forecast`: one of the snapshot, if there is one.
        """
        current = current or {}
        forecast = forecast or Forecast(self.table, snapshot)
        scene = Scene(
            self.table,
            snapshot,
            order,
            current,
            objective=self.objective,
            known=forecast,
            weights=weights,
            effort=self._effort(len(order)),
        )
        stranded = tuple(s for s in order if s in scene.cut_off)
        free = [s for s in order if s not in stranded]
        bound = sum(us for s in free if (us := scene.alone[s].least_us) < float("inf"))
        turn = Turn(scene, free, weights_without(weights, stranded), current)
        whole = tuple({**turn.kept, **rows} for rows in self._together(snapshot, turn))
        sharing = Sharing(turn) if turn.cramped else None
        starts, unplaced = self._starts(turn, free, whole, sharing)
        if not starts:
            return Plan(None, stranded, unplaced, bound, turn.outlook)
        if sharing is not None and len(free) <= HANDFUL:
            rows, total = self._cramped(turn, sharing, starts)
        else:
            rows, total = self._sought(turn, starts)
        if total == float("inf"):
            return Plan(None, stranded, tuple(free), bound, turn.outlook)
        return Plan({**turn.kept, **rows}, stranded, (), max(bound, turn.least_us), turn.outlook, whole)

    def _effort(self, streams: int) -> Effort:
        """To fit each stream into memory when nobody else is there: they are fitted together later, if they may be."""
        if streams == 1 or self.objective.limited:
            return "thorough"
        return "none" if streams <= HANDFUL else "short"

    @staticmethod
    def _sought(turn: Turn, starts: Sequence[dict[str, Row]]) -> tuple[Rows, float]:
        """The best that is found from the starts, and what it is worth."""
        first, *others = sorted(starts[:2], key=turn.worth)
        few = len(turn.free) <= HANDFUL
        ends = [turn.settled(first, 1) if few else (first, turn.worth(first))]
        if not few and ends[0][1] > turn.goal_us and (whole := turn.spread()) is not None:
            ends = [min(ends[0], (whole, turn.worth(whole)), key=worth_of)]
        if ends[0][1] > turn.goal_us and (suggested := turn.together(ends[0][0])) is not None:
            ends = [min(ends[0], (suggested, turn.worth(suggested)), key=worth_of)]
        rows, total = ends[0]
        near = turn.goal_us * (1 + NEAR)
        for start in (rows, *others, *starts[2:STARTS]):
            if total <= near or turn.asked >= turn.most or (ends[1:] and turn.bounded and not few):
                break
            ends.append(turn.settled(start, ROUNDS if few or not turn.bounded else 1))
            rows, total = min(ends, key=worth_of)
        if few or not turn.bounded:  # of many that are bounded together it has never found better
            for end in sorted(ends[1:] or ends, key=worth_of)[: STARTS if few else 1]:
                if total > near:
                    tried = improved(*end, turn.worth, max(8, TRIALS // len(turn.free)))
                    rows, total = min((rows, total), tried, key=worth_of)
        if not few and total > near:
            rows, total = swapped(rows, total, turn.worth, turn.unlike(rows))
        return rows, total

    def _cramped(self, turn: Turn, sharing: Sharing, starts: Sequence[dict[str, Row]]) -> tuple[Rows, float]:
        """The same where memory is short: who moves alone has nowhere to go, so all of them move together."""
        rows = min(starts, key=turn.worth)
        if turn.worth(rows) > turn.goal_us * (1 + NEAR):
            found = sharing.apart(turn.worth(rows)) if sharing.few else None
            turn.at_least(found.least_us if found else sharing.least_us(turn.worth(rows)))
            if found and found.rows:
                rows = dict(zip(sharing.order, found.rows, strict=True))
        end = turn.settled(rows)
        apart = sum(turn.worth({stream: row}) for stream, row in end[0].items())
        if end[1] > apart * (1 + NEAR):  # what they wait for each other is a matter too
            turn.together(end[0])
        if end[1] > apart * (1 + CROWDED):
            return min(end, self._sought(turn, [*starts[:1], dict(end[0]), *starts[1:]]), key=worth_of)
        return end

    def total_us(self, snapshot: Snapshot, rows: Rows, weights: Mapping[str, float]) -> float:
        """The weighted sum of predicted latencies."""
        return Forecast(self.table, snapshot).total_us(rows, weights)

    def fits(self, rows: Rows, current: Rows) -> bool:
        """Whether `rows` fit into memory beside what is loaded now."""
        return not overfull(self.table, rows, current)

    def permitted(self, snapshot: Snapshot, rows: Rows) -> bool:
        """Whether every node is up and every block is where its data may be."""
        return all(
            self.table.permits(stream, row) and all(snapshot.nodes[n].up for n in set(row))
            for stream, row in rows.items()
        )

    def _together(self, snapshot: Snapshot, turn: Turn) -> list[dict[str, Row]]:
        """The free streams whole on one node, for each of the fastest nodes where that can be beside the rest."""
        streams = turn.free
        whole = {s: len(self.table.chain(s).weight) for s in streams}
        open_to_all = np.logical_and.reduce([self.table.chain(s).allowed.all(axis=0) for s in streams])
        speed = np.where(open_to_all, speed_now(self.table, snapshot), 0.0)
        found = list[dict[str, Row]]()
        for n in fastest(speed, max(FEW, WHOLE // max(len(streams), 1))) if streams else ():
            rows = {s: (n,) * blocks for s, blocks in whole.items()}
            if speed[n] > 0 and (n not in self.table.tight or not turn.loaded.overfull(rows)):
                found.append(rows)
        return found

    def _starts(
        self, turn: Turn, free: list[str], whole: Sequence[Rows], sharing: Sharing | None
    ) -> tuple[list[dict[str, Row]], tuple[str, ...]]:
        """What to begin with, the current placement first and then the best; or who finds no room."""
        scene, current = turn.scene, turn.current
        starts, unplaced = list[dict[str, Row]](), tuple[str, ...]()
        apart = {s: found.row for s in free if (found := scene.alone[s].best) is not None}
        if free and len(apart) == len(free) and not turn.loaded.overfull(apart):
            starts.append(apart)
        starts += [{s: rows[s] for s in free} for rows in whole]
        placed = {s: current[s] for s in free if s in current}
        scene.forecast.learn([one for rows in (placed, *starts) for one in rows.items()])
        starts.sort(key=turn.worth)
        usable = bool(free) and len(placed) == len(free) and turn.worth(placed) < float("inf")
        if usable:
            starts.insert(0, placed)
        if sharing is not None and (rows := sharing.start()):
            starts.append(rows)
            if len(free) <= HANDFUL:
                return starts, ()
        if self.objective.limited:
            starts = self._within_limits(turn, starts)
            usable = usable or bool(starts)
        if not starts or sharing is not None or (not usable and 1 < len(free) <= STARTS):
            chosen, unplaced = self._one_by_one(turn, free)
            starts += chosen
        return starts, unplaced

    @staticmethod
    def _within_limits(turn: Turn, starts: list[dict[str, Row]]) -> list[dict[str, Row]]:
        """Those that keep the limits; others, placed by prices, where limits are in each stream's way."""
        if turn.hampered:
            limits = Limits(turn)
            starts = sorted([*starts, *limits.starts()], key=turn.worth)[:HAMPERED]
            turn.at_least(limits.least_us)
        kept = [rows for rows in starts if turn.worth(rows) < float("inf")]
        memory = turn.scene.table.tight and len(turn.free) > 1  # it may be in the way too
        if not kept and memory and (rows := Sharing(turn).start()):
            kept = [rows] if turn.worth(rows) < float("inf") else []
        return kept

    @staticmethod
    def _one_by_one(turn: Turn, free: list[str]) -> tuple[list[dict[str, Row]], tuple[str, ...]]:
        """One stream after the other, in the first order that works; and who found no room in the first that failed."""
        unplaced = tuple[str, ...]()
        for shift in range(min(len(free), ORDERS)):
            rows, missing = dict[str, Row](), list[str]()
            for stream in free[shift:] + free[:shift]:
                row = turn.responses([stream], rows)[0]
                if row is None:
                    missing.append(stream)
                else:
                    rows[stream] = row
            if not missing:
                return [rows], ()
            unplaced = unplaced or tuple(missing)
        return [], unplaced


def worth_of(found: tuple[Rows, float]) -> float:
    return found[1]


def fastest(speed: Floats, count: int) -> list[int]:
    """The positions of the fastest, the first of equals first."""
    if count >= len(speed):
        return [int(n) for n in np.argsort(-speed, kind="stable")]
    near = np.flatnonzero(speed >= np.partition(speed, len(speed) - count)[len(speed) - count])
    return [int(n) for n in near[np.argsort(-speed[near], kind="stable")][:count]]


def weights_without(weights: Mapping[str, float], stranded: Sequence[str]) -> dict[str, float]:
    """The weights with nothing for stranded streams: their endless latency must not drown the others."""
    return {**weights, **dict.fromkeys(stranded, 0.0)}
