"""Fits the model of `regimes` to recordings.

What was recorded together and goes together is one chain; what was recorded apart, or has a rank correlation of less
than `COUPLED` with the chain's first column, is a chain of its own. Regimes are levels of the first column averaged
over some seconds, clusters of its logarithm; of a rate, a step below `OUTAGE_SHARE` of the mean is an outage. How many
levels and how many seconds is chosen: those whose draw disagrees least with the recordings.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise, product
from statistics import NormalDist

from testbed.trace.agreement import OUTAGE_SHARE, agreement
from testbed.trace.regimes import Chain, Regime, RegimeCard, generate
from testbed.trace.rows import TraceError
from testbed.trace.series import RATES, Column, Series, resample

OUTAGE = "outage"
COUPLED = 0.2
LEVELS = (3, 5, 8, 12)
SMOOTH_S = (1.0, 2.0, 3.0, 5.0, 9.0)
TRIAL_STEPS = 30_000
GROUPS = 32  # entries of a table
_ORDER: tuple[Column, ...] = ("down_bps", "rate_bps", "up_bps", "delay_us", "jitter_us", "loss_ppm")
_NORMAL = NormalDist()


def fit(recordings: Sequence[Series], step_ms: int = 1000, levels: int | None = None, seed: int = 1) -> RegimeCard:
    """The card draws as long a trace as the recordings of its first column. Raises TraceError."""
    stepped = [resample(series, step_ms * 1000) for series in recordings]
    found: list[tuple[Chain, dict[str, object]]] = []
    done: set[Column] = set()
    length_us = 0
    for column in _ORDER:
        group = [one for one in stepped if column in one.columns]
        if column in done or not group:
            continue
        length_us = length_us or sum(one.length_us for one in group)
        columns = [column, *(other for other in _ORDER if other not in done and _goes_with(column, other, stepped))]
        found.append(_best(group, columns, step_ms, (levels,) if levels else LEVELS))
        done.update(columns)
    fitted = {
        "recordings": [one.name for one in recordings],
        "recorded": sorted({one.recorded for one in recordings}),
        "chains": [told for _, told in found],
    }
    duration_s = min(86_400, max(1, length_us // 10**6, -(-step_ms // 1000)))
    return RegimeCard(seed, duration_s, step_ms, tuple(chain for chain, _ in found), fitted)


def _goes_with(first: Column, other: Column, stepped: Sequence[Series]) -> bool:
    """Whether all that have one have the other, and they rise or fall together."""
    if first == other or any((first in one.columns) != (other in one.columns) for one in stepped):
        return False
    pairs = [
        (score_a, score_b)
        for one in stepped
        if first in one.columns
        for score_a, score_b in zip(_scores(one.columns[first]), _scores(one.columns[other]), strict=True)
    ]
    spread = math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    return spread > 0 and abs(sum(a * b for a, b in pairs)) / spread >= COUPLED


def _scores(values: Sequence[int]) -> list[float]:
    ordered = sorted(values)
    return [_score(ordered, value) for value in values]


def _best(
    group: Sequence[Series], columns: list[Column], step_ms: int, levels: Sequence[int]
) -> tuple[Chain, dict[str, object]]:
    """Tried on draws that are not those by which the agreement is told."""
    count = sum(len(one.t_us) for one in group)
    if count < 2 * (min(levels) + 1):
        raise TraceError(0, f"{count} steps of {step_ms} ms are too few for {min(levels)} levels")
    trial_s = max(1, TRIAL_STEPS * step_ms // 1000)
    best: tuple[float, Chain, dict[str, object]] | None = None
    for many, smooth_s in product((one for one in levels if count >= 2 * (one + 1)), SMOOTH_S):
        chain = _chain(group, columns, step_ms, many, smooth_s)
        drawn = generate(RegimeCard(0, min(86_400, trial_s), step_ms, (chain,)))
        error = sum(agreement(group, drawn, column, step_ms).error() for column in columns)
        if best is None or error < best[0]:
            best = error, chain, {"columns": columns, "levels": many, "smooth_s": smooth_s}
    assert best is not None
    return best[1], best[2]


def _chain(group: Sequence[Series], columns: Sequence[Column], step_ms: int, levels: int, smooth_s: float) -> Chain:
    first = columns[0]
    half = max(0, round(smooth_s * 1000 / step_ms / 2 - 0.5))
    means = [_smooth(one.columns[first], half) for one in group]
    floor = _floor([one.columns[first] for one in group]) if first in RATES else 0.0
    kept = [
        mean
        for one, smooth in zip(group, means, strict=True)
        for value, mean in zip(one.columns[first], smooth, strict=True)
        if value >= floor
    ]
    edges = _edges(sorted(kept), levels)
    labels = [
        [
            OUTAGE if value < floor else f"level {bisect_right(edges, mean) + 1}"
            for value, mean in zip(one.columns[first], smooth, strict=True)
        ]
        for one, smooth in zip(group, means, strict=True)
    ]
    memory = {column: _memory(group, labels, column) for column in columns}
    return Chain(tuple(_regimes(group, labels, columns, step_ms / 1000)), memory)


def _floor(parts: Sequence[Sequence[int]]) -> float:
    """Below it is an outage."""
    every = [value for part in parts for value in part]
    if not any(every):
        raise TraceError(0, "every rate is an outage; there is nothing to fit")
    return OUTAGE_SHARE * sum(every) / len(every)


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


def _smooth(values: Sequence[int], half: int) -> list[float]:
    """Means of each value and `half` as many before and after it."""
    sums = list(accumulate(values, initial=0))
    count = len(values)
    spans = ((max(0, i - half), min(count, i + half + 1)) for i in range(count))
    return [(sums[last] - sums[first]) / (last - first) for first, last in spans]


def _regimes(
    group: Sequence[Series], labels: Sequence[list[str]], columns: Sequence[Column], step_s: float
) -> list[Regime]:
    names = sorted({label for one in labels for label in one})
    dwells: dict[str, list[float]] = {name: [] for name in names}
    follows: dict[str, Counter[str]] = {name: Counter() for name in names}
    stays = [(name, len(list(same))) for one in labels for name, same in groupby(one)]
    for name, count in stays:
        dwells[name].append(count * step_s)
    # From the end of a recording to the next one's beginning, and round: so each regime is entered as often as it is
    # left, and has in the long run the share of the time that it was recorded with.
    for (before, _), (after, _) in pairwise([*stays, stays[0]]):
        follows[before][after] += 1
    tables = {column: _by_regime(group, labels, column) for column in columns}
    found = []
    for name in names:
        values = {column: tuple(round(mean) for mean in groups(tables[column][name])) for column in columns}
        weights = {after: float(weight) for after, weight in sorted(follows[name].items())}
        found.append(Regime(name, tuple(round(dwell, 3) for dwell in groups(dwells[name])), weights, values))
    return found


def _by_regime(group: Sequence[Series], labels: Sequence[list[str]], column: Column) -> dict[str, list[int]]:
    """Sorted values."""
    found: dict[str, list[int]] = {}
    for one, tags in zip(group, labels, strict=True):
        for value, tag in zip(one.columns[column], tags, strict=True):
            found.setdefault(tag, []).append(value)
    return {tag: sorted(values) for tag, values in found.items()}


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


def _memory(group: Sequence[Series], labels: Sequence[list[str]], column: Column) -> float:
    """Of the normal scores of ranks in their regime, between neighbours that are in one regime."""
    ranked = _by_regime(group, labels, column)
    products, squares = 0.0, 0.0
    for one, tags in zip(group, labels, strict=True):
        scores = [_score(ranked[tag], value) for value, tag in zip(one.columns[column], tags, strict=True)]
        for (a, before), (b, after) in pairwise(zip(scores, tags, strict=True)):
            if before == after:
                products += a * b
                squares += (a * a + b * b) / 2
    return round(min(0.99, max(0.0, products / squares if squares else 0.0)), 4)


def _score(ordered: Sequence[int], value: int) -> float:
    low = bisect_right(ordered, value - 1)
    return _NORMAL.inv_cdf(((low + bisect_right(ordered, value)) / 2) / len(ordered)) if len(ordered) > 1 else 0.0
