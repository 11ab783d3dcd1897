"""Boxes of waits: what is said of a box holds for every set of rows in it, and cases of them find the optimum."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

from benchmarks.decision import Size
from controller.cost import Load, backlog_us
from controller.planner import Planner
from controller.table import tabulate
from testbed.proof import boxes, certificate, levels
from testbed.proof.boxes import Boxes
from testbed.proof.certificate import Attempt, Crowded, certify
from testbed.proof.chains import chains_of
from testbed.proof.levels import Box, Levels
from testbed.proof.search import NONE
from tests.unit.test_proof import case, cost_us, latency_us, periods, solved


class Small:
    """A problem of which all sets of rows are known, and which of its places may be crowded."""

    def __init__(self, seed: int, nodes: int = 99) -> None:
        made, self.scene, self.forecast, self.every, self.draw = case(seed)
        names, hosts = sorted(self.every), len(made.hosts)
        start = {s: self.draw.choice(rows) for s, rows in self.every.items()}
        chains = chains_of(tabulate(made), self.scene, start, Load(), weights=dict.fromkeys(names, 1.0))
        self.order = [s for chain in chains for s in chain.streams]
        self.paths = [a * hosts + b for a, b in itertools.permutations(range(hosts), 2)]
        self.levels = Levels(chains, backlog_us(self.scene), [node * (hosts + 1) for node in range(min(nodes, hosts))])

    def sets(self):
        """Every set of rows in the order of the streams, and what it costs."""
        for rows in itertools.product(*(self.every[s] for s in self.order)):
            placed = dict(zip(self.order, rows, strict=True))
            yield rows, latency_us(self.forecast, self.scene, self.order, placed)

    def waits_us(self, rows):
        load = self.forecast.load(dict(zip(self.order, rows, strict=True)), {})
        places = [divmod(place, len(self.scene.nodes)) for place in self.levels.ids]
        parts = [(load.nodes.get(a) if a == b else load.paths.get((a, b))) or (0.0, 0.0) for a, b in places]
        return self.levels.waits_us(np.array([part[:2] for part in parts]).T)

    def box(self, whole):
        ends = np.sort([whole.low_us + (whole.high_us - whole.low_us) * self.draw.random() ** 6 for _ in "lh"], axis=0)
        inside = [self.draw.random() < 0.5 for _ in whole.low_us]
        return Box(np.where(inside, ends[0], whole.low_us), np.where(inside, ends[1], whole.high_us))


def smalls(count, **how):
    found = (Small(seed, **how) for seed in itertools.count() if all(case(seed)[3].values()))
    return itertools.islice(found, count)


@pytest.mark.parametrize("turns", [1, 8], ids=["any charges", "the best charges"])
def test_no_set_in_a_box_costs_less_than_its_bound(monkeypatch, turns):
    monkeypatch.setattr(levels, "TURNS", turns)
    inside = 0
    for small in smalls(12):
        if small.draw.random() < 0.5:
            small.levels.widen(small.paths)
        known = sorted(small.sets(), key=lambda one: one[1])
        below = known[len(known) // 2][1]
        whole = small.levels.whole(below)
        for _ in range(6):
            box = small.box(whole)
            charges = np.array([small.draw.choice((0.0, 10 ** small.draw.uniform(-3, 1))) for _ in small.levels.ids])
            relaxed = small.levels.relaxed(box, charges, below)
            for rows, total in known[: len(known) // 2]:
                waits = small.waits_us(rows)
                assert (whole.low_us <= waits + 1e-6).all()
                if (box.low_us <= waits).all() and (waits <= box.high_us).all():
                    inside += 1
                    assert relaxed.bound_us <= total * (1 + 1e-9)
    assert inside > 1_000


def test_what_is_cheaper_than_a_limit_is_in_the_whole_box():
    for small in smalls(12):
        small.levels.widen(small.paths)
        known = sorted(small.sets(), key=lambda one: one[1])
        below = known[len(known) // 3][1] + 1.0
        whole, used = small.levels.whole(below), 0
        for rows, total in known:
            if total < below:
                assert (small.waits_us(rows) <= whole.high_us * (1 + 1e-9)).all()
                used += 1
        assert used


def test_the_best_set_of_a_box_is_found_unless_it_was_looked_at():
    done = 0
    for small in smalls(8):
        small.levels.widen(small.paths)
        known = sorted(small.sets(), key=lambda one: one[1])
        below = known[-1][1]
        whole = small.levels.whole(below)
        seen = []
        for rows, total in known[:3]:
            waits = small.waits_us(rows)
            exact = Box(waits * (1 - 1e-9), np.maximum(waits, whole.low_us) * (1 + 1e-9))  # its own waits and no others
            relaxed = small.levels.relaxed(exact, np.zeros(len(waits)), below)
            best = small.levels.exact(exact, relaxed, total * (1 + 1e-6), seen, 100_000)
            assert best.least_us == pytest.approx(total, rel=1e-5)
            seen.append(best.rows)
            done += 1
    again = small.levels.exact(exact, relaxed, known[0][1] * 0.9, [], 100_000)
    assert done == 24 and again is NONE  # nothing is so cheap


def test_cases_of_boxes_find_what_brute_force_finds():
    closed = 0
    for seed, (made, scene, forecast, looked, start, least, _) in solved(40):
        found = certify(made, scene, looked, start, attempts=[Crowded(400)])
        assert found.bound_us <= least * (1 + 1e-9), seed
        reached = cost_us(forecast, scene, looked, {**start, **found.rows})
        assert found.found_us == pytest.approx(reached, abs=1e-3) and found.found_us >= least * (1 - 1e-9), seed
        assert found.open or found.found_us <= least * (1 + 2e-6), seed
        closed += not found.open
    assert closed >= 36


def unlike():
    """Ten streams on twenty nodes, each with a rate of its own; and the planner's plan."""
    made, scene = next(periods(Size(20, 6, 10, 10, 1), {50}))
    draw = random.Random(1)
    streams = [replace(one, period_us=int(one.period_us * draw.uniform(0.5, 1.5))) for one in made.streams]
    made, names = replace(made, streams=tuple(streams)), [one.name for one in streams]
    return made, scene, names, Planner(made).plan(scene, names, {})


