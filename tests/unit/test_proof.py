"""The optimum of a decision, sought afterwards: it is that of brute force, and no bound on the way is too high."""

import itertools
import random
from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.decision import Intake, Size, problem, reports
from controller.cost import UNREACHABLE_US, Forecast, Load, wait_us
from controller.model import Model
from controller.planner import Planner
from controller.table import tabulate
from testbed.proof import certificate, market, places
from testbed.proof.certificate import Attempt, Crowded, NotPlaced, certify
from testbed.proof.chains import chains_of
from testbed.proof.companies import cheapest
from testbed.proof.market import Case, Market
from testbed.proof.places import Place, TooMany
from tests.unit.test_joint import instance

parted = Market.parted
PERIODS_US = (60_000, 120_000, 250_000, 400_000, 1_000_000, 3_000_000)


def latency_us(forecast, snapshot, looked, rows, weights=None):
    """Of some streams together, not rounded, by the rules of controller/cost.py."""
    load, total = forecast.load(rows, {}), 0.0
    for stream in looked:
        use = forecast.use(stream, rows[stream])
        waits = [max(float(snapshot.nodes[n].queue_us), float(wait_us(*load.nodes[n][:2]))) for n, *_ in use.nodes]
        waits += [float(wait_us(*load.paths[way][:2])) for way, *_ in use.paths]
        total += (weights or {}).get(stream, 1.0) * (use.moving_us + sum(waits))
    return total


def cost_us(forecast, snapshot, looked, rows, weights=None):
    """The same, and how much longer the other streams wait because of them."""
    others = {stream: row for stream, row in rows.items() if stream not in looked}
    every = latency_us(forecast, snapshot, rows, rows, weights)
    return every - latency_us(forecast, snapshot, others, others, weights)


def case(seed, sizes=((3, 3, 2), (3, 3, 3), (2, 4, 3), (4, 3, 2), (3, 4, 2))):
    """A small problem with streams of several periods and models, and all rows that each of them may have."""
    draw = random.Random(seed)
    hosts, blocks, streams = draw.choice(sizes)
    made, scene = instance(seed, hosts=hosts, blocks=blocks, streams=streams)
    models = dict(made.models)
    if draw.random() < 0.4:
        models["k"] = Model("k", made.models["m"].blocks[: blocks - 1], draw.randint(1, 10**6))
    usual = draw.choice(PERIODS_US)
    periods = [draw.choice(PERIODS_US) if draw.random() < 0.5 else usual for _ in made.streams]
    streams = [
        replace(stream, period_us=period_us, model=draw.choice(sorted(models)))
        for stream, period_us in zip(made.streams, periods, strict=True)
    ]
    made = replace(made, streams=tuple(streams), models=models)
    table = tabulate(made)
    forecast, every = Forecast(table, scene), {}
    for stream in streams:
        rows = itertools.product(range(hosts), repeat=len(models[stream.model].blocks))
        may = [row for row in rows if table.permits(stream.name, row) and forecast.up(row)]
        every[stream.name] = [row for row in may if forecast.use(stream.name, row).moving_us < UNREACHABLE_US]
    return made, scene, forecast, every, draw


def solved(seeds, most_stay=False, weights=None):
    """(seed, problem, scene, forecast, streams looked at, a placement, the least cost, and where that is)."""
    for seed in range(seeds):
        made, scene, forecast, every, draw = case(seed, *[((3, 3, 4), (4, 3, 5), (3, 4, 4))] * most_stay)
        if not all(every.values()):
            continue
        names = sorted(every)
        kept = names[2:] if most_stay else names[:1] if len(names) > 2 and draw.random() < 0.4 else []
        looked, start = [s for s in names if s not in kept], {s: draw.choice(rows) for s, rows in every.items()}
        least, best = min(
            (
                cost_us(forecast, scene, looked, rows := {**start, **dict(zip(looked, each, strict=True))}, weights),
                n,
                rows,
            )
            for n, each in enumerate(itertools.product(*(every[s] for s in looked)))
        )[::2]
        yield seed, (made, scene, forecast, looked, start, least, best)


