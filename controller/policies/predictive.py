"""`joint`, looking a few seconds ahead: it decides on the rates, delays and loads that are expected, not the last ones.

Each period the forecaster sees the rate and delay of every path and the load of every node. When the mean time that a
megabyte takes on a path in use is expected to rise by `rise` within `ahead_s`, that is a trigger like a measured one;
`joint` then decides, gain and cost alike, on the expected snapshot. What is down now is not expected to be up.
Options beside joint's: forecast persistence|holt|learned (holt), ahead_s 5, rise 0.2; recoveries true|false, whether a
rate may be expected to be higher than it is (of holt true, of learned false: it expects every outage to end at once,
and waiting for one that does not costs more than waiting to see it end); `oracle`, a function from a time and a length
in microseconds to the snapshot that will be, for studies that know the future.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from controller.forecast import FORECASTERS, Floats
from controller.model import Decision, NodeState, Placement, Problem, Snapshot, Trigger
from controller.policies.joint import Joint
from controller.policies.start import BadOption, number

LEAST_BPS = 8000  # a rate of nothing has no logarithm
PPM = 1_000_000
Oracle = Callable[[int, int], Snapshot]


class Predictive:
    """Deterministic; remembers what it has observed, and what `joint` remembers."""

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        self._problem = problem
        self._joint = Joint(problem, options)
        self._index = {host.name: n for n, host in enumerate(problem.hosts)}
        self._source = {stream.name: stream.source for stream in problem.streams}
        self._ahead_us = round(number(options, "ahead_s", 5) * 1e6)
        self._rise = number(options, "rise", 0.2)
        self._forecaster = FORECASTERS[_named(options)]()
        self._recoveries = bool(options.get("recoveries", _named(options) != "learned"))
        self._oracle: Oracle | None = options.get("oracle")
        self._before_us: int | None = None

    def start(self, snapshot: Snapshot) -> Decision:
        self._see(snapshot)
        return self._joint.start(snapshot)

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        expected = self._expected(snapshot)
        foreseen = tuple(self._foreseen(snapshot, expected, current))
        decision = self._joint.decide(expected, current, (*triggers, *foreseen))
        return decision if expected is snapshot else replace(decision, expected=expected)

    def _expected(self, snapshot: Snapshot) -> Snapshot:
        period_us = self._see(snapshot)
        if self._oracle is not None:
            return replace(self._oracle(snapshot.now_us, self._ahead_us), latency_us=snapshot.latency_us)
        if not period_us:
            return snapshot
        expected = _with(snapshot, self._forecaster.ahead(max(1, round(self._ahead_us / period_us))))
        if self._recoveries:
            return expected
        return replace(expected, rate_bps=np.minimum(expected.rate_bps, snapshot.rate_bps))

    def _see(self, snapshot: Snapshot) -> int:
        """The time since the snapshot before, 0 for the first."""
        self._forecaster.observe(_values(snapshot))
        period_us = 0 if self._before_us is None else snapshot.now_us - self._before_us
        self._before_us = snapshot.now_us
        return period_us

    def _foreseen(self, now: Snapshot, expected: Snapshot, current: Placement) -> list[Trigger]:
        """Paths in use that are expected to get slower by the rule of change detection."""
        found: dict[str, Trigger] = {}
        for stream, nodes in sorted(current.nodes.items()):
            stops = (self._source[stream], *nodes, self._source[stream])
            for a, b in pairwise(stops):
                i, j = self._index[a], self._index[b]
                rate, then = int(now.rate_bps[i, j]), int(expected.rate_bps[i, j])
                if i != j and rate >= then * (1 + self._rise) and rate > 0:
                    subject = f"{a}->{b} expected"
                    found[subject] = Trigger("link_rate", subject, float(then), float(rate))
        return list(found.values())


def _named(options: Mapping[str, Any]) -> str:
    name = options.get("forecast", "holt")
    if name not in FORECASTERS:
        raise BadOption(f"policy option forecast: {name!r}; one of {', '.join(FORECASTERS)} is right")
    return str(name)


def _values(snapshot: Snapshot) -> Floats:
    """One row: log rates, log delays, loads."""
    loads = np.array([min(state.load_ppm, PPM) / PPM for state in snapshot.nodes])
    rates = np.log(np.maximum(snapshot.rate_bps, LEAST_BPS)).ravel()
    return np.concatenate((rates, np.log1p(np.maximum(snapshot.delay_us, 0)).ravel(), loads))


def _with(snapshot: Snapshot, values: Floats) -> Snapshot:
    """The snapshot with what is expected; a path that does not exist stays so, an unchanging one keeps its numbers."""
    size = len(snapshot.nodes)
    rates = np.rint(np.exp(values[: size * size])).reshape(size, size).astype(np.int64)
    delays = np.rint(np.expm1(values[size * size : -size])).reshape(size, size).astype(np.int64)
    nodes = tuple(
        NodeState(state.up, round(min(max(load, 0.0), 1.0) * PPM), state.queue_us)
        for state, load in zip(snapshot.nodes, values[-size:], strict=True)
    )
    return replace(
        snapshot,
        nodes=nodes,
        rate_bps=np.where(np.asarray(snapshot.rate_bps) > 0, rates, snapshot.rate_bps),
        delay_us=np.where(np.asarray(snapshot.delay_us) >= 0, delays, snapshot.delay_us),
    )
