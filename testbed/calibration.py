"""What a calibration found: journal records of its phases -> errors of every link direction. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from testbed.fidelity.asked import Kinds, Record
from testbed.fidelity.delays import judge_delays
from testbed.fidelity.limits import Limits
from testbed.fidelity.machine import machine
from testbed.fidelity.rates import judge_rates
from testbed.percentile import UNANSWERED, percentile

KINDS = ("run", "step", "state", "carried", "probe", "unprobed", "headroom", "fault")
PHASES = ("alone", "together")
WINDOW_US, FAST_WINDOW_US = 1_000_000, 20_000
FAST_BPS = 1_000_000_000  # above it a second has too many frames
PERCENTS = (50, 95, 100)
Direction = dict[str, Any]


def window_us(rate_bps: int) -> int:
    return WINDOW_US if rate_bps <= FAST_BPS else FAST_WINDOW_US


def windows(rate_bps: int) -> int:
    """How many of them are worth their frames."""
    return 3 if rate_bps <= FAST_BPS // 20 or rate_bps > FAST_BPS else 1


def calibrated(run: Record, phases: Mapping[str, Sequence[Record]], limits: Limits) -> dict[str, Any]:
    """{"verdict", "reasons", "limits", "phases": {name: [a direction each]}}.

    A direction: "link", "direction", "rate_bps", "delay_us", "windows", "rate_error" {"p50", "p95", "p100"} as shares,
    "probes", "delay_error_us" {...}, "unprobed" (why). One that was never seen saturated makes the result INVALID: it
    was not shown that it behaves as written.
    """
    reasons: list[str] = []
    found: dict[str, list[Direction]] = {}
    for name, records in phases.items():
        kinds = {kind: [record for record in records if record["kind"] == kind] for kind in KINDS} | {"run": [run]}
        found[name] = _directions(kinds)
        reasons += [f"{name}: {fault['what']}: {fault['why']}" for fault in kinds["fault"]]
        reasons += [f"{name}: {reason}" for one in found[name] for reason in _off(one, limits)]
        reasons += [f"{name}: {reason}" for reason in machine(kinds, limits, {})]
    return {"verdict": "INVALID" if reasons else "valid", "reasons": reasons, "limits": asdict(limits), "phases": found}


def _directions(kinds: Kinds) -> list[Direction]:
    rates: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for long_us in (WINDOW_US, FAST_WINDOW_US):
        for window in judge_rates(kinds, long_us).windows:
            rates[window.link, window.direction, long_us].append(abs(window.error))
    delays: dict[tuple[str, str], list[float]] = defaultdict(list)
    for probed in judge_delays(kinds):
        delays[probed.link, probed.direction].append(abs(probed.error_us))
    skipped = {
        (record["link"], record["direction"]): ", ".join(word for word in ("chance", "busy", "down") if word in record)
        for record in kinds["unprobed"]
    }
    found = []
    for shape in kinds["run"][0]["shapes"]:
        key = shape["link"], shape["direction"]
        own = rates[*key, window_us(shape["rate_bps"])]
        found.append(
            {
                **{"link": key[0], "direction": key[1], "rate_bps": shape["rate_bps"]},
                **{"delay_us": shape.get("delay_us", 0), "windows": len(own), "rate_error": _spread(own, 6)},
                **{"probes": len(delays[key]), "delay_error_us": _spread(delays[key], 3)},
                "unprobed": skipped.get(key, ""),
            }
        )
    return found


def _spread(values: Sequence[float], digits: int) -> dict[str, float | None]:
    """Infinite (a probe that never arrived) and unknown are null."""
    levels = {f"p{percent}": percentile(values, percent) for percent in PERCENTS}
    return {name: None if level in (None, UNANSWERED) else round(level, digits) for name, level in levels.items()}


def _off(one: Direction, limits: Limits) -> Iterator[str]:
    where = f"{one['link']} {one['direction']}"
    rate, delay = one["rate_error"]["p95"], one["delay_error_us"]["p95"]
    if not one["windows"]:
        yield f"{where} was never seen saturated at its {one['rate_bps'] / 1e6:g} Mbit/s"
    elif rate > limits.rate_error:
        yield f"{where} is off its rate by {rate:.2%} (p95), limit {limits.rate_error:.0%}"
    if one["probes"] and delay is None:
        yield f"{where}: probes never arrived"
    elif one["probes"] and delay > limits.delay_error_us:
        yield f"{where} is off its delay by {delay / 1000:.3f} ms (p95), limit {limits.delay_error_us / 1000:g} ms"
