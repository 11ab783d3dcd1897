"""A semi-Markov model of a link, fitted to recordings: regimes that take turns, seeded.

A model is one or more chains, each of some columns: what goes together is drawn by one chain, what does not by chains
of their own. In a chain a regime lasts as long as one drawn from its `dwells`; the next is drawn by its `next` weights.
At each step every column has a value drawn from the regime's table of it, which couples delay and the other direction
to the rate. A draw follows the one before it: its normal score is a first-order autoregression with the column's
`memory`. Tables and dwells hold the means of equal groups of what was recorded, in order. The regime "outage", if there
is one, is the one in which next to nothing passes. The same card gives the same trace.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist
from typing import Any, get_args

from testbed.trace.rows import TraceError
from testbed.trace.series import Column, Series

MODEL = "semi-markov regimes"
VERSION = 2
MOST_STEPS = 500_000
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Regime:
    name: str
    dwells: tuple[float, ...]  # seconds
    next: Mapping[str, float]  # regime -> weight
    values: Mapping[Column, tuple[int, ...]]  # rising


@dataclass(frozen=True, slots=True)
class Chain:
    regimes: tuple[Regime, ...]  # all of the same columns
    memory: Mapping[Column, float]  # correlation of the normal scores of two steps within a regime, 0 to below 1


@dataclass(frozen=True, slots=True)
class RegimeCard:
    """The side-card of a trace drawn from a fitted model."""

    seed: int
    duration_s: int
    step_ms: int
    chains: tuple[Chain, ...]
    fitted: Mapping[str, Any] = field(default_factory=dict)  # to which recordings, and how well they agree
    model: str = MODEL
    version: int = VERSION


def generate(card: RegimeCard, name: str = "generated") -> Series:
    """Raises TraceError."""
    _check(card)
    count, step_us = card.duration_s * 1000 // card.step_ms, card.step_ms * 1000
    columns: dict[Column, tuple[int, ...]] = {}
    for number, chain in enumerate(card.chains):
        chance = Random(f"{card.model} {card.version} {card.seed} {number}")
        columns |= _drawn(chain, chance, count, card.step_ms / 1000)
    times = tuple(range(0, count * step_us, step_us))
    return Series(name, times, count * step_us, columns, recorded="generated")


def _drawn(chain: Chain, chance: Random, count: int, step_s: float) -> dict[Column, tuple[int, ...]]:
    columns = list(chain.regimes[0].values)
    scores = {column: chance.gauss(0, 1) for column in columns}
    drawn: dict[Column, list[int]] = {column: [] for column in columns}
    turns = _turns(chain, chance, step_s)
    for _ in range(count):
        regime = next(turns)
        for column in columns:
            drawn[column].append(quantile(regime.values[column], _NORMAL.cdf(scores[column])))
            keep = chain.memory.get(column, 0.0)
            scores[column] = keep * scores[column] + math.sqrt(1 - keep * keep) * chance.gauss(0, 1)
    return {column: tuple(values) for column, values in drawn.items()}


def _turns(chain: Chain, chance: Random, step_s: float) -> Iterator[Regime]:
    """The regime of each step, without end; the first by how much of the time it has."""
    regimes = {regime.name: regime for regime in chain.regimes}
    regime = chance.choices(chain.regimes, [sum(one.dwells) / len(one.dwells) for one in chain.regimes])[0]
    left_s = chance.choice(regime.dwells)
    while True:
        while left_s < step_s / 2:
            if regime.next:
                regime = regimes[chance.choices(list(regime.next), list(regime.next.values()))[0]]
            left_s += chance.choice(regime.dwells)
        yield regime
        left_s -= step_s


def quantile(table: tuple[int, ...], share: float) -> int:
    """Between the middles of equal groups, straight lines."""
    place = min(max(share * len(table) - 0.5, 0.0), len(table) - 1.0)
    low = int(place)
    high = min(low + 1, len(table) - 1)
    return round(table[low] + (table[high] - table[low]) * (place - low))


def _check(card: RegimeCard) -> None:
    if card.model != MODEL or card.version != VERSION:
        raise TraceError(
            0, f"a card of model {card.model!r} version {card.version}; '{MODEL}' version {VERSION} is right, fit anew"
        )
    if not card.chains or not all(chain.regimes for chain in card.chains):
        raise TraceError(0, "a card needs at least one chain, and a chain at least one regime")
    if not (1 <= card.duration_s <= 86_400 and 10 <= card.step_ms <= card.duration_s * 1000):
        raise TraceError(0, "a card needs duration_s of 1 to 86400 and step_ms of at least 10, not above the duration")
    if card.duration_s * 1000 // card.step_ms > MOST_STEPS:
        raise TraceError(0, f"more than {MOST_STEPS} steps; a longer step_ms is right")
    every = [column for chain in card.chains for column in chain.regimes[0].values]
    if not set(every) <= set(get_args(Column)) or len(set(every)) < len(every):
        raise TraceError(0, f"columns {', '.join(every)}; some of {', '.join(get_args(Column))} are right, each once")
    for chain in card.chains:
        _check_chain(chain, card.step_ms)


def _check_chain(chain: Chain, step_ms: int) -> None:
    names = {regime.name for regime in chain.regimes}
    columns = set(chain.regimes[0].values)
    for regime in chain.regimes:
        whole = all(isinstance(value, int) and value >= 0 for table in regime.values.values() for value in table)
        if not columns or set(regime.values) != columns or not whole or not all(regime.values.values()):
            raise TraceError(
                0, f"regime '{regime.name}' needs a table of whole numbers for each column of its chain, at least one"
            )
        if not regime.dwells or not min(regime.dwells) >= step_ms / 2000:
            raise TraceError(0, f"regime '{regime.name}' needs dwells, none shorter than half a step")
        lonely = len(names) > 1 and not regime.next
        if lonely or not set(regime.next) <= names or not all(0 < weight < math.inf for weight in regime.next.values()):
            raise TraceError(0, f"regime '{regime.name}' needs weights above zero of the regimes that follow it")
    if not all(0 <= keep < 1 for keep in chain.memory.values()):
        raise TraceError(0, "a chain needs memory from 0 to below 1")


def card_to_json(card: RegimeCard, sha256: str | None = None) -> str:
    """The tables on one line each. `sha256`: of the trace that it lies beside, if it does."""
    return _laid_out(dataclasses.asdict(card) | ({"sha256": sha256} if sha256 else {}), 0) + "\n"


def _laid_out(value: Any, depth: int) -> str:
    """What holds nothing but numbers and texts goes on one line."""
    inner = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list | tuple) else []
    if not any(isinstance(one, dict | list | tuple) for one in inner):
        return json.dumps(value)
    pad, marks = "  " * (depth + 1), "{}" if isinstance(value, dict) else "[]"
    texts = [_laid_out(one, depth + 1) for one in inner]
    if isinstance(value, dict):
        texts = [f"{json.dumps(str(key))}: {text}" for key, text in zip(value, texts, strict=True)]
    return f"{marks[0]}\n" + ",\n".join(pad + text for text in texts) + f"\n{'  ' * depth}{marks[1]}"


def card_from_json(text: str) -> RegimeCard:
    """Raises TraceError."""
    try:
        raw = json.loads(text)
        raw.pop("sha256", None)  # of the trace beside it
        if raw.get("version", VERSION) == VERSION:
            raw["chains"] = tuple(_chain_of(chain) for chain in raw["chains"])
        else:
            raw = {"seed": 0, "duration_s": 0, "step_ms": 0, "chains": (), "version": raw["version"]}
        card = RegimeCard(**raw)
        _check(card)
    except TraceError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        raise TraceError(0, f"not a card of regimes: {fault}; `testbed trace fit` writes one") from None
    return card


def _chain_of(raw: Mapping[str, Any]) -> Chain:
    regimes = tuple(
        Regime(
            name=regime["name"],
            dwells=tuple(float(dwell) for dwell in regime["dwells"]),
            next={str(name): float(weight) for name, weight in regime["next"].items()},
            values={column: tuple(table) for column, table in regime["values"].items()},
        )
        for regime in raw["regimes"]
    )
    return Chain(regimes, dict(raw["memory"]))
