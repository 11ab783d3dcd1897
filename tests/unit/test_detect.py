"""The rule of change detection, sample by sample."""

import dataclasses

import numpy as np
import pytest

from controller.detect import Detector, Rule, Series, observe
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream

RULE = Rule(windows=2, learn=3, cooldown_us=0)
BASE = [10_000] * 3


def fire_times(values, rule=RULE, series=None):
    """The positions that fired; None is a missing sample."""
    fired, series = [], series or Series()
    for position, value in enumerate(values):
        if value is not None:
            series, fires = observe(rule, series, position * 1_000_000, value)
            fired += [position] if fires else []
    return fired


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("19.9 %", [11_990] * 9, []),
        ("20.0 %", [12_000] * 9, [4]),
        ("20.1 %", [12_010] * 9, [4]),
        ("a spike", [90_000, 10_000, 90_000, 10_000, 90_000], []),
        ("missing between", [12_000, None, None, 12_000], [6]),
        ("missing does not arm again", [12_000, 12_000, None, 12_000, 12_000], [4]),
        ("a slow ramp", [10_000 + 100 * step for step in range(30)], [3 + 21]),
        ("stays: told once", [13_000] * 20, [4]),
        ("goes on rising: told again", [13_000] * 3 + [15_600] * 3, [4, 7]),
        ("back to +11 %: not armed", [13_000, 13_000, 11_100, 13_000, 13_000], [4]),
        ("back to +9 %: armed", [13_000, 13_000, 10_900, 13_000, 13_000], [4, 7]),
        ("falls, then rises to where it was", [7_000, 7_000, 10_000, 10_000], [6]),
        ("one low sample changes nothing", [7_000, 10_000, 10_000, 10_000], []),
    ],
)
def test_rule(name, values, expected):
    assert fire_times(BASE + values) == expected


def test_baseline_is_the_median():
    assert fire_times([10_000, 90_000, 10_000, 12_000, 12_000]) == [4]


def test_cooldown_delays_the_second_firing():
    rule = dataclasses.replace(RULE, cooldown_us=5_000_000)
    assert fire_times(BASE + [13_000] * 2 + [20_000] * 10, rule) == [4, 9]


def test_learning_lasts_as_long_as_it_is_quiet():
    quiet = Series(quiet_until_us=6_000_000)
    assert fire_times([50_000] * 4 + [10_000] * 3 + [12_000] * 2, series=quiet) == [8]


PROBLEM = Problem(
    hosts=(Host("ue", "z", 10**9, 1), Host("edge", "z", 10**9, 1), Host("far", "z", 10**9, 1)),
    models={"m": Model("m", (Block("a", 1, 1, 1),), 1)},
    streams=(Stream("s", "m", "ue", 1000),),
    sla=Sla(95, 1000, 1000),
)
ON_EDGE = {"s": ("edge",)}


def look_at(changed, detector=None, nodes=ON_EDGE):
    """Four calm periods, then four with what `changed` gives; the kinds and subjects that fired."""
    detector, fired = detector or Detector(PROBLEM, RULE), []
    for period in range(8):
        up = NodeState(True, 0, 0)
        scene = Snapshot(period * 1_000_000, (up, up, up), np.full((3, 3), 5000), np.full((3, 3), 10**8), {"s": 40_000})
        if period >= 4:
            scene = dataclasses.replace(scene, **changed(scene))
        fired += [(t.kind, t.subject) for t in detector.look(scene, nodes)]
    return fired


def one(array, i, j, value):
    array = array.copy()
    array[i, j] = value
    return array


def node(scene, n, state):
    return {"nodes": (*scene.nodes[:n], state, *scene.nodes[n + 1 :])}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lambda s: {}, []),
        (lambda s: {"delay_us": one(s.delay_us, 0, 1, 6000)}, [("link_latency", "ue->edge")]),
        (lambda s: {"delay_us": one(s.delay_us, 0, 2, 60_000)}, []),  # a path nobody uses
        (lambda s: {"rate_bps": one(s.rate_bps, 1, 0, 80_000_000)}, [("link_rate", "edge->ue")]),
        (lambda s: {"rate_bps": one(s.rate_bps, 0, 1, 0)}, [("link_rate", "ue->edge")]),
        (lambda s: {"latency_us": {"s": 48_000}}, [("end_to_end", "s")]),
        (lambda s: {"latency_us": {}}, []),
        (lambda s: node(s, 1, NodeState(True, 200_000, 0)), [("load", "edge")]),
        (lambda s: node(s, 1, NodeState(True, 150_000, 0)), []),
        (lambda s: node(s, 1, NodeState(False, 0, 0)), [("node_down", "edge")]),
        (lambda s: node(s, 2, NodeState(s.now_us != 5_000_000, 0, 0)), [("node_down", "far"), ("node_up", "far")]),
    ],
)
def test_what_is_watched(changed, expected):
    assert look_at(changed) == expected


def test_after_a_move_the_new_level_is_normal():
    detector = Detector(PROBLEM, RULE)
    assert look_at(lambda s: {"latency_us": {"s": 80_000}}, detector) == [("end_to_end", "s")]
    detector.relearn(0)
    assert look_at(lambda s: {}, detector) == []


NOISE = [10_000 + 10 * ((37 * n) % 101 - 50) for n in range(60)]  # up to 5 % around
CUSUM = dataclasses.replace(RULE, method="cusum")


@pytest.mark.parametrize(
    ("name", "values", "count", "cusum"),
    [
        ("19.9 %", [11_990] * 9, [], [5]),
        ("20.0 %", [12_000] * 9, [4], [4]),
        ("20.1 %", [12_010] * 9, [4], [4]),
        ("10.0 %", [11_000] * 60, [], []),
        ("11.0 %", [11_100] * 60, [], [3 + 19]),
        ("noise of 5 %", NOISE, [], []),
        ("noise of 5 % on a step of 30 %", [value + 3000 for value in NOISE], [4], [4]),
        ("noise of 5 % on a step of 18 %", [value + 1800 for value in NOISE[:10]], [], [6]),
        ("a spike", [90_000, *[10_000] * 9], [], []),
        ("every other a spike", [90_000, 10_000] * 9, [], []),
        ("two of three high", [13_000, 13_000, 11_000] * 3, [4], [4]),
        ("high, a little less, high", [13_000, 11_500, 13_000] * 3, [6], [5]),
        ("missing between", [12_000, None, None, 12_000], [6], [6]),
        ("all missing", [None] * 9, [], []),
        ("a slow ramp", [10_000 + 100 * step for step in range(30)], [3 + 21], [3 + 16]),
        ("a ramp that ends at 9 %", [min(10_000 + 100 * step, 10_900) for step in range(60)], [], []),
        ("stays: told once", [13_000] * 20, [4], [4]),
    ],
)
def test_both_methods(name, values, count, cusum):
    assert fire_times(BASE + values) == count
    assert fire_times(BASE + values, CUSUM) == cusum


@pytest.mark.parametrize("rule", [RULE, CUSUM], ids=["count", "cusum"])
def test_hysteresis_is_exact(rule):
    assert fire_times([*BASE, 13_000, 13_000, 11_000, 13_000, 13_000], rule) == [4]
    assert fire_times([*BASE, 13_000, 13_000, 10_999, 13_000, 13_000], rule) == [4, 7]


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_windows_is_how_many_it_takes(windows):
    for rule in (RULE, CUSUM):
        assert fire_times(BASE + [12_000] * 9, dataclasses.replace(rule, windows=windows)) == [2 + windows]