@pytest.mark.parametrize("hasty", [False, True], ids=["rows are listed", "cases come first"])
@pytest.mark.parametrize("most", [None, 3, 40], ids=["companies are listed", "hardly any are", "most are"])
def test_it_is_what_brute_force_finds(monkeypatch, hasty, most):
    if hasty:
        monkeypatch.setattr(certificate, "HASTY", certificate.Limits(1, 1, 1))
    if most:
        monkeypatch.setattr(places, "MOST", most)
        monkeypatch.setattr(market, "LISTED", most)
    companies = [attempt for attempt in certificate.ATTEMPTS if isinstance(attempt, certificate.Attempt)]
    attempts = companies[1:] if most else companies
    cases, searched, closed = [], [], 0
    monkeypatch.setattr(market, "cheapest", lambda *asked: searched.append(asked) or cheapest(*asked))
    monkeypatch.setattr(Market, "parted", lambda one, case: cases.append(case) or parted(one, case))
    for seed, (made, scene, forecast, looked, start, least, best) in solved(24):
        known = best if seed % 2 else start  # it may have to find it, or to say that there is nothing better
        found = certify(made, scene, looked, known, attempts=attempts)
        assert found.bound_us <= least * (1 + 1e-9), seed
        reached = cost_us(forecast, scene, looked, {**start, **found.rows})
        assert found.found_us == pytest.approx(reached, abs=1e-3) and found.found_us >= least * (1 - 1e-9), seed
        assert found.open or found.found_us <= least * (1 + 2e-6), seed
        closed += not found.open
    assert closed >= 20 and bool(cases) == hasty and bool(searched) == bool(most)


@pytest.mark.parametrize(
    ("attempt", "most"),
    [(Attempt(12, False), 200_000), (Attempt(12, True), 3), (Crowded(400), 0)],
    ids=["companies are listed", "hardly any are", "boxes"],
)
@pytest.mark.parametrize("weights", [{}, {"s0": 4.0, "s1": 4.0}, {"s3": 4.0}], ids=["once", "late", "others late"])
def test_how_much_longer_others_wait_counts(monkeypatch, attempt, most, weights):
    monkeypatch.setattr(places, "MOST", most)
    monkeypatch.setattr(market, "LISTED", most)
    longer = tried = 0
    for seed, (made, scene, forecast, looked, start, least, best) in solved(16, most_stay=True, weights=weights):
        tried += 1
        found = certify(made, scene, looked, start, weights=weights, attempts=[attempt])
        assert not found.open and found.bound_us <= least * (1 + 1e-9), seed
        reached = cost_us(forecast, scene, looked, {**start, **found.rows}, weights)
        assert found.found_us == pytest.approx(reached, abs=1e-3) and found.found_us == pytest.approx(least, rel=2e-6)
        longer += least > latency_us(forecast, scene, looked, best, weights) * (1 + 1e-4)
    assert tried >= 14 and longer >= 8


def test_late_streams_count_more_than_others():
    weights = {"s0": 4.0, "s2": 2.5}
    closed = other = 0
    for seed, (made, scene, forecast, looked, start, least, best) in solved(24, weights=weights):
        found = certify(made, scene, looked, start, weights=weights, attempts=[Attempt(9, False), Crowded(400)])
        assert found.bound_us <= least * (1 + 1e-9), seed
        reached = cost_us(forecast, scene, looked, {**start, **found.rows}, weights)
        assert found.found_us == pytest.approx(reached, abs=1e-3)
        assert found.open or found.found_us == pytest.approx(least, rel=2e-6), seed
        closed += not found.open
        plain = certify(made, scene, looked, best, attempts=[Crowded(400)])
        other += plain.found_us < plain.start_us * (1 - 1e-6)
    assert closed >= 20 and other >= 2


