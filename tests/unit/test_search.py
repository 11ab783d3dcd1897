"""Small changes of a whole placement: two streams that load their places differently change places."""

import random
from dataclasses import replace

import pytest

from benchmarks.decision import Size
from controller import planner
from controller.planner import Planner
from controller.search import swapped
from tests.unit.test_proof import periods

NAMES = [f"s{n}" for n in range(10)]


def test_swaps_are_tried_pair_by_pair_and_the_better_ones_kept():
    rows, tried = {"a": (0,), "b": (1,), "c": (2,)}, []

    def worth(trial):
        tried.append(dict(trial))
        return sum(abs(node - best) for (node,), best in zip(trial.values(), (2, 0, 1), strict=True))

    found, total = swapped(rows, 4.0, worth, [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b")])
    assert (found, total) == ({"a": (2,), "b": (0,), "c": (1,)}, 0.0)
    assert tried[0] == {"a": (1,), "b": (0,), "c": (2,)} and len(tried) == 4
    assert rows == {"a": (0,), "b": (1,), "c": (2,)}
    assert swapped({"a": (0,), "b": (0,)}, 1.0, worth, [("a", "b")]) == ({"a": (0,), "b": (0,)}, 1.0)
    assert len(tried) == 4  # they are where they were


def scenes(alike):
    draw = random.Random(5)
    for made, scene in periods(Size(20, 6, 10, 10, 1), {5, 17, 29, 41}):
        streams = [
            replace(one, period_us=int(one.period_us * (0.5 if alike else draw.uniform(0.2, 0.8))))
            for one in made.streams
        ]
        yield replace(made, streams=tuple(streams)), scene


LATE = dict.fromkeys(NAMES[:5], 4.0)


@pytest.mark.parametrize(("alike", "weights"), [(True, {}), (False, {}), (True, LATE)], ids=["alike", "rates", "late"])
def test_only_streams_of_other_rates_or_weights_swap_and_never_for_the_worse(monkeypatch, alike, weights):
    asked = []

    def watched(rows, total, worth, pairs):
        asked.append(list(pairs))
        found = swapped(rows, total, worth, asked[-1])
        assert found[1] <= total and worth(found[0]) == found[1]
        return found

    def left(rows, total, worth, pairs):
        return rows, total

    for made, scene in scenes(alike):
        totals = {}
        for way in (left, watched):
            monkeypatch.setattr(planner, "swapped", way)
            one = Planner(made)
            totals[way] = one.total_us(scene, one.plan(scene, NAMES, weights).rows, weights)
        assert totals[watched] <= totals[left] * (1 + 1e-9)
    assert all(a != b for pairs in asked for a, b in pairs) and any(asked) == (not alike or bool(weights))
    assert not weights or all((a in LATE) != (b in LATE) for pairs in asked for a, b in pairs)
