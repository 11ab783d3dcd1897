"""How well what a model draws agrees with what was recorded, column by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.trace.regimes import MOST_STEPS, RegimeCard, generate
from testbed.trace.series import RATES, Column, Series, resample

OUTAGE_SHARE = 0.1  # of the recorded mean; a step below is an outage
LAGS_S = (1, 5, 10)
QUANTILES = (5, 25, 50, 75, 95)

_Values = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one column: what was recorded and what the model draws."""

    column: Column
    quantiles: Mapping[int, tuple[int, int]]  # percent -> (recorded, drawn)
    distance: float  # Kolmogorov-Smirnov, 0 to 1
    halves: float  # the same distance, between the first and the second halves of the recordings
    correlation: Mapping[int, tuple[float, float]]  # lag in seconds -> (recorded, drawn)
    outage: tuple[float, float] | None  # share of steps, of rates

    def error(self) -> float:
        """What a fit makes small: distance, mean difference of the correlations and difference of the outages."""
        apart = [abs(was - now) for was, now in self.correlation.values()]
        lost = abs(self.outage[0] - self.outage[1]) if self.outage else 0.0
        return self.distance + sum(apart) / max(1, len(apart)) + lost


def long_draw(card: RegimeCard) -> Series:
    """A day, or as many steps as there may be: so long that chance plays little part in how well they agree."""
    return generate(replace(card, duration_s=min(86_400, MOST_STEPS * card.step_ms // 1000)))


def agreement(recordings: Sequence[Series], drawn: Series, column: Column, step_ms: int) -> Agreement:
    """Step by step; of the recordings that have the column."""
    kept = [_array(resample(one, step_ms * 1000).columns[column]) for one in recordings if column in one.columns]
    mine = _array(drawn.columns[column])
    theirs, ours = np.sort(np.concatenate(kept)), np.sort(mine)
    floor = OUTAGE_SHARE * float(theirs.mean())
    lags = [lag for lag in LAGS_S if lag * 1000 >= step_ms]
    return Agreement(
        column,
        {q: (_at(theirs, q), _at(ours, q)) for q in QUANTILES},
        round(_distance(theirs, ours), 4),
        round(_halves(kept), 4),
        {
            lag: (
                round(autocorrelation(kept, lag * 1000 // step_ms), 4),
                round(autocorrelation([mine], lag * 1000 // step_ms), 4),
            )
            for lag in lags
        },
        (round(float((theirs < floor).mean()), 4), round(float((ours < floor).mean()), 4)) if column in RATES else None,
    )


def _array(values: Sequence[int]) -> _Values:
    return np.asarray(values, dtype=np.int64)


def _at(ordered: _Values, percent: int) -> int:
    return int(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)])


def _distance(a: _Values, b: _Values) -> float:
    """Of two sorted samples."""
    every = np.concatenate((a, b))
    shares = (np.searchsorted(one, every, side="right") / len(one) for one in (a, b))
    return float(np.abs(next(shares) - next(shares)).max())


def _halves(parts: Sequence[_Values]) -> float:
    first = np.concatenate([part[: len(part) // 2] for part in parts])
    second = np.concatenate([part[len(part) // 2 :] for part in parts])
    return _distance(np.sort(first), np.sort(second)) if len(first) else 0.0


def autocorrelation(parts: Sequence[Sequence[int] | _Values], lag: int) -> float:
    """About the mean of all parts, never across the end of one; 0 if nothing varies."""
    every = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    mean, spread = every.mean(), every.var()
    offsets = [np.asarray(part, dtype=np.float64) - mean for part in parts if len(part) > lag]
    pairs = np.concatenate([one[:-lag] * one[lag:] for one in offsets]) if offsets else np.empty(0)
    return float(pairs.mean() / spread) if len(pairs) and spread else 0.0


def markdown(cards: Mapping[str, RegimeCard]) -> str:
    """A table of what the cards say, recorded / drawn; rates in Mbit/s, delays in ms."""
    titles = ("trace", "column", "p5", "p50", "p95", "KS", "KS of halves", "r 1 s", "r 5 s", "r 10 s", "outage %")
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for name, card in cards.items():
        for column, told in card.fitted.get("agreement", {}).items():
            lines.append("| " + " | ".join((name, *_cells(column, told))) + " |")
    return "\n".join(lines) + "\n"


def _cells(column: Column, told: Mapping[str, Any]) -> tuple[str, ...]:
    per = 10**6 if column in RATES else 1000
    points = tuple(_both(*told["quantiles"][str(q)], per=per, digits=".3g") for q in (5, 50, 95))
    memory = tuple(_both(*told["correlation"].get(str(lag), (0, 0)), digits=".2f") for lag in LAGS_S)
    outage = _both(*told["outage"], per=0.01, digits=".1f") if told["outage"] else ""
    title = column.removesuffix("_bps").removesuffix("_us")
    return title, *points, f"{told['distance']:.3f}", f"{told['halves']:.3f}", *memory, outage


def _both(recorded: float, drawn: float, *, per: float = 1, digits: str) -> str:
    return f"{recorded / per:{digits}} / {drawn / per:{digits}}"
