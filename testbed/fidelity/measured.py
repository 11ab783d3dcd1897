"""The verdict over what was measured: rates, delays and, in real time, what the machine had left. Pure.

Each direction of a link must keep the limits by itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from testbed.fidelity.asked import Kinds, Record
from testbed.fidelity.delays import Probed, judge_delays
from testbed.fidelity.limits import Limits
from testbed.fidelity.machine import Figures, machine
from testbed.fidelity.rates import Window, judge_rates
from testbed.percentile import UNANSWERED, percentile

REASONS_SHOWN = 5


class _OfDirection(Protocol):
    @property
    def link(self) -> str: ...
    @property
    def direction(self) -> str: ...


One = TypeVar("One", bound=_OfDirection)
MANY_PROBES, LEAST_PROBES = 20, 3  # of a direction, to judge it by its p95, to allow for an outlier


def measured(kinds: Kinds, limits: Limits, figures: Figures, worst: dict[str, Record]) -> Iterator[str]:
    """Adds to figures and names the worst; yields what makes the run INVALID."""
    yield from _rates(kinds, limits, figures, worst)
    yield from _delays(kinds, limits, figures, worst)
    yield from machine(kinds, limits, figures)


def _rates(kinds: Kinds, limits: Limits, figures: Figures, worst: dict[str, Record]) -> Iterator[str]:
    judged = judge_rates(kinds)
    windows = judged.windows
    figures["rate_windows"] = len(windows)
    figures["rate_seconds_unjudged"] = judged.unjudged
    figures |= _spread("rate_error", [abs(window.error) for window in windows], 6)
    figures["replay_error_p95"] = _rounded(percentile([abs(window.replay_error) for window in windows], 95), 6)
    if windows:
        worst["rate"] = _window(max(windows, key=lambda window: abs(window.error)))
    yield from _told(
        (
            f"{link} {direction} carried {at.error:+.1%} of its rate at {at.t_us / 1e6:.1f} s "
            f"({at.carried_bytes:,} bytes of {at.asked_bytes:,})"
            for (link, direction), own in sorted(_by_direction(windows).items())
            if (level := percentile([abs(window.error) for window in own], 95)) is not None
            and level > limits.rate_error
            and (at := max(own, key=lambda window: abs(window.error)))
        ),
        f"saturated links were off their rate by more than {limits.rate_error:.0%} (p95 over 1 s)",
    )


def _window(window: Window) -> Record:
    return {
        "link": window.link,
        "direction": window.direction,
        "t_us": window.t_us,
        "asked_bytes": window.asked_bytes,
        "carried_bytes": window.carried_bytes,
        "error": round(window.error, 6),
    }


def _delays(kinds: Kinds, limits: Limits, figures: Figures, worst: dict[str, Record]) -> Iterator[str]:
    probes = list(judge_delays(kinds))
    every = {(s["link"], s["direction"]) for run in kinds["run"][:1] for s in run.get("shapes", ())}
    figures["probes"] = len(probes)
    figures["probes_lost"] = sum(probe.error_us == UNANSWERED for probe in probes)
    figures["probes_skipped"] = sum(
        count for record in kinds["unprobed"] for name, count in record.items() if name in ("busy", "chance", "slow")
    )
    figures["directions_unprobed"] = len(every - {(probe.link, probe.direction) for probe in probes})
    figures |= _spread("delay_error_us", [abs(probe.error_us) for probe in probes], 3)
    if probes:
        worst["delay"] = _probe(max(probes, key=lambda probe: abs(probe.error_us)))
    yield from _told(
        (
            f"{at.link} {at.direction} {_us(at.error_us)} at {at.t_us / 1e6:.1f} s"
            for _, own in sorted(_by_direction(probes).items())
            if judged_error_us(own) > limits.delay_error_us and (at := max(own, key=lambda probe: abs(probe.error_us)))
        ),
        f"one-way delays were off by more than {limits.delay_error_us / 1000:g} ms",
    )


def judged_error_us(probes: Sequence[Probed]) -> float:
    """What a direction is judged by: of many probes the p95, of some the second largest, of fewer the largest.

    One of some may be an outlier; the prober's second look has told it from a direction that is off.
    """
    errors = sorted(abs(probe.error_us) for probe in probes)
    if len(errors) >= MANY_PROBES:
        return percentile(errors, 95) or 0.0
    return errors[-2] if len(errors) >= LEAST_PROBES else errors[-1]


def _probe(probe: Probed) -> Record:
    return {
        "link": probe.link,
        "direction": probe.direction,
        "t_us": probe.t_us,
        "expected_us": round(probe.expected_us, 3),
        "error_us": _rounded(probe.error_us, 3),
    }


def _by_direction(found: Iterable[One]) -> dict[tuple[str, str], list[One]]:
    grouped: dict[tuple[str, str], list[One]] = defaultdict(list)
    for one in found:
        grouped[one.link, one.direction].append(one)
    return grouped


def _spread(name: str, values: Sequence[float], digits: int) -> dict[str, Any]:
    return {
        f"{name}_p50": _rounded(percentile(values, 50), digits),
        f"{name}_p95": _rounded(percentile(values, 95), digits),
        f"{name}_max": _rounded(max(values, default=None), digits),
    }


def _told(offenders: Iterable[str], head: str) -> Iterator[str]:
    named = list(offenders)
    if named:
        more = f" and {len(named) - REASONS_SHOWN} more" if len(named) > REASONS_SHOWN else ""
        yield f"{head}: {'; '.join(named[:REASONS_SHOWN])}{more}"


def _us(value: float) -> str:
    return "never arrived" if value == UNANSWERED else f"{value / 1000:+.3f} ms"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value in (None, UNANSWERED) else round(value, digits)
