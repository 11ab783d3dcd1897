from dataclasses import replace
from random import Random

import pytest

from testbed.trace.fit import OUTAGE, agreement, autocorrelation, fit, groups, long_draw
from testbed.trace.formats import TraceError
from testbed.trace.regimes import Regime, RegimeCard, card_from_json, card_to_json, generate, quantile
from testbed.trace.series import Series, statistics

# Two regimes and outages of known dwell; delay goes with the rate.
KNOWN = RegimeCard(
    3,
    8000,
    1000,
    (
        Regime(
            "fast",
            (20.0, 30.0, 40.0),
            {"slow": 0.8, "dead": 0.2},
            {"rate_bps": (80 * 10**6, 120 * 10**6), "delay_us": (8000,)},
        ),
        Regime("slow", (10.0, 20.0), {"fast": 1.0}, {"rate_bps": (10 * 10**6, 14 * 10**6), "delay_us": (30_000,)}),
        Regime("dead", (4.0,), {"slow": 1.0}, {"rate_bps": (0,), "delay_us": (90_000,)}),
    ),
    {"rate_bps": 0.8, "delay_us": 0.0},
)


def test_a_fit_finds_what_was_put_in():
    recorded = generate(KNOWN)
    card = fit([recorded], 1000, levels=2)
    found = {regime.name: regime for regime in card.regimes}
    assert set(found) == {OUTAGE, "level 1", "level 2"}
    assert found[OUTAGE].dwells == (4.0,) * len(found[OUTAGE].dwells)
    assert found[OUTAGE].values == {"rate_bps": (0,) * 32, "delay_us": (90_000,) * 32}
    fast, slow = found["level 2"], found["level 1"]
    assert sum(fast.dwells) / len(fast.dwells) == pytest.approx(30, rel=0.1)
    assert sum(slow.dwells) / len(slow.dwells) == pytest.approx(15, rel=0.15)
    assert fast.next[OUTAGE] / sum(fast.next.values()) == pytest.approx(0.2, abs=0.06)
    assert set(found[OUTAGE].next) == {"level 1"}
    assert sum(fast.values["rate_bps"]) / 32 == pytest.approx(100e6, rel=0.1)
    assert fast.values["delay_us"][16] == 8000
    assert slow.values["delay_us"][16] == 30_000


def test_what_a_fit_draws_agrees_with_what_was_recorded():
    recorded = [generate(replace(KNOWN, seed=seed, duration_s=2500)) for seed in (3, 4)]
    card = fit(recorded, 1000, levels=2)
    told = agreement(recorded, long_draw(card), "rate_bps", 1000)
    assert told.distance < 0.06
    assert told.outage is not None
    was, now = told.outage
    assert was == pytest.approx(now, abs=0.01)
    assert all(abs(was - now) < 0.15 for was, now in told.correlation.values())
    for percent in (5, 25, 75, 95):
        was, now = told.quantiles[percent]
        assert now == pytest.approx(was, rel=0.15)
    assert agreement(recorded, long_draw(card), "delay_us", 1000).outage is None


def test_the_same_card_draws_the_same_and_another_seed_another():
    card = card_from_json(card_to_json(KNOWN))
    assert card == KNOWN
    assert generate(card) == generate(KNOWN) != generate(replace(KNOWN, seed=5))
    assert generate(card).recorded == "generated"
    assert statistics(generate(card), "rate_bps").zero_share > 0


def test_delays_of_recordings_of_their_own_go_with_every_regime():
    rates = Series(
        "r", tuple(range(0, 60 * 10**6, 10**6)), 60 * 10**6, {"up_bps": tuple(10**6 * (1 + i % 7) for i in range(60))}
    )
    pings = Series("p", (0, 10**6), 2 * 10**6, {"delay_us": (10, 20)})
    card = fit([rates, pings], levels=2)
    assert {regime.values["delay_us"] for regime in card.regimes} == {(10, 20)}
    assert card.fitted["delay"] == "of recordings of their own, apart from the rate"


@pytest.mark.parametrize(
    ("columns", "why"),
    [({"delay_us": (1,) * 50}, "no recording has a rate"), ({"up_bps": (1,) * 3}, "too few")],
)
def test_what_cannot_be_fitted_is_refused(columns, why):
    count = len(next(iter(columns.values())))
    with pytest.raises(TraceError, match=why):
        fit([Series("x", tuple(i * 10**6 for i in range(count)), count * 10**6, columns)])


def test_groups_keep_the_mean_and_tables_their_quantiles():
    chance = Random(1)
    values = [chance.expovariate(1) for _ in range(101)]
    assert sum(groups(values)) / 32 == pytest.approx(sum(values) / 101)
    assert groups([3, 1, 2]) == [1, 2, 3]
    assert [quantile((10, 20), share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [10, 10, 15, 20, 20]


def test_autocorrelation_stays_inside_its_parts():
    assert autocorrelation([[1, 3] * 10], 2) == pytest.approx(1)
    assert autocorrelation([[1, 3] * 10], 1) == pytest.approx(-1)
    assert autocorrelation([[1] * 5, [3] * 5], 1) == pytest.approx(1)
    assert autocorrelation([[2, 2]], 1) == autocorrelation([[1, 2]], 5) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"regimes": ()},
        {"duration_s": 0},
        {"step_ms": 1},
        {"step_ms": 10, "duration_s": 86_400},
        {"memory": {"rate_bps": 1.0}},
        {"version": 2},
        {"regimes": (replace(KNOWN.regimes[0], dwells=()), *KNOWN.regimes[1:])},
        {"regimes": (replace(KNOWN.regimes[0], dwells=(float("nan"),)), *KNOWN.regimes[1:])},
        {"regimes": (replace(KNOWN.regimes[0], next={"gone": 1.0}), *KNOWN.regimes[1:])},
        {"regimes": (replace(KNOWN.regimes[0], values={"rate_bps": (-1,), "delay_us": (1,)}), *KNOWN.regimes[1:])},
    ],
)
def test_a_card_that_cannot_be_is_refused(change):
    with pytest.raises(TraceError):
        generate(replace(KNOWN, **change))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"regimes": [{}]}', '{"regimes": 5}'])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(TraceError, match="not a card"):
        card_from_json(text)
