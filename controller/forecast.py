"""What series of numbers will be in a moment, from what they have been: all at once, in arrays. Pure.

A forecaster is given one sample of every series each period, and says what their mean over the next periods will be.
Rates should come as logarithms: a rate that halves is then as far away as one that doubles.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Forecaster(Protocol):
    def observe(self, values: Floats) -> None:
        """(S,) the samples of a period."""
        ...

    def ahead(self, periods: int) -> Floats:
        """(S,) the expected means over so many next periods; something must have been observed."""
        ...


class Persistence:
    """It stays as it is: what every myopic policy believes."""

    def __init__(self) -> None:
        self._last: Floats = np.zeros(0)

    def observe(self, values: Floats) -> None:
        self._last = values

    def ahead(self, periods: int) -> Floats:
        del periods
        return self._last


class Holt:
    """Level and trend, smoothed exponentially (Holt 1957), the trend damped (Gardner and McKenzie 1985).

    level' = a x + (1 - a)(level + f trend); trend' = b (level' - level) + (1 - b) f trend; f damps the trend, so that
    it dies out: what is k periods ahead is level + (f + f^2 + ... + f^k) trend.
    """

    def __init__(self, level: float = 0.6, trend: float = 0.2, damping: float = 0.9) -> None:
        self._a, self._b, self._f = level, trend, damping
        self._level: Floats | None = None
        self._trend: Floats = np.zeros(0)

    def observe(self, values: Floats) -> None:
        if self._level is None:
            self._level, self._trend = values.astype(np.float64), np.zeros(len(values))
            return
        carried = self._f * self._trend
        level = self._a * values + (1 - self._a) * (self._level + carried)
        self._trend = self._b * (level - self._level) + (1 - self._b) * carried
        self._level = level

    def ahead(self, periods: int) -> Floats:
        assert self._level is not None
        steps = np.cumsum(self._f ** np.arange(1, periods + 1))
        return np.asarray(self._level + steps.mean() * self._trend, dtype=np.float64)


class Learned:
    """A linear model of the last samples, learned while it runs, one for all series together.

    The mean of the next k periods less the present value, from how the last `memory` samples and the mean of all so
    far lie to the present one; ridge regression, older evidence fading. Until it has seen enough it is persistence.
    """

    def __init__(self, memory: int = 4, ridge: float = 1.0, fading: float = 0.998) -> None:
        self._memory, self._fading = memory, fading
        self._seen: list[Floats] = []
        self._count = 0
        self._mean: Floats = np.zeros(0)
        self._means: list[Floats] = []  # of all samples until then, beside `_seen`
        self._horizon = 0
        self._square = ridge * np.eye(memory + 1)
        self._product = np.zeros(memory + 1)

    def observe(self, values: Floats) -> None:
        self._count += 1
        self._mean = values.copy() if self._count == 1 else self._mean + (values - self._mean) / self._count
        self._seen.append(values)
        self._means.append(self._mean)
        if self._horizon:
            self._learn()
        keep = self._memory + 1 + max(self._horizon, 1)
        del self._seen[:-keep], self._means[:-keep]

    def ahead(self, periods: int) -> Floats:
        self._horizon = periods
        now = self._seen[-1]
        if self._count <= 3 * (self._memory + 1) + periods or len(self._seen) <= self._memory:
            return now
        weights = np.linalg.solve(self._square, self._product)
        return np.asarray(now + self._features(len(self._seen) - 1) @ weights, dtype=np.float64)

    def _features(self, at: int) -> Floats:
        """(S, memory + 1): how the samples before `at`, and the mean, lie to the one at `at`."""
        now = self._seen[at]
        before = [self._seen[at - 1 - lag] - now for lag in range(self._memory)]
        return np.stack([*before, self._means[at] - now], axis=1)

    def _learn(self) -> None:
        """What the forecast of `horizon` periods ago should have been is known now."""
        at = len(self._seen) - 1 - self._horizon
        if at < self._memory:
            return
        came = np.mean(self._seen[at + 1 :], axis=0) - self._seen[at]
        features = self._features(at)
        moving = np.abs(features).max(axis=1) > 0  # what never changes teaches nothing
        self._square = self._fading * self._square + features[moving].T @ features[moving]
        self._product = self._fading * self._product + features[moving].T @ came[moving]


FORECASTERS: Mapping[str, Callable[[], Forecaster]] = {"persistence": Persistence, "holt": Holt, "learned": Learned}
