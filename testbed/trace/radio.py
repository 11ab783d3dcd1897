"""A seeded radio link: regimes of quality that take turns, and a rate that wanders inside each.

The regimes form a Markov chain in continuous time (mean dwell, next one drawn by weight). Inside a regime the rate
is log-normal around the regime's mean with a coefficient of variation, correlated over `memory_s` (first-order
autoregression of its logarithm). Up and down share the regime and `sharing` of their wandering. The `Card` holds
all of it, seed included: the same card gives the same trace.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from testbed.trace.formats import TraceError
from testbed.trace.series import Series


@dataclass(frozen=True, slots=True)
class Regime:
    name: str
    up_kbps: int
    down_kbps: int
    variation: float  # standard deviation over mean of the rate
    dwell_s: float  # mean time until the next regime
    weight: float = 1.0  # how likely it is the next one
    delay_ms: float = 8.0
    loss_pct: float = 0.0


@dataclass(frozen=True, slots=True)
class Card:
    """The side-card of a generated trace: model, parameters and seed."""

    seed: int
    duration_s: int
    regimes: tuple[Regime, ...]
    step_ms: int = 500
    memory_s: float = 3.0
    sharing: float = 0.5
    model: str = "regime-switching radio"
    version: int = 1


# Means and variations as in public recordings of walking and driving 5G users: uplink some tens of Mbit/s, downlink
# about four times that, variation 0.2 to 0.6, dwell of seconds to tens of seconds.
URBAN = (
    Regime("good", 42_000, 180_000, 0.12, 12.0, 2.0),
    Regime("fair", 33_000, 120_000, 0.15, 10.0, 3.0),
    Regime("poor", 25_000, 70_000, 0.18, 5.0, 1.0),
)
DRIVING = (
    Regime("good", 60_000, 300_000, 0.3, 8.0, 2.0),
    Regime("fair", 25_000, 110_000, 0.4, 6.0, 3.0),
    Regime("poor", 6_000, 20_000, 0.6, 4.0, 2.0, delay_ms=15.0),
    Regime("edge", 600, 2_000, 0.8, 2.0, 1.0, delay_ms=30.0),
)
MODELS: Mapping[str, tuple[Regime, ...]] = {"urban": URBAN, "driving": DRIVING}


def generate(card: Card, name: str = "generated") -> Series:
    """The trace of a card: rates both ways and delay, jitter-free, one row a step."""
    _check(card)
    chance = Random(f"{card.model} {card.version} {card.seed}")
    step_s = card.step_ms / 1000
    keep = math.exp(-step_s / card.memory_s)
    regime = _next(card.regimes, None, chance)
    left_s = chance.expovariate(1 / regime.dwell_s)
    shared, up, down = (chance.gauss(0, 1) for _ in range(3))
    rows: list[tuple[int, int, int, int]] = []
    for _ in range(card.duration_s * 1000 // card.step_ms):
        rows.append(
            (
                _rate(regime.up_kbps, regime.variation, _mix(card.sharing, shared, up)),
                _rate(regime.down_kbps, regime.variation, _mix(card.sharing, shared, down)),
                round(regime.delay_ms * 1000),
                round(regime.loss_pct * 10_000),
            )
        )
        shared, up, down = (
            keep * value + math.sqrt(1 - keep * keep) * chance.gauss(0, 1) for value in (shared, up, down)
        )
        left_s -= step_s
        if left_s <= 0 and len(card.regimes) > 1:
            regime = _next(card.regimes, regime, chance)
            left_s = chance.expovariate(1 / regime.dwell_s)
    up_bps, down_bps, delay_us, loss_ppm = zip(*rows, strict=True)
    times = tuple(range(0, len(rows) * card.step_ms * 1000, card.step_ms * 1000))
    columns: dict[Any, tuple[int, ...]] = {"up_bps": up_bps, "down_bps": down_bps, "delay_us": delay_us}
    if any(loss_ppm):
        columns["loss_ppm"] = loss_ppm
    return Series(name, times, len(rows) * card.step_ms * 1000, columns, recorded="generated")


def _next(regimes: tuple[Regime, ...], now: Regime | None, chance: Random) -> Regime:
    others = [regime for regime in regimes if regime is not now]
    return chance.choices(others, [regime.weight for regime in others])[0]


def _mix(sharing: float, shared: float, own: float) -> float:
    return math.sqrt(sharing) * shared + math.sqrt(1 - sharing) * own


def _rate(mean_kbps: int, variation: float, normal: float) -> int:
    """Log-normal with this mean and variation, in whole kbit/s."""
    spread = math.sqrt(math.log1p(variation * variation))
    return max(1, round(mean_kbps * math.exp(spread * normal - spread * spread / 2))) * 1000


def _check(card: Card) -> None:
    regime_ok = all(r.up_kbps > 0 and r.down_kbps > 0 and r.dwell_s > 0 and r.weight > 0 for r in card.regimes)
    if not card.regimes or not regime_ok:
        raise TraceError(0, "a card needs regimes with rates, dwell_s and weight above zero")
    if not (1 <= card.duration_s <= 86_400 and 10 <= card.step_ms <= card.duration_s * 1000):
        raise TraceError(0, "a card needs duration_s of 1 to 86400 and step_ms of at least 10, not above the duration")
    if card.memory_s <= 0 or not 0 <= card.sharing <= 1:
        raise TraceError(0, "a card needs memory_s above zero and sharing from 0 to 1")


def card_to_json(card: Card, sha256: str | None = None) -> str:
    """`sha256`: of the trace that it lies beside, if it does."""
    return json.dumps(dataclasses.asdict(card) | ({"sha256": sha256} if sha256 else {}), indent=2) + "\n"


def card_from_json(text: str) -> Card:
    """Raises TraceError."""
    try:
        raw = json.loads(text)
        raw.pop("sha256", None)  # of the trace beside it
        card = Card(**{**raw, "regimes": tuple(Regime(**regime) for regime in raw["regimes"])})
        _check(card)
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        if isinstance(fault, TraceError):
            raise
        raise TraceError(0, f"not a side-card: {fault}; `testbed trace generate` writes one") from None
    return card