def test_ten_streams_with_rates_of_their_own_are_proven_where_companies_are_too_many():
    *asked, plan = unlike()
    assert certify(*asked, plan.rows, attempts=[Attempt(1, False)]).open
    found = certify(*asked, plan.rows, attempts=[Crowded(1_000)])
    assert not found.open and plan.bound_us <= found.bound_us * (1 + 1e-6)
    assert found == certify(*asked, plan.rows, attempts=[Crowded(1_000)])


def test_few_boxes_leave_a_bound_and_say_how_many_are_left(monkeypatch):
    monkeypatch.setattr(boxes, "SAID", 5)
    (*asked, plan), told = unlike(), []
    found = certify(*asked, plan.rows, attempts=[Crowded(10)], so_far=told.append)
    assert found.open.endswith("boxes of waits are left after 10") and 0 < found.bound_us < found.found_us
    assert told == sorted(told, reverse=True) and len(told) == 3


def test_a_later_attempt_goes_on_with_the_boxes_that_are_left(monkeypatch):
    *asked, plan = unlike()
    parted, part = [], Boxes._part
    monkeypatch.setattr(Boxes, "_part", lambda cases, one: parted.append(one) or part(cases, one))
    found, counts = [], []
    for attempts in ([Crowded(25)], [Crowded(10), Attempt(1, False), Crowded(25)]):
        found.append(certify(*asked, plan.rows, attempts=attempts))
        counts.append(len(parted))
    assert found[0] == found[1] and counts == [25, 50] and found[0].open


def test_what_was_found_elsewhere_is_taken_up():
    for small in smalls(3):
        (best, total), *_, (dearest, most) = sorted(small.sets(), key=lambda one: one[1])
        cases = Boxes(small.levels, dearest, dict(small.sets()).__getitem__)
        cases.see(best)
        assert cases.found_us == total < most and tuple(cases.rows) == best
        cases.see(dearest)
        assert cases.found_us == total


def test_where_streams_turn_out_to_meet_is_crowded_from_then_on():
    widened = closed = 0
    for small in smalls(20, nodes=1):
        (_, total), *_ = known = sorted(small.sets(), key=lambda one: one[1])
        dearest = known[-1][0]
        cases = Boxes(small.levels, dearest, lambda rows, known=dict(known): known[tuple(rows)])
        for bound in cases.bounds_us(300):
            assert bound <= total * (1 + 1e-9)
        widened += len(small.levels.ids) > 1
        closed += not cases.left
        assert cases.left or cases.found_us == pytest.approx(total, rel=2e-6)
    assert widened > 3 and closed > 15


def test_attempts_are_made_until_one_closes(monkeypatch):
    made, scene, _, every, _ = case(1)
    tried = []
    monkeypatch.setattr(certificate._Proof, "_boxed", lambda proof, attempt: tried.append(attempt) or iter([1e18]))
    rows = {s: rows[0] for s, rows in every.items()}
    found = certify(made, scene, sorted(rows), rows, attempts=[Crowded(7), Attempt(1, False)])
    assert tried == [Crowded(7)] and not found.open


def test_rows_that_are_not_told_apart_hold_the_bound_down():
    for small in smalls(4):
        (best, total), *_ = sorted(small.sets(), key=lambda one: one[1])
        small.levels.groups.others_us = np.full(len(small.order), 0.9 * total / len(small.order))
        cases = Boxes(small.levels, best, dict(small.sets()).__getitem__)
        *_, bound = cases.bounds_us(40)
        assert bound <= 0.9 * total * (1 + 1e-9) and cases.others and tuple(cases.rows) == best


def test_what_highs_cannot_solve_leaves_the_bound_as_it_is(monkeypatch):
    small = next(smalls(1))
    dearest = max(total for _, total in small.sets())
    whole = small.levels.whole(dearest)
    known = small.levels.relaxed(whole, np.zeros(len(whole.low_us)), dearest)
    monkeypatch.setattr(levels, "linprog", lambda *_, **__: OptimizeResult(x=None))
    left = small.levels.relaxed(whole, np.zeros(len(whole.low_us)), dearest)
    assert 0 < left.bound_us <= known.bound_us and not len(left.shares)
