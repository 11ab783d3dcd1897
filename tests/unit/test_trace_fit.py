from dataclasses import replace
from random import Random

import pytest

from testbed.trace.agreement import agreement, autocorrelation, long_draw
from testbed.trace.fit import OUTAGE, fit, groups
from testbed.trace.formats import TraceError
from testbed.trace.regimes import Chain, Regime, RegimeCard, card_from_json, card_to_json, generate, quantile
from testbed.trace.series import Series, statistics

# Two regimes and outages of known dwell; delay goes with the rate.
FAST = Regime(
    "fast",
    (20.0, 30.0, 40.0),
    {"slow": 0.8, "dead": 0.2},
    {"rate_bps": (80 * 10**6, 120 * 10**6), "delay_us": (8000,)},
)
SLOW = Regime("slow", (10.0, 20.0), {"fast": 1.0}, {"rate_bps": (10 * 10**6, 14 * 10**6), "delay_us": (30_000,)})
DEAD = Regime("dead", (4.0,), {"slow": 1.0}, {"rate_bps": (0,), "delay_us": (90_000,)})
CHAIN = Chain((FAST, SLOW, DEAD), {"rate_bps": 0.8, "delay_us": 0.0})
KNOWN = RegimeCard(3, 8000, 1000, (CHAIN,))


def test_a_fit_finds_what_was_put_in():
    recorded = generate(KNOWN)
    card = fit([recorded], 1000, levels=2)
    assert len(card.chains) == 1
    found = {regime.name: regime for regime in card.chains[0].regimes}
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


def steps_of(column, values):
    return Series(column, tuple(i * 10**6 for i in range(len(values))), len(values) * 10**6, {column: tuple(values)})


def test_what_was_recorded_apart_is_drawn_apart():
    rates = steps_of("up_bps", [10**6 * (1 + i % 7) for i in range(60)])
    pings = steps_of("delay_us", [10, 20] * 10)
    card = fit([rates, pings], levels=2)
    assert [list(chain.regimes[0].values) for chain in card.chains] == [["up_bps"], ["delay_us"]]
    drawn = generate(card)
    assert (drawn.length_us, set(drawn.columns)) == (60 * 10**6, {"up_bps", "delay_us"})
    assert {10, 20} <= set(drawn.columns["delay_us"])


@pytest.mark.parametrize(("coupled", "chains"), [(True, 1), (False, 2)])
def test_what_does_not_go_together_is_drawn_apart(coupled, chains):
    chance = Random(2)
    down = [chance.randrange(10**6, 10**8) for _ in range(300)]
    up = [value // 4 if coupled else chance.randrange(10**6, 10**8) for value in down]
    one = steps_of("down_bps", down)
    both = replace(one, columns={**one.columns, "up_bps": tuple(up)})
    assert len(fit([both], levels=2).chains) == chains


def test_regimes_have_the_share_of_the_time_they_were_recorded_with():
    recorded = generate(replace(KNOWN, duration_s=400, seed=8))
    drawn = long_draw(fit([recorded], levels=2)).columns["rate_bps"]
    kept = recorded.columns["rate_bps"]
    assert drawn.count(0) / len(drawn) == pytest.approx(kept.count(0) / len(kept), abs=0.01)


@pytest.mark.parametrize(
    ("columns", "why"),
    [({"up_bps": (0,) * 50}, "every rate is an outage"), ({"up_bps": (1,) * 3}, "too few")],
)
def test_what_cannot_be_fitted_is_refused(columns, why):
    with pytest.raises(TraceError, match=why):
        fit([steps_of("up_bps", columns["up_bps"])])


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


def chained(first: Regime) -> dict[str, object]:
    return {"chains": (Chain((first, SLOW, DEAD), CHAIN.memory),)}


@pytest.mark.parametrize(
    "change",
    [
        {"chains": ()},
        {"chains": (Chain((), {}),)},
        {"chains": (CHAIN, CHAIN)},
        {"duration_s": 0},
        {"step_ms": 1},
        {"step_ms": 10, "duration_s": 86_400},
        {"version": 1},
        {"chains": (replace(CHAIN, memory={"rate_bps": 1.0}),)},
        chained(replace(FAST, dwells=())),
        chained(replace(FAST, dwells=(float("nan"),))),
        chained(replace(FAST, next={"gone": 1.0})),
        chained(replace(FAST, values={"rate_bps": (-1,), "delay_us": (1,)})),
    ],
)
def test_a_card_that_cannot_be_is_refused(change):
    with pytest.raises(TraceError):
        generate(replace(KNOWN, **change))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"chains": [{}]}', '{"chains": 5}'])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(TraceError, match="not a card"):
        card_from_json(text)