def test_no_prices_give_a_bound_that_is_too_high():
    for seed in range(12):
        made, scene, forecast, every, draw = case(seed)
        if not all(every.values()):
            continue
        table, names = tabulate(made), sorted(every)
        start = {s: draw.choice(rows) for s, rows in every.items()}
        market = Market(
            chains_of(table, scene, start, Load(), weights=dict.fromkeys(names, 1.0)),
            np.array([n.queue_us for n in scene.nodes], float),
        )
        dearest = latency_us(forecast, scene, names, start)
        market.gather(dearest)
        prices = market.alone()
        for _ in range(4):
            prices = prices * np.random.default_rng(seed).uniform(0.3, 4, len(prices))
            offer = market.offer(prices)
            for _ in range(30):
                rows = {s: draw.choice(rows) for s, rows in every.items()}
                total = latency_us(forecast, scene, names, rows)
                if total >= dearest:  # what costs more is no matter
                    continue
                assert offer.bound_us <= total * (1 + 1e-9)
                order = [s for chains in market.groups.chains for s in chains.streams]
                bills = [market.bill(n, rows[s]) for n, s in enumerate(order)]
                more = sum(bill.fixed_us + prices[bill.prices].sum() for bill in bills) - offer.streams_us.sum()
                assert offer.bound_us + more <= total * (1 + 1e-9)
            bills = [market.bill(n, row) for n, row in enumerate(offer.rows) if row]
            split = market.split(prices, bills, 0.0)
            assert market.offer(split).bound_us >= offer.bound_us - 1e-3  # told apart, and no lower
            prices = split


def place(seed):
    draw = np.random.default_rng(seed)
    rho = np.sort(draw.uniform(0, 0.2, 30))
    return Place(rho, rho * rho * 400_000, (0.1, 9_000.0, 2.0), 1_500.0)


def test_all_companies_below_a_limit_are_listed_and_none_when_kinds_are_split():
    one, limit_us = place(1), 9_000.0
    one.gather(limit_us, 5)
    listed = {tuple(company) for company in one.companies}
    for company in itertools.product(range(6), repeat=len(one.first)):
        if sum(company) <= 5:
            longer = one.cost_of(np.array(company, float)) - np.array(company) @ one.alone_us
            assert (company in listed) == (longer < limit_us), company
    other = place(1)
    was = one.split({3, 16, 26})
    assert len(one.first) == len(was) == len(other.first) + 3
    merged = {tuple(np.bincount(was, company, len(other.first))) for company in one.companies}
    assert merged == listed and (one.amounts >= other.amounts[:, was]).all()


def test_kinds_begin_first_where_uses_are_rounded_down_least_by_it():
    one, draw = place(2), np.random.default_rng(2)
    uses = sorted(draw.choice(30, 12, replace=False).tolist())
    begins = one.coarse(uses, 0.0)

    def rounded(more):
        first = np.array(sorted({*one.first.tolist(), *more}))
        return float((one.rho[uses] - one.rho[first[np.searchsorted(first, uses, side="right") - 1]]).sum())

    order = one.ordered(begins, uses)
    assert sorted(order) == sorted(begins) and len(begins) > 5 and rounded(order) == 0.0
    for n, begin in enumerate(order):
        assert rounded(order[: n + 1]) <= min(rounded([*order[:n], other]) for other in begins) + 1e-12, begin


def test_as_many_kinds_are_told_apart_as_can_be(monkeypatch):
    one = place(1)
    one.gather(9_000.0, 5)
    whole = len(one.companies)
    begins = one.coarse(range(30), 0.0)
    counts = []
    for most in (whole, 10 * whole, 100 * whole):
        monkeypatch.setattr(places, "MOST", most)
        part = copy(one)
        try:
            counts.append(len(part.split_some(begins, range(30))))
        except TooMany:
            counts.append(0)
        assert len(part.companies) <= most
    assert counts == sorted(counts) and len(one.first) < counts[1] < counts[2] <= len(one.first) + len(begins)


def test_parts_have_all_companies_between_them_and_none_twice():
    made, scene, _, every, draw = next(one for one in map(case, range(40)) if all(one[3].values()))
    start = {s: draw.choice(rows) for s, rows in every.items()}
    chains = chains_of(tabulate(made), scene, start, Load(), weights=dict.fromkeys(sorted(every), 1.0))
    market = Market(chains, np.array([n.queue_us for n in scene.nodes], float))
    market.gather(3e6)
    whole = market.places[0].companies
    use = int(market.places[0].first[-2])
    few, more = market.parted(Case(0, use, 1))
    found = [part.places[0].companies for part in (few, more)]
    assert sorted(map(tuple, np.concatenate(found))) == sorted(map(tuple, whole)) and all(map(len, found))
    assert few.places[0].above(use, found[0]).max() <= 1 < more.places[0].above(use, found[1]).min()
    few.places[0].split({use + 1})  # it is as many, whatever kinds there are
    assert few.places[0].above(use, few.places[0].companies).max() <= 1 and market.places[0].companies is whole


