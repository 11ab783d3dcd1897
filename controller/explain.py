"""A decision as the journal holds it: what was seen, what triggered, what was weighed, and why. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from controller.cost import UNREACHABLE_US
from controller.model import Candidate, Decision, Latency, NodeStates, Problem, Snapshot
from controller.sited import Paths, Sited

MOST = 25_000  # delays and rates between hosts, or sites: more of them are too many for a journal


def recorded(problem: Problem, snapshot: Snapshot, decision: Decision) -> dict[str, Any]:
    """The fields of a `decision` record that come from the decision itself."""
    decided_on, used = decision.expected or snapshot, _used(problem, decision)
    latency_us = {stream: int(us) for stream, us in sorted(snapshot.latency_us.items())}
    return {
        "action": decision.action,
        "reason": decision.reason,
        "triggers": [asdict(trigger) for trigger in decision.triggers],
        "seen": {**_known(problem, snapshot, used), "latency_us": latency_us},
        "expected": _known(problem, decision.expected, used) if decision.expected else None,
        "candidates": [_candidate(candidate) for candidate in decision.candidates],
        "epoch": decision.placement.epoch,
        "lower_bound_us": decision.lower_bound_us,
        "gap": gap(decision),
        "weights": dict(decision.weights),
        "objective": dict(decision.objective),
        "state": _state(problem, decided_on),
    }


def gap(decision: Decision) -> float | None:
    """How far the chosen candidate is above the lower bound, as a share; None if either is not known or nothing can be.

    Of streams placed by parts it is what their policies minimise: waiting is not in it, the share of the moves is.
    """
    chosen = next((c for c in decision.candidates if not c.why_not), None)
    if chosen is None or decision.lower_bound_us <= 0 or decision.action == "INFEASIBLE":
        return None
    total, rounded = chosen.weighted_us, 1
    if total is None:  # each prediction is rounded in four parts
        total = sum(latency.total_us for latency in chosen.predicted.values())
        rounded = 2 * len(chosen.predicted) + 1
    if total >= UNREACHABLE_US:
        return None
    total += sum(parts.weighed_us - chosen.predicted[stream].queue_us for stream, parts in chosen.parts.items())
    rounding = decision.lower_bound_us - rounded <= total < decision.lower_bound_us
    return 0.0 if rounding else round(total / decision.lower_bound_us - 1, 6)


def _used(problem: Problem, decision: Decision) -> tuple[list[str], list[tuple[str, str]]]:
    """The nodes and paths that the candidates use."""
    nodes = sorted({name for nodes in _placements(decision) for row in nodes.values() for name in row})
    return nodes, sorted(set(_paths(problem, decision)))


def _known(problem: Problem, snapshot: Snapshot, used: tuple[list[str], list[tuple[str, str]]]) -> dict[str, Any]:
    """What was known of these nodes and paths."""
    index, (nodes, pairs) = {host.name: n for n, host in enumerate(problem.hosts)}, used
    return {
        "nodes": [{"node": name, **asdict(snapshot.nodes[index[name]])} for name in nodes],
        "paths": [
            {
                "from": a,
                "to": b,
                "delay_us": int(snapshot.delay_us[index[a], index[b]]),
                "rate_bps": int(snapshot.rate_bps[index[a], index[b]]),
            }
            for a, b in pairs
        ],
    }


def _state(problem: Problem, snapshot: Snapshot) -> dict[str, Any] | None:
    """All that it was decided on, zones too: from it any placement can be reckoned later. None: it is too large."""
    paths = _whole(snapshot.delay_us, snapshot.rate_bps)
    if paths is None:
        return None
    states = NodeStates.of(snapshot.nodes)
    return {
        "up": states.up.tolist(),
        "load_ppm": states.load_ppm.tolist(),
        "queue_us": states.queue_us.tolist(),
        **paths,
        "zones": {kind: sorted(zones) for kind, zones in sorted(problem.zones.items())},
    }


def _whole(delay_us: Paths, rate_bps: Paths) -> dict[str, Any] | None:
    """From each host to each; or by sites (`controller.sited`), where hosts share the paths of theirs."""
    if isinstance(delay_us, Sited) and isinstance(rate_bps, Sited) and delay_us.sites is rate_bps.sites:
        if 2 * delay_us.between.size > MOST:
            return None
        told: dict[str, Any] = {
            name: {part: getattr(paths, part).tolist() for part in ("out", "into", "between")}
            for name, paths in (("delay_us", delay_us), ("rate_bps", rate_bps))
        }
        return {"site": delay_us.sites.at.tolist(), **told}
    delays, rates = np.asarray(delay_us, dtype=np.int64), np.array(rate_bps, dtype=np.int64)
    np.fill_diagonal(rates, 0)  # it says nothing, and may be long
    return None if 2 * delays.size > MOST else {"delay_us": delays.tolist(), "rate_bps": rates.tolist()}


def _placements(decision: Decision) -> tuple[Mapping[str, tuple[str, ...]], ...]:
    """What was weighed, and what serves."""
    return (decision.placement.nodes, *(candidate.nodes for candidate in decision.candidates))


def _paths(problem: Problem, decision: Decision) -> Iterator[tuple[str, str]]:
    source = {stream.name: stream.source for stream in problem.streams}
    for nodes in _placements(decision):
        for stream, row in nodes.items():
            stops = (source[stream], *row, source[stream])
            yield from ((a, b) for a, b in pairwise(stops) if a != b)


def _candidate(candidate: Candidate) -> dict[str, Any]:
    shown = asdict(candidate)
    shown["nodes"] = {stream: list(row) for stream, row in candidate.nodes.items()}
    shown["predicted"] = {stream: _parts(latency) for stream, latency in candidate.predicted.items()}
    return shown


def _parts(latency: Latency) -> dict[str, int]:
    return {**asdict(latency), "total_us": latency.total_us}
