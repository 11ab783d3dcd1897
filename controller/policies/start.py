"""The first placement, the same for every policy that does not say otherwise.

It is the planner's optimum for what is known at the start, or what the option `placement` says:
stream -> one node, or the list of the nodes of its blocks. Policies ignore options that are not theirs, because
`compare` hands the same ones to all.
"""

from collections.abc import Mapping
from typing import Any

from controller.cost import Forecast
from controller.model import Candidate, Decision, Placement, Snapshot, Trigger
from controller.planner import Plan, Planner
from controller.table import Row, Rows, Table


class BadOption(ValueError):
    """An option of a policy cannot be used; the message says which and what would be right."""


def number(options: Mapping[str, Any], name: str, default: float) -> float:
    """A number that is not negative."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise BadOption(f"policy option {name}: {value!r}; a number of at least 0 is right, such as {default}")
    return float(value)


def pinned_rows(table: Table, options: Mapping[str, Any]) -> dict[str, Row]:
    """The rows the option `placement` asks for; empty when there is none."""
    pinned: dict[str, Row] = {}
    wanted = options.get("placement") or {}
    if not isinstance(wanted, Mapping):
        raise BadOption(f"policy option placement: {wanted!r}; a map of stream to node or to a list of nodes is right")
    for stream, where in wanted.items():
        if stream not in table.streams:
            raise BadOption(f"policy option placement: no stream {stream!r}; there are {', '.join(table.streams)}")
        blocks = len(table.chain(stream).weight)
        names = [where] * blocks if isinstance(where, str) else list(where)
        if len(names) != blocks:
            raise BadOption(f"policy option placement.{stream}: {len(names)} nodes; the model has {blocks} blocks")
        for name in names:
            if name not in table.index:
                raise BadOption(
                    f"policy option placement.{stream}: no node {name!r}; there are {', '.join(table.index)}"
                )
        pinned[stream] = table.row(tuple(names))
    if pinned and len(pinned) < len(table.streams):
        missing = ", ".join(s for s in table.streams if s not in pinned)
        raise BadOption(f"policy option placement: every stream needs a place; missing: {missing}")
    return pinned


def named(table: Table, rows: Rows) -> dict[str, tuple[str, ...]]:
    return {stream: table.names(rows[stream]) for stream in sorted(rows)}


def start(planner: Planner, snapshot: Snapshot, pinned: Rows) -> Decision:
    """Epoch 1, or INFEASIBLE with an empty placement and the reason."""
    trigger = (Trigger("start", "run", 0.0, 0.0),)
    streams = sorted(planner.table.streams)
    plan = planner.plan(snapshot, streams, {})
    rows = pinned or plan.rows
    trouble = _trouble(planner, snapshot, plan, rows)
    if trouble or rows is None:
        return Decision("INFEASIBLE", Placement(0, {}), trigger, (), trouble)
    forecast, name = Forecast(planner.table, snapshot), "placement" if pinned else "optimum"
    beside = planner.objective.beside_us(planner.table, forecast, rows, {})
    chosen = Candidate(
        name=name,
        nodes=named(planner.table, rows),
        predicted=forecast.latencies(rows),
        move_bytes=0,
        move_us=0,
        weighted_us=round(forecast.total_us(rows, {}) + sum(beside.values())),
        beside_us=rounded(beside),
    )
    reason = "start: as the experiment asks" if pinned else "start: the best placement that was found"
    known, objective = round(plan.bound_us), planner.objective.asked
    return Decision("RESPLIT", Placement(1, chosen.nodes), trigger, (chosen,), reason, known, objective=objective)


def rounded(values: Mapping[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in values.items()}


def _trouble(planner: Planner, snapshot: Snapshot, plan: Plan, rows: Rows | None) -> str:
    if rows is None and plan.unplaced:
        return f"no node or split has the memory for: {', '.join(plan.unplaced)}"
    missing = [s for s in planner.table.streams if rows is None or s not in rows]
    if rows is None or missing:
        return f"no node that is up, permitted and big enough can be reached by: {', '.join(missing)}"
    if not planner.permitted(snapshot, rows):
        return "the placement asked for uses a node that is down, or that privacy, a pin or a veto forbids"
    if not planner.fits(rows, {}):
        return "the placement asked for does not fit into the memory of its nodes"
    return ""
