from itertools import pairwise
from random import Random

from testbed.workload import arrivals_us


def test_periodic_arrivals_have_one_gap_and_a_phase_below_it():
    times = arrivals_us("periodic", 1000, 5000, 20_000, Random(1))
    assert 5000 <= times[0] < 6000
    assert {after - before for before, after in pairwise(times)} == {1000}
    assert len(times) in (14, 15)


def test_poisson_arrivals_have_the_mean_gap_they_should():
    times = arrivals_us("poisson", 1000, 0, 10_000_000, Random(2))
    assert 9_600 < len(times) < 10_400
    assert all(0 <= time < 10_000_000 for time in times)
    assert list(times) == sorted(times)


def test_requests_are_bounded_and_repeatable():
    first = arrivals_us("poisson", 1000, 0, 10_000_000, Random(3), requests=7)
    assert first == arrivals_us("poisson", 1000, 0, 10_000_000, Random(3), requests=7)
    assert len(first) == 7
    assert first != arrivals_us("poisson", 1000, 0, 10_000_000, Random(4), requests=7)


def test_no_time_no_requests():
    assert arrivals_us("poisson", 1000, 5, 5, Random(1)) == ()
