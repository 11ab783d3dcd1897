"""Change detection: every path in use, every node that serves, and end to end, by the rule of `controller.rule`.

Everything watched is a time, so that one rule serves all:
  link_latency  the delay of a path that a stream uses
  link_rate     the time a megabyte takes on it, so +20 % is a rate down by a sixth
  end_to_end    the measured percentile of a stream
  load          the stretch 1 / (1 - load) of work on a node that serves

What cannot be measured in a window is a missing sample: a stream without requests, the delay of a path that is gone,
the load of a node that is down. After a move everything learns anew. Nodes that go down or come up are told at once.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Literal

import numpy as np

from controller.bank import Bank, Integers
from controller.model import NodeStates, Problem, Snapshot, Trigger
from controller.rule import PPM, Rule, Series, observe
from controller.table import REMEMBERED

__all__ = ["LEAST", "Detector", "Rule", "Series", "observe"]

Timed = Literal["link_latency", "link_rate", "end_to_end", "load"]
Key = tuple[Timed, str]
Nodes = Mapping[str, tuple[str, ...]]
MEGABYTE_NS = 8 * 10**15  # nanoseconds that a megabyte takes at 1 bit/s
LEAST: Mapping[Timed, int] = {"link_latency": 200, "end_to_end": 1000, "load": 0, "link_rate": 0}


@lru_cache(REMEMBERED)
def visited(row: tuple[str, ...]) -> tuple[str, ...]:
    """The nodes of a row, one after the other."""
    return tuple([name for name, _ in groupby(row)])


@lru_cache(REMEMBERED)
def carried(source: str, row: tuple[str, ...]) -> tuple[tuple[str, tuple[str, str]], ...]:
    """The paths of a row from its phone and back to it: the name, and both ends."""
    return tuple([("->".join(way), way) for way in pairwise((source, *visited(row), source)) if way[0] != way[1]])


class Watch:
    """What is watched of one placement: the series in order of kind and name, and where their samples are found."""

    def __init__(self, source: Mapping[str, str], index: Mapping[str, int], nodes: Nodes) -> None:
        ends = dict[str, tuple[str, str]]()
        for stream, row in nodes.items():
            ends.update(carried(source[stream], row))
        paths, serving = sorted(ends), sorted(set().union(*map(visited, nodes.values())))
        self.streams = sorted(nodes)
        self.subjects: dict[Timed, list[str]] = {"end_to_end": self.streams, "link_latency": paths}
        self.subjects |= {"link_rate": paths, "load": serving}  # in order of the kinds
        self._from, self._to = (np.array([index[ends[path][end]] for path in paths], dtype=np.intp) for end in (0, 1))
        self._serving = np.array([index[name] for name in serving], dtype=np.intp)

    def least(self) -> list[int]:
        """(M,) of each series."""
        return [LEAST[kind] for kind, subjects in self.subjects.items() for _ in subjects]

    def key(self, k: int) -> Key:
        """What the k-th series is of."""
        for kind, subjects in self.subjects.items():
            if k < len(subjects):
                return kind, subjects[k]
            k -= len(subjects)
        raise IndexError(k)

    def places_in(self, other: "Watch") -> Integers:
        """(M,) where the series of this are in another watch, -1: nowhere."""
        found, begin = list[Integers](), 0
        for kind, subjects in self.subjects.items():
            there = other.subjects[kind]
            if kind == "link_rate":  # its paths are those of the latencies
                places = found[-1]
                found.append(np.where(places >= 0, places + len(there), -1))
            elif subjects == there:
                found.append(np.arange(begin, begin + len(there)))
            else:
                known = {subject: k for k, subject in enumerate(there, begin)}
                found.append(np.array([known.get(subject, -1) for subject in subjects], dtype=np.int64))
            begin += len(there)
        return np.concatenate(found)

    def samples(self, snapshot: Snapshot, states: NodeStates) -> Integers:
        """(M,) in the order of the keys; a missing one is -1."""
        end_to_end = np.array([snapshot.latency_us.get(stream, -1) for stream in self.streams], dtype=np.int64)
        rate, delay = (np.asarray(paths[self._from, self._to]) for paths in (snapshot.rate_bps, snapshot.delay_us))
        latency = np.where(rate > 0, delay, -1)
        load = PPM * PPM // (PPM - np.minimum(states.load_ppm[self._serving], PPM - 1000))
        load = np.where(states.up[self._serving], load, -1)
        return np.concatenate((end_to_end, latency, MEGABYTE_NS // np.maximum(rate, 1), load)).astype(np.int64)


class Detector:
    """All series of a run; time comes with the snapshot."""

    def __init__(self, problem: Problem, rule: Rule | None = None) -> None:
        self._problem = problem
        self._rule = rule or Rule()
        self._index = {host.name: n for n, host in enumerate(problem.hosts)}
        self._source = {stream.name: stream.source for stream in problem.streams}
        self._quiet_until_us = 0
        self._up: np.typing.NDArray[np.bool_] | None = None
        self._nodes: Nodes = {}
        self._watch = Watch(self._source, self._index, {})
        self._bank = Bank(self._rule, [], 0)

    def relearn(self, now_us: int) -> None:
        """To be called after a move: what was normal is no longer."""
        self._quiet_until_us = now_us + self._rule.cooldown_us
        self._nodes = {}
        self._watch = Watch(self._source, self._index, {})
        self._bank = Bank(self._rule, [], self._quiet_until_us)

    def look(self, snapshot: Snapshot, nodes: Nodes) -> tuple[Trigger, ...]:
        """What changed, for the placement `nodes` that serves now; nodes first, then by kind and name."""
        states = NodeStates.of(snapshot.nodes)
        told = self._ups_and_downs(states)
        if nodes != self._nodes:
            self._turn_to(nodes)
        values, before = self._watch.samples(snapshot, states), self._bank.baseline.copy()
        for k in np.flatnonzero(self._bank.step(snapshot.now_us, values)).tolist():
            kind, subject = self._watch.key(k)
            told.append(Trigger(kind, subject, _shown(kind, int(values[k])), _shown(kind, int(before[k]))))
        return tuple(told)

    def _turn_to(self, nodes: Nodes) -> None:
        """Other streams or nodes are watched; what was watched already goes on."""
        watch = Watch(self._source, self._index, nodes)
        bank = Bank(self._rule, watch.least(), self._quiet_until_us)
        there = watch.places_in(self._watch)
        bank.take(self._bank, np.flatnonzero(there >= 0), there[there >= 0])
        self._nodes, self._watch, self._bank = dict(nodes), watch, bank

    def _ups_and_downs(self, states: NodeStates) -> list[Trigger]:
        before, self._up = self._up, states.up.copy()
        if before is None:
            return []
        changed = np.flatnonzero(before != states.up).tolist()
        return [
            Trigger("node_up" if up else "node_down", self._problem.hosts[n].name, float(up), float(not up))
            for n, up in ((n, bool(states.up[n])) for n in changed)
        ]


def _shown(kind: Timed, value: int) -> float:
    """What a reader wants to see: bit/s, share of load, or the microseconds themselves."""
    if kind == "link_rate":
        return float(MEGABYTE_NS // max(value, 1))
    if kind == "load":
        return round(1 - PPM / max(value, PPM), 6)
    return float(value)
