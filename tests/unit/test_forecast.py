"""Forecasts of many series at once."""

import numpy as np
import pytest

from controller.forecast import FORECASTERS, Holt, Learned, Persistence


def fed(forecaster, rows):
    for row in rows:
        forecaster.ahead(3) if row is not rows[0] else None
        forecaster.observe(np.array(row, dtype=float))
    return forecaster


@pytest.mark.parametrize("name", FORECASTERS)
def test_what_stands_still_is_expected_to_stay(name: str) -> None:
    forecaster = fed(FORECASTERS[name](), [[5.0, -2.0, 0.0]] * 40)
    assert forecaster.ahead(3) == pytest.approx([5.0, -2.0, 0.0])


def test_persistence_says_the_last_sample() -> None:
    assert fed(Persistence(), [[1.0], [7.0]]).ahead(9).tolist() == [7.0]


def test_holt_follows_a_ramp_and_lets_its_trend_die_out() -> None:
    forecaster = fed(Holt(), [[float(n), 3.0] for n in range(50)])
    near, far, farther = (forecaster.ahead(n)[0] for n in (1, 5, 500))
    assert 49.0 < near < far < farther < 49 + 1 / (1 - 0.9)
    assert forecaster.ahead(5)[1] == 3.0


def test_holt_by_hand() -> None:
    """level 0.6 * 20 + 0.4 * 10 = 16; trend 0.2 * 6 = 1.2; in one period 16 + 0.9 * 1.2, in two 0.81 * 1.2 more."""
    assert fed(Holt(), [[10.0], [20.0]]).ahead(2) == pytest.approx([16 + (0.9 + (0.9 + 0.81)) / 2 * 1.2])


def test_learned_finds_a_rhythm_that_the_others_do_not_see() -> None:
    """A saw of four periods: 0, 1, 2, 3, 0, ...; the mean of the next three is the sum of the others over three."""
    rows = [[float(n % 4), float((n + 2) % 4)] for n in range(120)]
    wanted = [(6 - row) / 3 for row in rows[-1]]
    learned, persistence = fed(Learned(ridge=1e-6), rows).ahead(3), fed(Persistence(), rows).ahead(3)
    assert learned == pytest.approx(wanted, abs=0.02)
    assert np.abs(persistence - wanted).max() > 0.5


def test_learned_says_what_persistence_says_until_it_has_seen_enough() -> None:
    assert fed(Learned(), [[1.0], [4.0], [2.0]]).ahead(3).tolist() == [2.0]


def test_the_same_samples_give_the_same_forecast() -> None:
    rows = np.random.default_rng(3).normal(size=(60, 5)).tolist()
    for make in FORECASTERS.values():
        assert fed(make(), rows).ahead(3).tolist() == fed(make(), rows).ahead(3).tolist()
