"""What a decision of a finished run was about, from its plan and its record; and what a proof says of it.

    question = recalled(run, record)
    seen, asked = (question.problem, question.snapshot), (question.looked, question.rows)
    found = certify(*seen, *asked, weights=question.weights, sought=question.sought)
    record["proof"] = told(question, found)

No policy is built: what it decided stands in the record, and one from a file would be run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from controller.cost import UNREACHABLE_US, Forecast, Outlook
from controller.memory import overfull
from controller.model import Latency, NodeStates, Problem, Snapshot
from controller.objective import Objective
from controller.policies.wishes import wished
from controller.sited import Paths, Sited, Sites
from controller.table import Rows, Table, tabulate
from testbed.emulation.problem import problem_of
from testbed.plan import from_json
from testbed.proof.sought import Sought

if TYPE_CHECKING:
    from testbed.proof.certificate import Certificate

PARTS = ("compute_us", "queue_us", "transfer_us", "propagation_us")


class NotProvable(Exception):
    """The optimum of a decision cannot be sought: says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """How low can the latencies of the streams looked at be, by weight, with what the others, who stay, wait longer?"""

    problem: Problem  # with the pins and vetoes of the experiment, and the zones that held then
    snapshot: Snapshot  # what was decided on: all that was seen, or what was expected
    looked: tuple[str, ...]  # the streams that the bound is about
    rows: Rows  # where the chosen candidate has all streams
    weights: Mapping[str, float]  # how often streams count that do not count once
    cost_us: float  # of the chosen candidate
    sought: Sought = field(default_factory=Sought)  # what counts beside latency


def recalled(run: Path, record: Mapping[str, Any]) -> Question:
    """`run`: the folder with the plan, `record`: a `decision` of its journal. Raises NotProvable."""
    try:
        return _question(run, record)
    except NotProvable as error:
        raise NotProvable(f"decision {record['n']} cannot be proven: {error}") from error.__cause__


def told(question: Question, found: "Certificate", known_us: float = 0.0) -> dict[str, Any]:
    """The proof in names, for `testbed why`; `better` is empty where nothing that fits is below the chosen one.

    `known_us`: a bound that knows of memory, as proofs do not.
    """
    better = {s: found.rows[s] for s in question.looked if found.rows[s] != question.rows[s]}
    found_us, bound_us, why = found.found_us, found.bound_us, found.open
    rounded_us = 2 * len(question.looked) + 1  # predictions are
    if question.cost_us - found_us <= rounded_us:  # as good
        better = {}
    elif overfull(tabulate(question.problem), {**question.rows, **better}):
        better, found_us, bound_us = {}, question.cost_us, min(max(bound_us, known_us), question.cost_us)
        why = "what is below the chosen one does not fit into memory" if found_us - bound_us > rounded_us else ""
    above_us = question.cost_us if better else found_us
    hosts = question.problem.hosts
    return {
        "bound_us": round(bound_us, 3),
        "found_us": round(found_us, 3),
        "gap": max(0.0, round(above_us / bound_us - 1, 6)) if bound_us > 0 else None,
        "better": {stream: [hosts[n].name for n in row] for stream, row in better.items()},
        "open": why,
    }


def _question(run: Path, record: Mapping[str, Any]) -> Question:
    chosen = _chosen(record)
    problem, snapshot = _known(run, record)
    table = tabulate(problem)
    rows = {stream: table.row(tuple(nodes)) for stream, nodes in chosen["nodes"].items()}
    looked = tuple(sorted(chosen["predicted"]))
    if not looked or set(rows) != set(table.streams) or not set(looked) <= set(rows):
        raise NotProvable("its policy does not say where it has every stream, and how fast")
    if not all(table.permits(stream, rows[stream]) for stream in looked):
        raise NotProvable("privacy, a pin or a veto forbids where a stream stays")
    forecast, weights = Forecast(table, snapshot), record.get("weights", {})
    latencies = forecast.latencies(rows, looked)
    if not all(_same(latency, chosen["predicted"][stream]) for stream, latency in latencies.items()):
        raise NotProvable("its predictions are not of what was seen, or expected: the policy reckons otherwise")
    sought, mine = _sought(record, table), {s: rows[s] for s in looked}
    stay = Outlook(forecast, weights, {s: row for s, row in rows.items() if s not in looked}).under
    return Question(
        problem, snapshot, looked, rows, weights, sought.total_us(table, forecast, mine, weights, stay), sought
    )


