"""One definition of a percentile for everything that is measured: nearest rank, on numbers that may be infinite."""

import math
from collections.abc import Sequence

UNANSWERED = math.inf  # the latency of a request that failed or got no answer: it counts, as the worst there is


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of all values do not exceed; None for no values."""
    if not values:
        return None
    rank = max(1, math.ceil(len(values) * percent / 100 - 1e-9))
    return sorted(values)[rank - 1]
