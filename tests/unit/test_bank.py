"""Many series at once give what the rule says for each by itself."""

import dataclasses

import numpy as np
import pytest

from controller.bank import Bank
from controller.rule import Rule, Series, observe

SECOND = 1_000_000
RULES = [
    Rule(cooldown_us=0),
    Rule(),
    Rule(windows=1, learn=1, cooldown_us=2 * SECOND),
    Rule(method="cusum", cooldown_us=0),
    Rule(method="cusum", windows=3, learn=5, drift_ppm=50_000),
]


def worlds(count, windows, seed):
    """(windows, count) samples, -1 where missing: noise, steps, ramps, spikes and pauses on levels of all sizes."""
    draw = np.random.default_rng(seed)
    level = 10 ** draw.uniform(0, 9, count)
    noise = 1 + draw.choice([0, 0.02, 0.3], count) * draw.standard_normal((windows, count))
    step = 1 + draw.choice([-0.5, -0.2, 0.199, 0.2, 0.201, 3], count) * (
        np.arange(windows)[:, None] >= draw.integers(0, windows, count)
    )
    ramp = 1 + draw.choice([0, 0, 0.01], count) * np.arange(windows)[:, None]
    spike = 1 + 9 * (draw.random((windows, count)) < 0.03)
    values = np.maximum(level * noise * step * ramp * spike, 0).astype(np.int64)
    return np.where(draw.random((windows, count)) < 0.1, -1, values)


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_the_same_fires_at_the_same_time(rule):
    count, windows = 60, 50
    values, least = worlds(count, windows, 7), [0, 200] * (count // 2)
    bank, series, fired = Bank(rule, least, 4 * SECOND), [Series(4 * SECOND)] * count, 0
    for window, row in enumerate(values):
        now, expected = window * SECOND, []
        for k, value in enumerate(row.tolist()):
            if value >= 0:
                series[k], fires = observe(rule, series[k], now, value, least[k])
                expected += [k] if fires else []
        assert np.flatnonzero(bank.step(now, row)).tolist() == expected
        assert bank.baseline.tolist() == [-1 if s.baseline is None else s.baseline for s in series]
        fired += len(expected)
    assert fired > 20


@pytest.mark.parametrize(("value", "fires"), [(11_990, 0), (12_000, 1), (12_010, 1)])
def test_a_fifth_more_fires_in_ten_thousand_series_at_once(value, fires):
    bank = Bank(Rule(cooldown_us=0), [0] * 10_000, 0)
    total = sum(bank.step(t, np.full(10_000, 10_000 if t < 3 else value)).sum() for t in range(9))
    assert total == 10_000 * fires


def test_what_is_watched_already_goes_on_in_another_bank():
    rule = dataclasses.replace(RULES[0])
    old, new = Bank(rule, [0, 0], 0), Bank(rule, [0, 0, 0], 0)
    for t in range(4):
        old.step(t, np.array([10_000, 500]))
    new.take(old, np.array([2]), np.array([0]))
    assert new.baseline.tolist() == [-1, -1, 10_000]
    high = np.array([-1, -1, 12_000])
    assert not new.step(4, high).any() and new.step(5, high).tolist() == [False, False, True]
