"""Tables of delay distributions for netem, computed: mean 0, standard deviation 1, in units of 1/8192.

netem takes a random entry times the jitter. An entry reaches 4 standard deviations at most, so long tails are cut
there; the rest is stretched until mean and deviation are again what the table says of itself.
"""

from collections.abc import Callable
from functools import cache
from math import fsum
from statistics import NormalDist
from struct import pack

from testbed.plan import Distribution

SCALE = 8192  # NETEM_DIST_SCALE
ENTRIES = 4096
LIMIT = 32767 / SCALE
ROUNDS = 60
NEAR = 1e-6
ALPHA = 3.0  # of Pareto's distribution: its variance is still finite
NORMAL_PART = 0.25


def _normal(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _pareto(share: float) -> float:
    """Mean 0 and deviation 1 but for the cut."""
    mean, deviation = 1.5, 0.75**0.5
    return float(((1 - share) ** (-1 / ALPHA) - mean) / deviation)


def _pareto_normal(share: float) -> float:
    return NORMAL_PART * _normal(share) + (1 - NORMAL_PART) * _pareto(share)


_QUANTILES: dict[Distribution, Callable[[float], float]] = {
    "normal": _normal,
    "pareto": _pareto,
    "paretonormal": _pareto_normal,
}


@cache
def table(distribution: Distribution) -> tuple[int, ...]:
    """4096 entries in rising order; a uniform one is spread evenly from -1 to 1 instead."""
    shares = [(index + 0.5) / ENTRIES for index in range(ENTRIES)]
    if distribution == "uniform":
        return tuple(round((2 * share - 1) * SCALE) for share in shares)
    values = [_QUANTILES[distribution](share) for share in shares]
    for _ in range(ROUNDS):
        mean = fsum(values) / ENTRIES
        deviation = (fsum((value - mean) ** 2 for value in values) / ENTRIES) ** 0.5
        if abs(mean) < NEAR and abs(deviation - 1) < NEAR:
            break
        values = [min(LIMIT, max(-LIMIT, (value - mean) / deviation)) for value in values]
    return tuple(round(value * SCALE) for value in values)


@cache
def encoded(distribution: Distribution) -> bytes:
    """As the kernel reads it: signed 16-bit numbers in the machine's order."""
    return pack(f"={ENTRIES}h", *table(distribution))
