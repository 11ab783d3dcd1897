"""The fidelity of a run as a table: what was measured, how far off, the limit, the worst offender. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from testbed.report.rows import NONE, number

Row = tuple[str, ...]
HEAD = ("", "judged", "not judged", "p50", "p95", "max", "limit", "worst")


def fidelity_rows(fidelity: Mapping[str, Any]) -> list[Row]:
    """Rows of as many cells as HEAD has; none for a run that never started."""
    figures, limits, worst = fidelity["figures"], fidelity["limits"], fidelity["worst"]
    if not figures:
        return []
    return [
        _rates(figures, limits, worst.get("rate")),
        _delays(figures, limits, worst.get("delay")),
        _steps(figures, limits, worst.get("step")),
        *_machine(figures, limits),
    ]


def _rates(figures: Mapping[str, Any], limits: Mapping[str, Any], worst: Mapping[str, Any] | None) -> Row:
    named = worst and f"{_where(worst)}: {worst['carried_bytes']:,} of {worst['asked_bytes']:,} bytes"
    return (
        "rate of saturated links, seconds",
        str(figures["rate_windows"]),
        f"{figures['rate_seconds_unjudged']} not saturated",
        *(_percent(figures[f"rate_error_{name}"]) for name in ("p50", "p95", "max")),
        _percent(limits["rate_error"]),
        named or NONE,
    )


def _delays(figures: Mapping[str, Any], limits: Mapping[str, Any], worst: Mapping[str, Any] | None) -> Row:
    off = worst and (NONE if worst["error_us"] is None else f"{number(abs(worst['error_us']))} us")
    skipped = f"{figures['probes_skipped']} skipped, {figures['directions_unprobed']} directions without"
    return (
        "one-way delay, probes",
        str(figures["probes"]),
        skipped,
        *(_us(figures[f"delay_error_us_{name}"]) for name in ("p50", "p95", "max")),
        _us(limits["delay_error_us"]),
        f"{_where(worst)}: {off}" if worst else NONE,
    )


def _steps(figures: Mapping[str, Any], limits: Mapping[str, Any], worst: Mapping[str, Any] | None) -> Row:
    return (
        "lateness of steps",
        str(figures.get("steps", 0)),
        f"{figures.get('steps_not_read_back', 0)} read back differently",
        NONE,
        f"p99 {_us(figures.get('step_late_p99_us'))}",
        _us(figures.get("step_late_max_us")),
        f"p99 {_us(limits['step_late_p99_us'])}",
        f"{worst['link']} {worst['direction']} at {worst['asked_us'] / 1e6:.1f} s" if worst else NONE,
    )


def _machine(figures: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[Row]:
    idle, late = figures.get("idle_share_p5"), figures.get("sample_late_p95_us")
    if idle is not None:
        yield (
            "idle processors, p5",
            "",
            "",
            NONE,
            _percent(idle),
            NONE,
            f"at least {_percent(limits['idle_share'])}",
            "",
        )
    if late is not None:
        yield "lateness of samples", "", "", NONE, _us(late), NONE, _us(limits["sample_late_us"]), ""


def _where(worst: Mapping[str, Any]) -> str:
    return f"{worst['link']} {worst['direction']} at {worst['t_us'] / 1e6:.1f} s"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{number(100 * share)} %"


def _us(value: float | None) -> str:
    return NONE if value is None else f"{number(value)} us"
