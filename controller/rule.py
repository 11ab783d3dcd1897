"""The rule of change detection for one series: what got at least 20 % slower, and stayed so.

Given one sample a window, with the defaults of `Rule`:
  1. *Learning*: the baseline is the median of the last `learn` (3) samples, fixed as soon as there are that many and
     no quiet time runs. A baseline never rises by itself, so a slow ramp is found like a step.
  2. *Calm*: a sample is high when it is >= baseline * (1 + rise) (20 %), and above it by `least` at least. `windows`
     (2) high samples one after another fire. As many samples <= baseline * (1 - rise) fix the baseline again, lower.
  3. *Raised*: after firing it is armed again by one sample < baseline * (1 + rise - hysteresis) (10 %). Until then
     it fires again only when the level at which it last fired is exceeded by the same rule.
  4. After a firing the series is quiet for `cooldown_us` (5 s); high samples are counted then, firing waits.
  5. A missing sample changes nothing. After a move all series learn again, quiet for `cooldown_us`.
Comparisons are of integers: exactly 20 % fires. Nodes that go down or come up are told at once, every time.

The method `cusum` (Page 1954, one-sided, bounded) replaces the count in 2. and 3. by a sum: each sample adds what it is
above the reference in parts of it, less `drift`, but not more than rise - drift; the sum is never below 0 and fires at
windows * (rise - drift). So a step of `rise` fires as soon as by the count, one of more than `drift` later, one
of up to `drift` never; a spike cannot fire alone; a low sample between high ones takes back, it does not start anew.
"""

from dataclasses import dataclass, replace
from typing import Literal

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    rise_ppm: int = 200_000
    hysteresis_ppm: int = 100_000
    windows: int = 2
    learn: int = 3
    cooldown_us: int = 5_000_000
    method: Literal["count", "cusum"] = "count"
    drift_ppm: int = 100_000  # cusum only, below rise_ppm


@dataclass(frozen=True, slots=True)
class Series:
    """The state of one watched time; a new value for every sample."""

    quiet_until_us: int = 0
    learned: tuple[int, ...] = ()  # the last samples, while there is no baseline
    baseline: int | None = None
    level: int | None = None  # at which it last fired; None: calm
    high: int = 0  # high samples in a row; of cusum the sum in ppm
    low: tuple[int, ...] = ()  # low samples in a row


def observe(rule: Rule, series: Series, now_us: int, value: int, least: int = 0) -> tuple[Series, bool]:
    """One sample: the new state, and whether it fired."""
    quiet = now_us < series.quiet_until_us
    baseline = series.baseline
    if baseline is None:
        learned = (*series.learned, value)[-rule.learn :]
        if quiet or len(learned) < rule.learn:
            return replace(series, learned=learned), False
        return Series(series.quiet_until_us, baseline=sorted(learned)[len(learned) // 2]), False
    if series.level is not None and value * PPM < baseline * (PPM + rule.rise_ppm - rule.hysteresis_ppm):
        series = replace(series, level=None, high=0)
    if value * PPM <= baseline * (PPM - rule.rise_ppm):
        return _fallen(rule, series, value), False
    reference = baseline if series.level is None else series.level
    high, enough = _evidence(rule, series.high, reference, value, least)
    if high >= enough and not quiet:
        return replace(series, level=value, high=0, low=(), quiet_until_us=now_us + rule.cooldown_us), True
    return replace(series, high=high, low=()), False


def _evidence(rule: Rule, high: int, reference: int, value: int, least: int) -> tuple[int, int]:
    """(the evidence of a rise with this sample, how much fires)."""
    if rule.method == "count":
        above = value * PPM >= reference * (PPM + rule.rise_ppm) and value - reference >= least
        return high + 1 if above else 0, rule.windows
    step = rule.rise_ppm - rule.drift_ppm
    part = (value - reference) * PPM // max(reference, 1) - rule.drift_ppm
    part = min(part, step if value - reference >= least else 0)
    return min(max(high + part, 0), rule.windows * step), rule.windows * step


def _fallen(rule: Rule, series: Series, value: int) -> Series:
    low = (*series.low, value)
    if len(low) < rule.windows:
        return replace(series, high=0, low=low)
    return Series(series.quiet_until_us, baseline=sorted(low)[len(low) // 2])
