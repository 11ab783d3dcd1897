"""Moves to the joint optimum of all streams, when it pays.

It looks again when something triggered, for `settle_s` after that, and while a stream is over the SLA. It moves only
if all of these hold:
  gain   (predicted latency now - then) * requests within `horizon_s`  >  cost of moving
         cost = time the weights take over their paths + `disturb_ms` for each stream that moves
  margin the weighted sum of latencies falls by `min_gain` or more
  calm   the last move is `cooldown_s` ago, unless a stream cannot be served at all now
A stream over the SLA chooses first, and its latency counts `sla_weight` times. A stream whose own share of
the gain is below `min_gain` stays where it is.
Options and defaults: horizon_s 30, min_gain 0.1, cooldown_s 5, settle_s 5, disturb_ms 50, sla_weight 4, placement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.cost import UNREACHABLE_US, Row, Rows, predict, runs
from controller.model import Action, Candidate, Decision, Placement, Problem, Snapshot, Trigger
from controller.moves import move_cost
from controller.planner import Plan, Planner, weights_without
from controller.policies.start import named, number, pinned_rows, start

ALTERNATIVES = 2  # single-node candidates shown


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one decision looks at."""

    snapshot: Snapshot
    current: Rows
    weights: Mapping[str, float]


class Joint:
    """Deterministic; remembers only when it last moved and until when it looks again."""

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        self._problem = problem
        self._planner = Planner(problem)
        self._table = self._planner.table
        self._pinned = pinned_rows(self._table, options)
        self._horizon_us = number(options, "horizon_s", 30) * 1e6
        self._min_gain = number(options, "min_gain", 0.1)
        self._cooldown_us = round(number(options, "cooldown_s", 5) * 1e6)
        self._settle_us = round(number(options, "settle_s", 5) * 1e6)
        self._disturb_us = round(number(options, "disturb_ms", 50) * 1e3)
        self._sla_weight = number(options, "sla_weight", 4)
        self._moved = Placement(0, {})
        self._asked_epoch = 0  # of the last move decided; never committed when it failed
        self._quiet_until_us = 0
        self._look_until_us = 0

    def start(self, snapshot: Snapshot) -> Decision:
        return start(self._planner, snapshot, self._pinned)

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        now = snapshot.now_us
        if current != self._moved:  # it was committed, or this is the first look
            self._quiet_until_us = now + self._cooldown_us if self._moved.epoch else 0
            self._moved = current
        if self._asked_epoch > current.epoch:  # the move was aborted: not the same again at once
            self._quiet_until_us = now + self._cooldown_us
            self._look_until_us = max(self._look_until_us, self._quiet_until_us + self._settle_us)
        self._asked_epoch = 0
        if triggers:
            self._look_until_us = max(now, self._quiet_until_us) + self._settle_us
        late = [s for s, us in snapshot.latency_us.items() if us > self._problem.sla.latency_us]
        if not late and now >= self._look_until_us:
            return Decision("KEEP", current, triggers, (), "nothing has changed")
        return self._look(snapshot, current, triggers, late)

    def _look(
        self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...], late: Sequence[str]
    ) -> Decision:
        rows = {stream: self._table.row(nodes) for stream, nodes in current.nodes.items()}
        weights = {stream: self._sla_weight if stream in late else 1.0 for stream in rows}
        order = sorted(rows, key=lambda stream: (-weights[stream], stream))
        plan = self._planner.plan(snapshot, order, weights, rows)
        view = View(snapshot, rows, weights_without(weights, plan.stranded))
        keep = self._candidate(view, "keep", rows)
        bound = round(plan.bound_us)
        if plan.rows is None or len(plan.stranded) == len(rows):
            who = ", ".join(plan.unplaced or plan.stranded)
            reason = f"no permitted node with a path and the memory for: {who}"
            return Decision("INFEASIBLE", current, triggers, (keep,), reason, bound)
        best = self._fewer_moves(view, plan.rows)
        return self._weigh(view, plan, best, keep, Decision("KEEP", current, triggers, (), "", bound))

    def _weigh(self, view: View, plan: Plan, best: Rows, keep: Candidate, draft: Decision) -> Decision:
        """Fills in the draft of the decision: to keep, or to go to `best`."""
        why_not, said = "", "the best known placement serves already"
        if best == view.current != plan.rows:
            said = f"no stream gains {100 * self._min_gain:g} % by moving"
        chosen = self._candidate(view, "optimum", best)
        others = self._alternatives(view, best)
        if best != view.current:
            why_not, said = self._objection(view, best, chosen)
        if plan.stranded:
            said += f"; without any path: {', '.join(plan.stranded)}"
        if best == view.current:
            return replace(draft, candidates=(keep, *others), reason=said)
        if why_not:
            return replace(draft, candidates=(keep, replace(chosen, why_not=why_not), *others), reason=said)
        self._asked_epoch = draft.placement.epoch + 1
        return replace(
            draft,
            action=_action(view.current, best),
            placement=Placement(self._asked_epoch, named(self._table, best)),
            candidates=(replace(keep, why_not="the gain of moving is worth its cost"), chosen, *others),
            reason=said,
        )

    def _objection(self, view: View, best: Rows, chosen: Candidate) -> tuple[str, str]:
        """(why not to move, the reason in words); the first is empty when nothing speaks against it."""
        before, after = self._total(view, view.current), self._total(view, best)
        moved = [stream for stream in best if best[stream] != view.current[stream]]
        gain = self._gain_us(view, best)
        cost = chosen.move_us + self._disturb_us * len(moved)
        share = (before - after) / before if before > 0 else 0.0
        served = before < UNREACHABLE_US
        was = f"{before / 1e3:.1f} ms" if served else "not served"
        won = f" ({-100 * share:.1f} %), gain {gain / 1e6:.2f} s in {self._horizon_us / 1e6:g} s" if served else ""
        said = f"weighted latency {was} -> {after / 1e3:.1f} ms{won}, cost {cost / 1e6:.2f} s, moves {', '.join(moved)}"
        if gain <= cost:
            why_not = "the gain is not worth the move"
        elif share < self._min_gain:
            why_not = f"the gain is below {100 * self._min_gain:g} %"
        elif served and view.snapshot.now_us < self._quiet_until_us:
            why_not = f"cool-down until {self._quiet_until_us / 1e6:.1f} s"
        else:
            return "", said
        return why_not, f"{why_not}: {said}"

    def _gain_us(self, view: View, best: Rows) -> float:
        """Latency saved within the horizon, over all requests, by weight."""
        before = predict(self._table, view.snapshot, view.current)
        after = predict(self._table, view.snapshot, best)
        return sum(
            view.weights[stream]
            * (before[stream].total_us - after[stream].total_us)
            * (self._horizon_us / self._table.streams[stream].period_us)
            for stream in best
        )

    def _fewer_moves(self, view: View, best: Rows) -> dict[str, Row]:
        """Takes back each stream's move that does not itself bring `min_gain` of the latency it would then have."""
        rows, before = dict(best), predict(self._table, view.snapshot, view.current)
        after = predict(self._table, view.snapshot, best)
        for stream in sorted(best):
            trial = {**rows, stream: view.current[stream]}
            worth = self._min_gain * view.weights[stream] * after[stream].total_us
            if trial == rows or before[stream].total_us >= UNREACHABLE_US:
                continue
            lost = self._total(view, trial) - self._total(view, rows)
            if lost < worth and self._planner.fits(trial, view.current):
                rows = trial
        return rows

    def _alternatives(self, view: View, best: Rows) -> tuple[Candidate, ...]:
        """The best placements of everything on one node, for comparison."""
        whole = self._planner.together(view.snapshot, sorted(view.current), {}, view.current)
        others = [rows for rows in whole if rows not in (best, view.current)]
        shown = sorted(others, key=lambda rows: self._total(view, rows))[:ALTERNATIVES]
        return tuple(self._alternative(view, rows, self._total(view, best)) for rows in shown)

    def _alternative(self, view: View, rows: Rows, chosen: float) -> Candidate:
        total, node = self._total(view, rows), self._problem.hosts[next(iter(rows.values()))[0]].name
        why_not = "no path"
        if total < UNREACHABLE_US:
            why_not = f"weighted latency {total / 1e3:.1f} ms, the optimum has {chosen / 1e3:.1f} ms"
        return replace(self._candidate(view, f"all on {node}", rows), why_not=why_not)

    def _candidate(self, view: View, name: str, rows: Rows) -> Candidate:
        size, time = move_cost(self._table, view.current, rows, view.snapshot)
        return Candidate(name, named(self._table, rows), predict(self._table, view.snapshot, rows), size, time)

    def _total(self, view: View, rows: Rows) -> float:
        return self._planner.total_us(view.snapshot, rows, view.weights)


def _action(old: Rows, new: Rows) -> Action:
    def cuts(rows: Rows) -> dict[str, list[int]]:
        return {stream: [last for _, last, _ in runs(row)] for stream, row in rows.items()}

    return "REMAP" if cuts(old) == cuts(new) else "RESPLIT"
