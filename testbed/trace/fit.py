"""Fits the model of `regimes` to recordings, and says how well what it draws agrees with them.

Regimes: an outage is a step below `OUTAGE_SHARE` of the mean rate; the others are levels of the rate averaged over
`SMOOTH_S`, clusters of its logarithm. The rate that makes regimes is the one downwards, or the only one. A recording
without rates gives delays that no regime changes.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from statistics import NormalDist

from testbed.trace.regimes import MOST_STEPS, Regime, RegimeCard, generate
from testbed.trace.rows import TraceError
from testbed.trace.series import RATES, Column, Series, resample

OUTAGE = "outage"
OUTAGE_SHARE = 0.1
SMOOTH_S = 3.0
GROUPS = 32  # entries of a table
LAGS_S = (1, 5, 10)
QUANTILES = (5, 25, 50, 75, 95)
_PRIMARY: tuple[Column, ...] = ("down_bps", "rate_bps", "up_bps")
_FITTED: tuple[Column, ...] = ("rate_bps", "up_bps", "down_bps", "delay_us", "jitter_us", "loss_ppm")
_NORMAL = NormalDist()


def fit(recordings: Sequence[Series], step_ms: int = 1000, levels: int = 5, seed: int = 1) -> RegimeCard:
    """The card draws as long a trace as all recordings together. Raises TraceError."""
    stepped = [resample(series, step_ms * 1000) for series in recordings]
    primary = next((c for c in _PRIMARY if any(c in one.columns for one in stepped)), None)
    if primary is None:
        raise TraceError(0, "no recording has a rate, and regimes are of the rate; add one that has")
    rated = [one for one in stepped if primary in one.columns]
    columns = [c for c in _FITTED if all(c in one.columns for one in rated)]
    edges, floor = _bounds(rated, primary, levels, step_ms)
    labels = [_labels(one.columns[primary], edges, floor, step_ms) for one in rated]
    if sum(map(len, labels)) < 2 * (levels + 1):
        raise TraceError(0, f"{sum(map(len, labels))} steps of {step_ms} ms are too few for {levels} levels")
    loose = _loose([one for one in stepped if primary not in one.columns]) if "delay_us" not in columns else ()
    regimes = tuple(_regimes(rated, labels, columns, step_ms / 1000, loose))
    memory = {column: _memory(rated, labels, column) for column in columns}
    if loose:
        columns.append("delay_us")
    length_s = max(1, sum(one.length_us for one in rated) // 10**6)
    fitted = {
        "recordings": [one.name for one in recordings],
        "recorded": sorted({one.recorded for one in recordings}),
        "levels": levels,
        "delay": "with the rate" if not loose else "of recordings of their own, apart from the rate",
    }
    return RegimeCard(seed, min(86_400, length_s), step_ms, regimes, memory, fitted)


def _bounds(rated: Sequence[Series], primary: Column, levels: int, step_ms: int) -> tuple[list[float], float]:
    """Between the levels, and above an outage."""
    every = [value for one in rated for value in one.columns[primary]]
    floor = OUTAGE_SHARE * sum(every) / len(every)
    smooth = sorted(
        mean
        for one in rated
        for value, mean in zip(one.columns[primary], _smooth(one.columns[primary], step_ms), strict=True)
        if value >= floor
    )
    if not smooth:
        raise TraceError(0, "every rate is an outage; there is nothing to fit")
    return _edges(smooth, levels), floor


def _edges(ordered: Sequence[float], levels: int) -> list[float]:
    """Between `levels` clusters of the logarithms (k-means, begun with as many values in each)."""
    logs = [math.log(max(1.0, value)) for value in ordered]
    sums = list(accumulate(logs, initial=0.0))
    cuts = [len(logs) * k // levels for k in range(levels + 1)]
    for _ in range(100):
        means = [(sums[b] - sums[a]) / (b - a) for a, b in pairwise(cuts) if b > a]
        before, cuts = cuts, [0, *(bisect_right(logs, (a + b) / 2) for a, b in pairwise(means)), len(logs)]
        if cuts == before:
            break
    return [ordered[cut] for cut in cuts[1:-1] if 0 < cut < len(ordered)]


def _smooth(values: Sequence[int], step_ms: int) -> list[float]:
    half = max(0, round(SMOOTH_S * 1000 / step_ms / 2 - 0.5))
    sums = [0]
    for value in values:
        sums.append(sums[-1] + value)
    return [
        (sums[min(len(values), i + half + 1)] - sums[max(0, i - half)])
        / (min(len(values), i + half + 1) - max(0, i - half))
        for i in range(len(values))
    ]


def _labels(values: Sequence[int], edges: Sequence[float], floor: float, step_ms: int) -> list[str]:
    return [
        OUTAGE if value < floor else f"level {bisect_right(edges, mean) + 1}"
        for value, mean in zip(values, _smooth(values, step_ms), strict=True)
    ]


def _loose(recordings: Sequence[Series]) -> tuple[int, ...]:
    delays = [d for one in recordings for d in one.columns.get("delay_us", ())]
    return tuple(round(mean) for mean in groups(delays)) if delays else ()


def _regimes(
    rated: Sequence[Series],
    labels: Sequence[list[str]],
    columns: Sequence[Column],
    step_s: float,
    loose: tuple[int, ...],
) -> list[Regime]:
    names = sorted({label for one in labels for label in one})
    dwells: dict[str, list[float]] = {name: [] for name in names}
    follows: dict[str, Counter[str]] = {name: Counter() for name in names}
    for one in labels:
        stays = [(name, len(list(same))) for name, same in groupby(one)]
        for name, count in stays:
            dwells[name].append(count * step_s)
        for (before, _), (after, _) in pairwise(stays):
            follows[before][after] += 1
    found = []
    for name in names:
        values: dict[Column, tuple[int, ...]] = {}
        for column in columns:
            own = [
                v
                for one, tags in zip(rated, labels, strict=True)
                for v, tag in zip(one.columns[column], tags, strict=True)
                if tag == name
            ]
            values[column] = tuple(round(mean) for mean in groups(own))
        if loose:
            values["delay_us"] = loose
        weights = sorted(follows[name].items()) or [(other, 1) for other in names if other != name]
        stays_s = tuple(round(dwell, 3) for dwell in groups(dwells[name]))
        found.append(Regime(name, stays_s, {after: float(weight) for after, weight in weights}, values))
    return found


def groups(values: Sequence[float], most: int = GROUPS) -> list[float]:
    """Means of equal groups of the sorted values, so that the mean of all stays the same."""
    ordered = sorted(values)
    count = min(most, len(ordered))
    means = []
    for k in range(count):
        first, last = k * len(ordered) / count, (k + 1) * len(ordered) / count
        area = 0.0
        for i in range(math.floor(first), min(len(ordered), math.ceil(last))):
            area += ordered[i] * (min(last, i + 1) - max(first, i))
        means.append(area / (last - first))
    return means


def _memory(rated: Sequence[Series], labels: Sequence[list[str]], column: Column) -> float:
    """Of the normal scores of ranks in their regime, between neighbours that are in one regime."""
    ranked: dict[str, list[int]] = {}
    for one, tags in zip(rated, labels, strict=True):
        for value, tag in zip(one.columns[column], tags, strict=True):
            ranked.setdefault(tag, []).append(value)
    for values in ranked.values():
        values.sort()
    products, squares = 0.0, 0.0
    for one, tags in zip(rated, labels, strict=True):
        scores = [_score(ranked[tag], value) for value, tag in zip(one.columns[column], tags, strict=True)]
        for (a, before), (b, after) in pairwise(zip(scores, tags, strict=True)):
            if before == after:
                products += a * b
                squares += (a * a + b * b) / 2
    return round(min(0.99, max(0.0, products / squares if squares else 0.0)), 4)


def _score(ordered: Sequence[int], value: int) -> float:
    low = bisect_right(ordered, value - 1)
    return _NORMAL.inv_cdf(((low + bisect_right(ordered, value)) / 2) / len(ordered)) if len(ordered) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one column: what was recorded and what the model draws."""

    column: Column
    quantiles: Mapping[int, tuple[int, int]]  # percent -> (recorded, drawn)
    distance: float  # Kolmogorov-Smirnov, 0 to 1
    correlation: Mapping[int, tuple[float, float]]  # lag in seconds -> (recorded, drawn)
    outage: tuple[float, float] | None  # share of steps, of rates


