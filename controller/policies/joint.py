"""Moves to the joint optimum of all streams, when it pays.

It looks again when something triggered, for `settle_s` after that, and while a stream is over the SLA. It moves only
if all of these hold:
  gain   (predicted latency now - then) * requests within `horizon_s`  >  cost of moving
         cost = time the weights take over their paths + `disturb_ms` for each stream that moves
  margin the weighted sum of latencies falls by `min_gain` or more
  calm   the last move is `cooldown_s` ago, unless a stream cannot be served at all now; and `rest_s` ago, unless a
         stream is within a fifth of the SLA or over it, measured or predicted
A stream over the SLA chooses first, and its latency counts `sla_weight` times. A stream whose own share of
the gain is below `min_gain` stays where it is. A block that privacy no longer lets be where it is goes at once,
whatever it costs, and so does what is over a limit. Where there are more than `breadth` streams, a look is at those
that are late or triggered, the others staying; bound and gap are then theirs.
Options and defaults: horizon_s 30, min_gain 0.1, cooldown_s 5, rest_s 60, settle_s 5, disturb_ms 50, sla_weight 4,
breadth 12, placement; of the objective (`controller.objective`) utilisation_ms 0, privacy_ms 0, reconfigure_ms 0,
max_utilisation and max_link_share (no limit).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.cost import UNREACHABLE_US, Forecast, Outlook
from controller.model import Candidate, Decision, Latency, Placement, Problem, Snapshot, Trigger
from controller.moves import action_of, move_cost
from controller.objective import Objective
from controller.planner import Plan, Planner, weights_without
from controller.policies.start import number, pinned_rows, rounded, start
from controller.table import NodeOrPath, Row, Rows, Table

ALTERNATIVES = 2  # single-node candidates shown
NEAR = 0.8  # of the SLA: from there on moves need no rest


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one decision looks at: the streams of `current` at their rows, `looked` those that may move."""

    snapshot: Snapshot
    forecast: Forecast
    current: Rows
    weights: Mapping[str, float]
    looked: tuple[str, ...]
    forbidden: frozenset[str]  # streams that may not stay where they are, by privacy or a limit
    outlook: Outlook  # beside the streams that are not looked at
    names: Mapping[str, tuple[str, ...]]  # of the rows