def _sought(record: Mapping[str, Any], table: Table) -> Sought:
    """What the decision minimised beside latency."""
    try:
        objective = Objective(**record.get("objective", {}))
    except TypeError as error:
        raise NotProvable("its objective is of another version of the testbed") from error
    if objective.utilisation_us:
        raise NotProvable("it sets a price on utilisation, which is not proven")
    before: Mapping[str, list[str]] = next((c["nodes"] for c in record["candidates"] if c["name"] == "keep"), {})
    return Sought(objective, {stream: table.row(tuple(nodes)) for stream, nodes in before.items()})


def _chosen(record: Mapping[str, Any]) -> Mapping[str, Any]:
    if record["action"] == "INFEASIBLE":
        raise NotProvable(f"nothing could be chosen: {record['reason']}")
    chosen: Mapping[str, Any] | None = next((c for c in record["candidates"] if not c["why_not"]), None)
    if chosen is None:
        raise NotProvable(f"it weighed nothing: {record['reason']}")
    if chosen.get("parts"):
        raise NotProvable("its layers are placed by parts")
    if any(parts["total_us"] >= UNREACHABLE_US for parts in chosen["predicted"].values()):
        raise NotProvable("a stream cannot be reached where it is")
    return chosen


def _known(run: Path, record: Mapping[str, Any]) -> tuple[Problem, Snapshot]:
    """The problem that was in force, and all that it was decided on."""
    if "state" not in record:
        raise NotProvable("the run is of an older version, its journal does not hold all that it was decided on")
    state = record["state"]
    if state is None:
        raise NotProvable("the network is too large, its journal does not hold all that it was decided on")
    try:
        plan = from_json((run / "plan.json").read_text())
        problem = wished(problem_of(plan), plan.policy_options)
    except OSError as error:
        raise NotProvable(f"the run's plan cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotProvable("the run's plan is of another version of the testbed") from error
    if len(state["up"]) != len(problem.hosts):
        raise NotProvable("the run's plan is not that of its journal")
    zones = {kind: frozenset(zones) for kind, zones in state["zones"].items()}
    return replace(problem, zones=zones), _snapshot(record, state)


def _snapshot(record: Mapping[str, Any], state: Mapping[str, Any]) -> Snapshot:
    def array(name: str) -> npt.NDArray[np.int64]:
        return np.array(state[name], dtype=np.int64)

    delay_us, rate_bps = _paths(state)
    return Snapshot(
        now_us=record["t_us"],
        nodes=NodeStates(array("up").astype(bool), array("load_ppm"), array("queue_us")),
        delay_us=delay_us,
        rate_bps=rate_bps,
        latency_us=record["seen"]["latency_us"],
    )


def _paths(state: Mapping[str, Any]) -> tuple[Paths, Paths]:
    if "site" not in state:
        return np.array(state["delay_us"], dtype=np.int64), np.array(state["rate_bps"], dtype=np.int64)
    sites = Sites(np.array(state["site"], dtype=np.intp))

    def sited(name: str, *, narrowest: bool) -> Sited:
        out, into, between = (np.array(state[name][part], dtype=np.int64) for part in ("out", "into", "between"))
        return Sited(sites, out, into, between, narrowest=narrowest)

    return sited("delay_us", narrowest=False), sited("rate_bps", narrowest=True)


def _same(latency: Latency, said: Mapping[str, int]) -> bool:
    """Whether a prediction is the journal's; sums in another order may be rounded otherwise."""
    return all(abs(getattr(latency, part) - said[part]) <= 1 for part in PARTS)
