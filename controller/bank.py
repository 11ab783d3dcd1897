"""The rule of `controller.rule` for many series at once: the same states as arrays, one step a window.

`rule.observe` is the rule for one series, sample by sample, and what this must give; the tests compare the two.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from controller.rule import PPM, Rule

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
NONE = -1  # no baseline, no level: what is watched is never negative
BIG = 2**62 // (2 * PPM)  # above this PPM times a value would not fit


class Bank:
    """The states of M series, all quiet until `quiet_until_us` at first."""

    def __init__(self, rule: Rule, least: Sequence[int], quiet_until_us: int) -> None:
        count = len(least)
        self._rule, self._least = rule, np.array(least, dtype=np.int64)
        self._quiet = np.full(count, quiet_until_us, dtype=np.int64)
        self._learned = np.zeros((count, rule.learn), dtype=np.int64)
        self._seen = np.zeros(count, dtype=np.int64)
        self.baseline = np.full(count, NONE, dtype=np.int64)
        self._level = np.full(count, NONE, dtype=np.int64)
        self._high = np.zeros(count, dtype=np.int64)
        self._low = np.zeros((count, rule.windows), dtype=np.int64)
        self._lows = np.zeros(count, dtype=np.int64)

    def take(self, other: "Bank", here: Indices, there: Indices) -> None:
        """The states of another bank, from their places there."""
        for name, state in vars(self).items():
            if isinstance(state, np.ndarray) and name != "_least":
                state[here] = vars(other)[name][there]

    def step(self, now_us: int, values: Integers) -> Bools:
        """(M,) which fired; `values` of missing samples are negative, and capped where PPM times them overflows."""
        there, quiet = values >= 0, now_us < self._quiet
        values = np.minimum(values, BIG)
        learning = there & (self.baseline == NONE)
        known = there & ~learning
        self._learn(learning, quiet, values)
        rule, base = self._rule, self.baseline
        calm = known & (self._level != NONE) & (values * PPM < base * (PPM + rule.rise_ppm - rule.hysteresis_ppm))
        self._level[calm], self._high[calm] = NONE, 0
        fallen = known & (values * PPM <= base * (PPM - rule.rise_ppm))
        self._fall(fallen, values)
        rising = known & ~fallen
        reference = np.where(self._level == NONE, base, self._level)
        enough = self._evidence(rising, reference, values)
        fired = rising & (self._high >= enough) & ~quiet
        self._lows[rising] = 0
        self._level[fired], self._high[fired] = values[fired], 0
        self._quiet[fired] = now_us + rule.cooldown_us
        return np.asarray(fired)

    def _learn(self, which: Bools, quiet: Bools, values: Integers) -> None:
        self._learned[which] = np.roll(self._learned[which], -1, axis=1)
        self._learned[which, -1] = values[which]
        self._seen[which] += 1
        done = which & ~quiet & (self._seen >= self._rule.learn)
        self.baseline[done] = np.sort(self._learned[done], axis=1)[:, self._rule.learn // 2]
        self._level[done], self._high[done], self._lows[done] = NONE, 0, 0

    def _fall(self, which: Bools, values: Integers) -> None:
        at = np.flatnonzero(which)
        self._high[at] = 0
        self._low[at, self._lows[at]] = values[at]
        self._lows[at] += 1
        done = at[self._lows[at] >= self._rule.windows]
        self.baseline[done] = np.sort(self._low[done], axis=1)[:, self._rule.windows // 2]
        self._level[done], self._lows[done] = NONE, 0

    def _evidence(self, which: Bools, reference: Integers, values: Integers) -> int:
        """Counts a sample; how much fires."""
        rule, more = self._rule, values - reference
        if rule.method == "count":
            high = (values * PPM >= reference * (PPM + rule.rise_ppm)) & (more >= self._least)
            self._high[which] = np.where(high, self._high + 1, 0)[which]
            return rule.windows
        step = rule.rise_ppm - rule.drift_ppm
        part = more * PPM // np.maximum(reference, 1) - rule.drift_ppm
        part = np.minimum(part, np.where(more >= self._least, step, 0))
        self._high[which] = np.clip(self._high + part, 0, rule.windows * step)[which]
        return rule.windows * step