def long_draw(card: RegimeCard) -> Series:
    """Ten times the recordings, at least an hour: so long that chance plays no part in how well they agree."""
    length_s = min(86_400, max(3600, 10 * card.duration_s), MOST_STEPS * card.step_ms // 1000)
    return generate(replace(card, duration_s=length_s))


def agreement(recordings: Sequence[Series], drawn: Series, column: Column, step_ms: int) -> Agreement:
    """Step by step; an outage is a step below `OUTAGE_SHARE` of the recorded mean."""
    kept = [resample(one, step_ms * 1000).columns[column] for one in recordings if column in one.columns]
    mine = drawn.columns[column]
    theirs, ours = sorted(v for one in kept for v in one), sorted(mine)
    floor = OUTAGE_SHARE * sum(theirs) / len(theirs)
    return Agreement(
        column,
        {q: (_at(theirs, q), _at(ours, q)) for q in QUANTILES},
        _distance(theirs, ours),
        {
            lag: (autocorrelation(kept, lag * 1000 // step_ms), autocorrelation([mine], lag * 1000 // step_ms))
            for lag in LAGS_S
            if lag * 1000 >= step_ms
        },
        (sum(v < floor for v in theirs) / len(theirs), sum(v < floor for v in ours) / len(ours))
        if column in RATES
        else None,
    )


def _at(ordered: Sequence[int], percent: int) -> int:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _distance(a: Sequence[int], b: Sequence[int]) -> float:
    return max(abs(bisect_right(a, v) / len(a) - bisect_right(b, v) / len(b)) for v in {*a, *b})


def autocorrelation(parts: Sequence[Sequence[int]], lag: int) -> float:
    """About the mean of all parts, never across the end of one; 0 if nothing varies."""
    every = [v for part in parts for v in part]
    mean = sum(every) / len(every)
    spread = sum((v - mean) ** 2 for v in every) / len(every)
    pairs = [(a - mean) * (b - mean) for part in parts for a, b in zip(part, part[lag:], strict=False)]
    return sum(pairs) / len(pairs) / spread if pairs and spread else 0.0