class Joint:
    """Deterministic; remembers only when it last moved, until when it looks again and at which streams."""

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        self._objective = objective_of(options)
        self._set(problem)
        self._pinned = pinned_rows(self._table, options)
        self._horizon_us = number(options, "horizon_s", 30) * 1e6
        self._min_gain = number(options, "min_gain", 0.1)
        self._cooldown_us = round(number(options, "cooldown_s", 5) * 1e6)
        self._rest_us = round(number(options, "rest_s", 60) * 1e6)
        self._settle_us = round(number(options, "settle_s", 5) * 1e6)
        self._disturb_us = round(number(options, "disturb_ms", 50) * 1e3)
        self._sla_weight = number(options, "sla_weight", 4)
        self._breadth = max(1, round(number(options, "breadth", 12)))
        self._moved = Placement(0, {})
        self._asked_epoch = 0  # of the last move decided; never committed when it failed
        self._quiet_until_us = self._rest_until_us = 0
        self._look_until_us = 0
        self._touched: frozenset[str] = frozenset()

    def _set(self, problem: Problem) -> None:
        self._problem = problem
        self._planner = self.planner(problem)
        self._table = self._planner.table

    def planner(self, problem: Problem) -> Planner:
        """What finds the placements that are weighed."""
        return Planner(problem, self._objective)

    def rezone(self, problem: Problem) -> None:
        """Privacy has changed: from now on this is the problem."""
        self._set(problem)

    def start(self, snapshot: Snapshot) -> Decision:
        return start(self._planner, snapshot, self._pinned)

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        now = snapshot.now_us
        if current != self._moved:  # it was committed, or this is the first look
            self._quiet_until_us = now + self._cooldown_us if self._moved.epoch else 0
            self._rest_until_us = now + self._rest_us if self._moved.epoch else 0
            self._moved = current
        if self._asked_epoch > current.epoch:  # the move was aborted: not the same again at once
            self._quiet_until_us = now + self._cooldown_us
            self._look_until_us = max(self._look_until_us, self._quiet_until_us + self._settle_us)
        self._asked_epoch = 0
        if now >= self._look_until_us:
            self._touched = frozenset()
        if triggers:
            self._look_until_us = max(now, self._quiet_until_us, self._rest_until_us) + self._settle_us
            self._touched |= touched(self._table, current, triggers)
        late = [s for s, us in snapshot.latency_us.items() if us > self._problem.sla.latency_us]
        if not late and now >= self._look_until_us:
            return Decision("KEEP", current, triggers, (), "nothing has changed")
        return self._look(snapshot, current, triggers, late)

    def _look(
        self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...], late: Sequence[str]
    ) -> Decision:
        rows = {stream: self._table.row(nodes) for stream, nodes in current.nodes.items()}
        weights = {stream: self._sla_weight if stream in late else 1.0 for stream in rows}
        forecast = Forecast(self._table, snapshot)
        forbidden = self._forbidden(forecast, rows)
        order = sorted(rows, key=lambda stream: (-weights[stream], stream))
        order = self._few(forecast, rows, order, {*late, *forbidden})
        plan = self._planner.plan(snapshot, order, weights, rows, forecast=forecast)
        weights = weights_without(weights, plan.stranded)
        names = {stream: current.nodes[stream] for stream in sorted(rows)}
        outlook = plan.outlook
        if plan.stranded:  # they are not planned for, and yet looked at
            outlook = Outlook(forecast, weights, {s: row for s, row in rows.items() if s not in order})
        view = View(snapshot, forecast, rows, weights, tuple(order), forbidden, outlook, names)
        keep = self._candidate(view, "keep", rows)
        apart = {stream: weight for stream, weight in sorted(weights.items()) if weight != 1.0}
        known = round(plan.bound_us), apart, self._objective.asked
        draft = Decision("KEEP", current, triggers, (), "", *known)
        if plan.rows is None or len(plan.stranded) == len(order):
            who = ", ".join(plan.unplaced or plan.stranded)
            limits = " within the limits" if self._objective.limited else ""
            reason = f"no permitted node with a path and the memory{limits} for: {who}"
            return replace(draft, action="INFEASIBLE", candidates=(keep,), reason=reason)
        best = self._fewer_moves(view, plan.rows)
        return self._weigh(view, plan, best, keep, draft)

    def _few(self, forecast: Forecast, rows: Rows, order: list[str], first: set[str]) -> list[str]:
        """All streams if they are few, else those it is about, else those that are slowest; of too many the slowest."""
        if len(order) <= self._breadth:
            return order
        about = [s for s in order if s in first] + [s for s in order if s in self._touched - first]
        if not 0 < len(about) <= self._breadth:  # a stream that was moved is late until that is measured
            latency = forecast.latencies(rows, about or order)
            about = sorted(about or order, key=lambda s: (s not in first, -latency[s].total_us, s))
        return about[: self._breadth]

    def _forbidden(self, forecast: Forecast, rows: Rows) -> frozenset[str]:
        bad = {s for s, row in rows.items() if not self._table.permits(s, row)}
        if self._objective.limited:
            bad |= self._objective.broken_by(forecast, rows)
        return frozenset(bad)

    def _weigh(self, view: View, plan: Plan, best: Rows, keep: Candidate, draft: Decision) -> Decision:
        """Fills in the draft of the decision: to keep, or to go to `best`."""
        why_not, said = "", "the best known placement serves already"
        if best == view.current != plan.rows:
            said = f"no stream gains {100 * self._min_gain:g} % by moving"
        chosen = self._candidate(view, "optimum", best)
        others = self._alternatives(view, plan, best)
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
            action=action_of(view.current, best),
            placement=Placement(self._asked_epoch, chosen.nodes),
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
        said = f"{self._counted} {was} -> {after / 1e3:.1f} ms{won}, cost {cost / 1e6:.2f} s, moves {', '.join(moved)}"
        if view.forbidden:
            return "", f"{', '.join(sorted(view.forbidden))} may not stay; {said}"
        if gain <= cost:
            why_not = "the gain is not worth the move"
        elif share < self._min_gain:
            why_not = f"the gain is below {100 * self._min_gain:g} %"
        elif served and view.snapshot.now_us < self._quiet_until_us:
            why_not = f"cool-down until {self._quiet_until_us / 1e6:.1f} s"
        elif served and view.snapshot.now_us < self._rest_until_us and not self._pressed(view):
            why_not = f"rest until {self._rest_until_us / 1e6:.1f} s, for no stream is near the SLA"
        else:
            return "", said
        return why_not, f"{why_not}: {said}"

    def _pressed(self, view: View) -> bool:
        """Whether a stream that is looked at is near the SLA or over it, measured or predicted."""
        limit, measured = NEAR * self._problem.sla.latency_us, view.snapshot.latency_us
        latency = self._latencies(view, view.current)
        return any(max(measured.get(s, 0), latency[s].total_us) > limit for s in view.looked)

    def _gain_us(self, view: View, best: Rows) -> float:
        """What is saved within the horizon: latency of all requests, by weight, and the rest of the objective."""
        was, becomes = self._latencies(view, view.current), self._latencies(view, best)
        saved_us = {s: was[s].total_us - becomes[s].total_us for s in was} | self._eased_us(view, best)
        streams, horizon_us = self._table.streams, self._horizon_us
        saved = sum(view.weights[s] * us * horizon_us / streams[s].period_us for s, us in saved_us.items())
        if self._objective.latency_alone:
            return saved
        rest = [sum(self._beside_us(view, rows).values()) for rows in (view.current, best)]
        most = self._horizon_us / min(stream.period_us for stream in self._table.streams.values())
        return saved + (rest[0] - rest[1]) * most

    def _eased_us(self, view: View, best: Rows) -> dict[str, float]:
        """What each stream that stays waits less: at the nodes and paths that one that moves uses now or then."""
        legs, rows = self._table.legs, (view.current, best)
        moved = [s for s in view.looked if best[s] != view.current[s]]
        places = frozenset[NodeOrPath]().union(*(legs(s, of[s]).places for s in moved for of in rows))
        before, after = ({s: of[s] for s in view.looked} for of in rows)
        eased = view.outlook.eased_us(before, after, places)
        found = {s: legs(s, row) for s, row in view.outlook.kept.items()}
        return {
            s: sum(eased.get(n, 0.0) for n, _ in leg.visits) + sum(eased.get((a, b), 0.0) for a, b, _ in leg.carries)
            for s, leg in found.items()
            if not places.isdisjoint(leg.places)
        }

    @staticmethod
    def _latencies(view: View, rows: Rows) -> dict[str, Latency]:
        """Of the streams looked at, when all of `rows` are placed together."""
        return view.outlook.latencies({s: rows[s] for s in view.looked})

    def _fewer_moves(self, view: View, best: Rows) -> dict[str, Row]:
        """Takes back each stream's move that does not itself bring `min_gain` of the latency it would then have."""
        rows, before = dict(best), self._latencies(view, view.current)
        after, total = self._latencies(view, best), self._total(view, best)
        for stream in sorted(view.looked):
            if rows[stream] == view.current[stream] or stream in view.forbidden:
                continue
            if before[stream].total_us >= UNREACHABLE_US:
                continue
            trial = {**rows, stream: view.current[stream]}
            worth = self._min_gain * view.weights[stream] * after[stream].total_us
            less = self._total(view, trial)
            if less - total < worth and self._planner.fits(trial, view.current) and self._kept(view, trial):
                rows, total = trial, less
        return rows

    def _kept(self, view: View, rows: Rows) -> bool:
        if not self._objective.limited:
            return True
        return self._objective.kept(view.forecast, {s: rows[s] for s in view.looked}, view.outlook.under)

    def _alternatives(self, view: View, plan: Plan, best: Rows) -> tuple[Candidate, ...]:
        """The best placements of everything on one node, for comparison."""
        others = [rows for rows in plan.whole if rows not in (best, view.current)]
        chosen = self._total(view, best)
        shown = sorted(((self._total(view, rows), n) for n, rows in enumerate(others)))[:ALTERNATIVES]
        return tuple(self._alternative(view, others[n], total, chosen) for total, n in shown)

    def _alternative(self, view: View, rows: Rows, total: float, chosen: float) -> Candidate:
        node = self._problem.hosts[rows[view.looked[0]][0]].name
        why_not = "no path"
        if total < UNREACHABLE_US:
            why_not = f"{self._counted} {total / 1e3:.1f} ms, the optimum has {chosen / 1e3:.1f} ms"
        return replace(self._candidate(view, f"all on {node}", rows), why_not=why_not)

    def _candidate(self, view: View, name: str, rows: Rows) -> Candidate:
        size, time = move_cost(self._table, view.current, rows, view.snapshot)
        found = self._latencies(view, rows)
        predicted = {s: found[s] for s in sorted(found)}
        nodes = {**view.names, **{s: self._table.names(rows[s]) for s in view.looked}}
        beside = rounded(self._beside_us(view, rows))
        total = round(self._total(view, rows))
        return Candidate(name, nodes, predicted, size, time, weighted_us=total, beside_us=beside)

    @property
    def _counted(self) -> str:
        """What a total is of, in words."""
        return "weighted latency" if self._objective.latency_alone else "objective"

    def _total(self, view: View, rows: Rows) -> float:
        """The objective: of the streams looked at, and what they make the others wait."""
        total = view.outlook.total_us({s: rows[s] for s in view.looked})
        return total if self._objective.latency_alone else total + sum(self._beside_us(view, rows).values())

    def _beside_us(self, view: View, rows: Rows) -> dict[str, float]:
        """What counts beside latency, of the streams looked at."""
        looked = {s: rows[s] for s in view.looked}
        return self._objective.beside_us(self._table, view.forecast, looked, view.current, view.outlook.under)