def test_what_does_not_matter_is_not_told_apart():
    one = place(2)
    one.least_us = 1e6  # all wait so long anyway
    assert not any(one.matters(use, np.ones(len(one.first))) for use in range(len(one.rho)))
    one.least_us = 0.0
    uses = [use for use in range(len(one.rho)) if use not in one.first]
    assert all(one.matters(use, np.ones(len(one.first))) for use in uses)
    one.gather(1_000.0, 2)
    one.split(one.coarse(uses, 0.0))
    assert not one.coarse(range(len(one.rho)), 0.0)


def periods(size, which):
    made, seen, intake = problem(size), reports(size), Intake(size)
    for n in range(max(which) + 1):
        scene = intake.snapshot(n * 60_000_000, next(seen))
        if n in which:
            yield made, scene


def test_ten_streams_on_twenty_nodes_are_proven_where_the_planner_cannot():
    missed, names = 0, [f"s{n}" for n in range(10)]
    for made, scene in periods(Size(20, 6, 10, 10, 1), {1, 8, 50, 56}):
        planner = Planner(made)
        plan = planner.plan(scene, names, {})
        total = planner.total_us(scene, plan.rows, {})
        missed += total > plan.bound_us * 1.0005
        found = certify(made, scene, names, plan.rows)
        assert not found.open and found.bound_us >= plan.bound_us * (1 - 1e-6)
        assert found.bound_us == pytest.approx(found.found_us, rel=1e-6) and found.found_us <= total + 1e-3
    assert missed == 3
    assert found == certify(made, scene, names, plan.rows)


def test_some_of_many_streams_in_a_large_network():
    """Nodes that are not worth considering are bounded, streams that are not looked at stay where they are."""
    made, scene = next(periods(Size(1_000, 40, 12, 12, 1), {0}))
    names = [stream.name for stream in made.streams]
    planner = Planner(made)
    rows = planner.plan(scene, names, {}).rows
    plan = planner.plan(scene, names[:3], {}, rows)
    found = certify(made, scene, names[:3], plan.rows)
    assert not found.open and set(found.rows) == set(names[:3])
    assert found.found_us <= cost_us(Forecast(planner.table, scene), scene, names[:3], plan.rows) + 1e-3


def test_streams_that_are_nowhere_are_refused():
    made, scene, _, every, _ = next(one for one in map(case, range(40)) if all(one[3].values()))
    with pytest.raises(NotPlaced, match="not placed, or where it may not be: s1"):
        certify(made, scene, ["s0", "s1"], {"s0": every["s0"][0]})
    cut = replace(scene, rate_bps=np.zeros_like(scene.rate_bps))
    away = next((row for row in every["s0"] if row[0] != 0), None)
    if away:
        with pytest.raises(NotPlaced, match="cannot be reached"):
            certify(made, cut, ["s0"], {"s0": away})
    with pytest.raises(NotPlaced, match="counts for nothing"):
        certify(made, scene, ["s0"], {"s0": every["s0"][0]}, weights={"s0": 0.0})


def test_long_proofs_say_how_far_they_are(monkeypatch):
    attempts = certificate.Attempt(2, False), certificate.Attempt(1, False)
    monkeypatch.setattr(certificate, "HASTY", certificate.Limits(1, 1, 1))
    (made, scene), names, told = next(periods(Size(20, 6, 10, 10, 1), {130})), [f"s{n}" for n in range(10)], []
    plan = Planner(made).plan(scene, names, {})
    found = certify(made, scene, names, plan.rows, known_us=plan.bound_us, attempts=attempts, so_far=told.append)
    assert found.open == "2 cases are left after 1" and found.bound_us > plan.bound_us
    assert told == sorted(told, reverse=True) and told[-1] == found.start_us / found.bound_us - 1 > 0.01
