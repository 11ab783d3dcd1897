"""Companies that are not listed: what is found is what a list of all of them has."""

import itertools

import numpy as np
import pytest

from testbed.proof import companies
from testbed.proof.companies import below, cheapest
from testbed.proof.places import Limit, Place, TooMany

SEEDS, MOST_USES = 40, 5


def place(seed):
    draw = np.random.default_rng(seed)
    rho = np.sort(draw.uniform(0, draw.choice([0.1, 0.3, 0.8]), 30))
    stay = draw.uniform(0, 0.5), draw.uniform(0, 20_000.0), float(seed % 3)
    one = Place(rho, rho * rho * 400_000, stay, draw.choice([0.0, 1_500.0]))
    one.gather(np.inf, MOST_USES)
    return one, draw


def listed(one, prices):
    """All companies that may be, and what they cost less what they pay."""
    every = np.array(list(itertools.product(range(MOST_USES + 1), repeat=len(one.first))), float)
    every = every[(every.sum(axis=1) <= one.most_uses) & one.within(every)]
    for limit in one.limits:
        every = every[one.above(limit.use, every) >= limit.least]
    return every, one.waits_us(every) - every @ prices


def worlds():
    for seed in range(SEEDS):
        one, draw = place(seed)
        if seed % 2:
            kinds = draw.choice(one.first, 2)
            one.limits = (Limit(int(kinds[0]), 0, 2), Limit(int(kinds[1]), int(draw.integers(0, 3)), 4))
        yield one, one.alone_us * draw.uniform(0, draw.choice([1.2, 6]), len(one.first)), draw


def test_the_cheapest_is_the_cheapest_of_all():
    empty = 0
    for one, prices, _ in worlds():
        every, left = listed(one, prices)
        least, found = cheapest(one, prices, np.inf)
        if not len(every):
            assert least == np.inf and not len(found)
            continue
        assert least == pytest.approx(left.min(), abs=1e-2)
        assert one.cost_of(found) - found @ prices == pytest.approx(least, abs=1e-6)
        assert found.tolist() in every.tolist()
        none, nothing = cheapest(one, prices, float(left.min()) - 1.0)
        assert none == float(left.min()) - 1.0 and nothing.shape == (0, len(prices))
        empty += not found.any()
    assert 0 < empty < SEEDS / 2


def test_that_are_merged_give_a_bound_that_is_never_too_high(monkeypatch):
    lower = 0
    monkeypatch.setattr(companies, "MOST_BEGUN", 3)
    monkeypatch.setattr(companies, "FINEST", 16)
    for one, prices, _ in worlds():
        every, left = listed(one, prices)
        if len(every):
            least, found = cheapest(one, prices, np.inf)
            assert least <= left.min() + 1e-6
            assert one.cost_of(found) - found @ prices >= left.min() - 1e-6
            assert found.tolist() in every.tolist()
            lower += least < left.min() - 1.0
    assert lower


def test_all_below_a_limit_are_found_and_none_else():
    for one, prices, draw in worlds():
        every, left = listed(one, prices)
        if not len(every):
            continue
        limit = float(np.quantile(left, draw.uniform(0.05, 0.9)))
        fewest, highest = draw.integers(0, 2, len(prices)), draw.integers(1, 5, len(prices))
        may = (left < limit) & ((every >= fewest) & (every <= highest)).all(axis=1)
        found = below(one, prices, limit, (fewest, highest), 10_000)
        assert sorted(map(tuple, found)) == sorted(map(tuple, every[may]))
        if may.sum() > 1:
            with pytest.raises(TooMany):
                below(one, prices, limit, (fewest, highest), int(may.sum()) - 1)


def test_a_place_that_is_not_listed_knows_few_and_they_stay_what_they_were():
    one, _ = place(1)
    prices = one.alone_us * 2
    one.limits = (Limit(int(one.first[1]), 0, 3),)
    one.keep(one.within(one.companies))
    left = np.sort(one.left_us(prices))
    one.unlist(prices)
    assert not one.listed and one.left_us(prices) == pytest.approx(left[: len(one.companies)])
    was = one.split({3, 17, 25})
    assert len(one.first) == len(was) and one.within(one.companies).all()
    assert one.left_us(prices[was]) == pytest.approx(left[: len(one.companies)])  # each use brings the least it did
    one.add(one.companies[0] * 0)
    assert one.cost_us[-1] == 0.0