def objective_of(options: Mapping[str, Any]) -> Objective:
    def at_most(name: str) -> float:
        return number(options, name, 1.0) if name in options else float("inf")

    return Objective(
        utilisation_us=number(options, "utilisation_ms", 0) * 1e3,
        privacy_us=number(options, "privacy_ms", 0) * 1e3,
        reconfigure_us=number(options, "reconfigure_ms", 0) * 1e3,
        max_utilisation=at_most("max_utilisation"),
        max_link_share=at_most("max_link_share"),
    )


def touched(table: Table, current: Placement, triggers: tuple[Trigger, ...]) -> frozenset[str]:
    """The streams that a trigger names, or that use the node or path that it names."""
    named = {trigger.subject for trigger in triggers if "->" not in trigger.subject}
    paths = {trigger.subject for trigger in triggers if "->" in trigger.subject}
    return frozenset(
        stream
        for stream, row in current.nodes.items()
        if stream in named or not named.isdisjoint(row) or (paths and not paths.isdisjoint(_ways(table, stream, row)))
    )


def _ways(table: Table, stream: str, row: tuple[str, ...]) -> list[str]:
    hosts = table.problem.hosts
    return [f"{hosts[a].name}->{hosts[b].name}" for a, b, _ in table.legs(stream, table.row(row)).carries]
