"""A semi-Markov model of a link, fitted to recordings: regimes that take turns, seeded.

A regime lasts as long as one drawn from its `dwells`; the next is drawn by its `next` weights. At each step every
column has a value drawn from the regime's table of it, which couples delay and the other direction to the rate. A
draw follows the one before it: its normal score is a first-order autoregression with the column's `memory`. Tables
and dwells hold the means of equal groups of what was recorded, in order. The regime "outage", if there is one, is the
one in which next to nothing passes. The same card gives the same trace.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist
from typing import Any, get_args

from testbed.trace.rows import TraceError
from testbed.trace.series import Column, Series

MODEL = "semi-markov regimes"
MOST_STEPS = 500_000
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Regime:
    name: str
    dwells: tuple[float, ...]  # seconds
    next: Mapping[str, float]  # regime -> weight
    values: Mapping[Column, tuple[int, ...]]  # rising


@dataclass(frozen=True, slots=True)
class RegimeCard:
    """The side-card of a trace drawn from a fitted model."""

    seed: int
    duration_s: int
    step_ms: int
    regimes: tuple[Regime, ...]
    memory: Mapping[Column, float]  # correlation of the normal scores of two steps within a regime, 0 to below 1
    fitted: Mapping[str, Any] = field(default_factory=dict)  # to which recordings, and how well they agree
    model: str = MODEL
    version: int = 1


def generate(card: RegimeCard, name: str = "generated") -> Series:
    """Raises TraceError."""
    _check(card)
    chance = Random(f"{card.model} {card.version} {card.seed}")
    regimes = {regime.name: regime for regime in card.regimes}
    columns = list(card.regimes[0].values)
    weights = [_mean(regime.dwells) for regime in card.regimes]
    regime = chance.choices(card.regimes, weights)[0]
    step_s = card.step_ms / 1000
    left_s = chance.choice(regime.dwells)
    scores = {column: chance.gauss(0, 1) for column in columns}
    drawn: dict[Column, list[int]] = {column: [] for column in columns}
    for _ in range(card.duration_s * 1000 // card.step_ms):
        while left_s < step_s / 2:
            if regime.next:
                regime = regimes[chance.choices(list(regime.next), list(regime.next.values()))[0]]
            left_s += chance.choice(regime.dwells)
        for column in columns:
            drawn[column].append(quantile(regime.values[column], _NORMAL.cdf(scores[column])))
            keep = card.memory.get(column, 0.0)
            scores[column] = keep * scores[column] + math.sqrt(1 - keep * keep) * chance.gauss(0, 1)
        left_s -= step_s
    count = len(drawn[columns[0]])
    step_us = card.step_ms * 1000
    return Series(
        name,
        tuple(range(0, count * step_us, step_us)),
        count * step_us,
        {column: tuple(values) for column, values in drawn.items()},
        recorded="generated",
    )


def quantile(table: tuple[int, ...], share: float) -> int:
    """Between the middles of equal groups, straight lines."""
    place = min(max(share * len(table) - 0.5, 0.0), len(table) - 1.0)
    low = int(place)
    high = min(low + 1, len(table) - 1)
    return round(table[low] + (table[high] - table[low]) * (place - low))


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _check(card: RegimeCard) -> None:
    if card.model != MODEL or card.version != 1:
        raise TraceError(0, f"a card of model {card.model!r} version {card.version}; '{MODEL}' version 1 is right")
    if not card.regimes:
        raise TraceError(0, "a card needs at least one regime")
    if not (1 <= card.duration_s <= 86_400 and 10 <= card.step_ms <= card.duration_s * 1000):
        raise TraceError(0, "a card needs duration_s of 1 to 86400 and step_ms of at least 10, not above the duration")
    if card.duration_s * 1000 // card.step_ms > MOST_STEPS:
        raise TraceError(0, f"more than {MOST_STEPS} steps; a longer step_ms is right")
    names = {regime.name for regime in card.regimes}
    columns = set(card.regimes[0].values)
    if not columns or not columns <= set(get_args(Column)):
        raise TraceError(0, f"columns {', '.join(sorted(columns))}; some of {', '.join(get_args(Column))} are right")
    for regime in card.regimes:
        _check_regime(regime, names, columns, card.step_ms)
    if not all(0 <= keep < 1 for keep in card.memory.values()):
        raise TraceError(0, "a card needs memory from 0 to below 1")


def _check_regime(regime: Regime, names: set[str], columns: set[Column], step_ms: int) -> None:
    whole = all(isinstance(value, int) and value >= 0 for table in regime.values.values() for value in table)
    if set(regime.values) != columns or not whole or not all(regime.values.values()):
        raise TraceError(0, f"regime '{regime.name}' needs a table of whole numbers for {', '.join(sorted(columns))}")
    if not regime.dwells or not min(regime.dwells) >= step_ms / 2000:
        raise TraceError(0, f"regime '{regime.name}' needs dwells, none shorter than half a step")
    lonely = len(names) > 1 and not regime.next
    if lonely or not set(regime.next) <= names or not all(0 < weight < math.inf for weight in regime.next.values()):
        raise TraceError(0, f"regime '{regime.name}' needs weights above zero of the regimes that follow it")


def card_to_json(card: RegimeCard) -> str:
    """The tables on one line each."""
    raw = dataclasses.asdict(card)
    regimes = raw.pop("regimes")
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in raw.items()]
    inner = ",\n".join(
        "    {\n" + ",\n".join(f"      {json.dumps(k)}: {json.dumps(v)}" for k, v in regime.items()) + "\n    }"
        for regime in regimes
    )
    return "{\n" + ",\n".join([*lines, f'  "regimes": [\n{inner}\n  ]']) + "\n}\n"


def card_from_json(text: str) -> RegimeCard:
    """Raises TraceError."""
    try:
        raw = json.loads(text)
        regimes = tuple(
            Regime(
                name=regime["name"],
                dwells=tuple(float(dwell) for dwell in regime["dwells"]),
                next={str(name): float(weight) for name, weight in regime["next"].items()},
                values={column: tuple(table) for column, table in regime["values"].items()},
            )
            for regime in raw["regimes"]
        )
        card = RegimeCard(**{**raw, "regimes": regimes})
        _check(card)
    except TraceError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        raise TraceError(0, f"not a card of regimes: {fault}; `testbed trace fit` writes one") from None
    return card
