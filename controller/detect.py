"""Change detection: what got at least 20 % slower, and stayed so. Every path in use, and end to end.

Everything watched is a time, so that one rule serves all:
  link_latency  the delay of a path that a stream uses
  link_rate     the time a megabyte takes on it, so +20 % is a rate down by a sixth
  end_to_end    the measured percentile of a stream
  load          the stretch 1 / (1 - load) of work on a node that serves

The rule for one series, given one sample a window:
  1. *Learning*: the baseline is the median of the last `learn` samples, fixed as soon as there are that many and
     no quiet time runs. A baseline never rises by itself, so a slow ramp is found like a step.
  2. *Calm*: a sample is high when it is >= baseline * (1 + rise), and above it by `least` at least. `windows` high
     samples one after another fire. As many samples <= baseline * (1 - rise) fix the baseline again, lower.
  3. *Raised*: after firing it is armed again by one sample < baseline * (1 + rise - hysteresis). Until then it
     fires again only when the level at which it last fired is exceeded by the same rule.
  4. After a firing the series is quiet for `cooldown_us`; high samples are counted then, firing waits.
  5. A missing sample changes nothing. After a move all series learn again, quiet for `cooldown_us`.
Comparisons are of integers: exactly 20 % fires. Nodes that go down or come up are told at once, every time.

The method `cusum` (Page 1954, one-sided, bounded) replaces the count in 2. and 3. by a sum: each sample adds what it is
above the reference in parts of it, less `drift`, but not more than rise - drift; the sum is never below 0 and fires at
windows * (rise - drift). So a step of `rise` fires as soon as by the count, one of more than `drift` later, one
of up to `drift` never; a spike cannot fire alone; a low sample between high ones takes back, it does not start anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from controller.model import Problem, Snapshot, Trigger

PPM = 1_000_000
MEGABYTE_NS = 8 * 10**15  # nanoseconds that a megabyte takes at 1 bit/s

Timed = Literal["link_latency", "link_rate", "end_to_end", "load"]


@dataclass(frozen=True, slots=True)
class Rule:
    rise_ppm: int = 200_000
    hysteresis_ppm: int = 100_000
    windows: int = 2
    learn: int = 3
    cooldown_us: int = 5_000_000
    method: Literal["count", "cusum"] = "count"
    drift_ppm: int = 100_000  # cusum only, below rise_ppm


@dataclass(frozen=True, slots=True)
class Series:
    """The state of one watched time; a new value for every sample."""

    quiet_until_us: int = 0
    learned: tuple[int, ...] = ()  # the last samples, while there is no baseline
    baseline: int | None = None
    level: int | None = None  # at which it last fired; None: calm
    high: int = 0  # high samples in a row; of cusum the sum in ppm
    low: tuple[int, ...] = ()  # low samples in a row


def observe(rule: Rule, series: Series, now_us: int, value: int, least: int = 0) -> tuple[Series, bool]:
    """One sample: the new state, and whether it fired."""
    quiet = now_us < series.quiet_until_us
    baseline = series.baseline
    if baseline is None:
        learned = (*series.learned, value)[-rule.learn :]
        if quiet or len(learned) < rule.learn:
            return replace(series, learned=learned), False
        return Series(series.quiet_until_us, baseline=sorted(learned)[len(learned) // 2]), False
    if series.level is not None and value * PPM < baseline * (PPM + rule.rise_ppm - rule.hysteresis_ppm):
        series = replace(series, level=None, high=0)
    if value * PPM <= baseline * (PPM - rule.rise_ppm):
        return _fallen(rule, series, value), False
    reference = baseline if series.level is None else series.level
    high, enough = _evidence(rule, series.high, reference, value, least)
    if high >= enough and not quiet:
        return replace(series, level=value, high=0, low=(), quiet_until_us=now_us + rule.cooldown_us), True
    return replace(series, high=high, low=()), False


def _evidence(rule: Rule, high: int, reference: int, value: int, least: int) -> tuple[int, int]:
    """(the evidence of a rise with this sample, how much fires)."""
    if rule.method == "count":
        above = value * PPM >= reference * (PPM + rule.rise_ppm) and value - reference >= least
        return high + 1 if above else 0, rule.windows
    step = rule.rise_ppm - rule.drift_ppm
    part = (value - reference) * PPM // max(reference, 1) - rule.drift_ppm
    part = min(part, step if value - reference >= least else 0)
    return min(max(high + part, 0), rule.windows * step), rule.windows * step


def _fallen(rule: Rule, series: Series, value: int) -> Series:
    low = (*series.low, value)
    if len(low) < rule.windows:
        return replace(series, high=0, low=low)
    return Series(series.quiet_until_us, baseline=sorted(low)[len(low) // 2])


LEAST: Mapping[Timed, int] = {"link_latency": 200, "end_to_end": 1000, "load": 0, "link_rate": 0}


class Detector:
    """All series of a run. Its memory is a dict of frozen states; time comes with the snapshot."""

    def __init__(self, problem: Problem, rule: Rule | None = None) -> None:
        self._problem = problem
        self._rule = rule or Rule()
        self._index = {host.name: n for n, host in enumerate(problem.hosts)}
        self._source = {stream.name: stream.source for stream in problem.streams}
        self._series: dict[tuple[Timed, str], Series] = {}
        self._up: tuple[bool, ...] | None = None
        self._quiet_until_us = 0

    def relearn(self, now_us: int) -> None:
        """To be called after a move: what was normal is no longer."""
        self._series.clear()
        self._quiet_until_us = now_us + self._rule.cooldown_us

    def look(self, snapshot: Snapshot, nodes: Mapping[str, tuple[str, ...]]) -> tuple[Trigger, ...]:
        """What changed, for the placement `nodes` that serves now; nodes first, then by kind and name."""
        fired = list(self._ups_and_downs(snapshot))
        for (kind, subject), value in sorted(self._samples(snapshot, nodes).items()):
            before = self._series.get((kind, subject), Series(self._quiet_until_us))
            after, fires = observe(self._rule, before, snapshot.now_us, value, LEAST[kind])
            self._series[kind, subject] = after
            if fires and before.baseline is not None:
                fired.append(Trigger(kind, subject, _shown(kind, value), _shown(kind, before.baseline)))
        return tuple(fired)

    def _ups_and_downs(self, snapshot: Snapshot) -> list[Trigger]:
        ups = tuple(state.up for state in snapshot.nodes)
        before, self._up = self._up or ups, ups
        return [
            Trigger("node_up" if now else "node_down", host.name, float(now), float(was))
            for host, was, now in zip(self._problem.hosts, before, ups, strict=True)
            if was != now
        ]

    def _samples(self, snapshot: Snapshot, nodes: Mapping[str, tuple[str, ...]]) -> dict[tuple[Timed, str], int]:
        """What can be measured now; a node that is down and an unknown value are missing."""
        samples: dict[tuple[Timed, str], int] = {}
        for stream, row in nodes.items():
            if stream in snapshot.latency_us:
                samples["end_to_end", stream] = snapshot.latency_us[stream]
            stops = (self._source[stream], *row, self._source[stream])
            for a, b in pairwise(stops):
                if a != b:
                    self._sample_path(snapshot, a, b, samples)
            for name in set(row):
                state = snapshot.nodes[self._index[name]]
                if state.up:
                    samples["load", name] = PPM * PPM // (PPM - min(state.load_ppm, PPM - 1000))
        return samples

    def _sample_path(self, snapshot: Snapshot, a: str, b: str, samples: dict[tuple[Timed, str], int]) -> None:
        i, j = self._index[a], self._index[b]
        rate, delay = int(snapshot.rate_bps[i, j]), int(snapshot.delay_us[i, j])
        samples["link_rate", f"{a}->{b}"] = MEGABYTE_NS // max(rate, 1)
        if rate > 0 and delay >= 0:
            samples["link_latency", f"{a}->{b}"] = delay


def _shown(kind: Timed, value: int) -> float:
    """What a reader wants to see: bit/s, share of load, or the microseconds themselves."""
    if kind == "link_rate":
        return float(MEGABYTE_NS // max(value, 1))
    if kind == "load":
        return round(1 - PPM / max(value, PPM), 6)
    return float(value)
