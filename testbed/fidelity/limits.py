"""How far a run may be off before it is INVALID, by its clock. Pure."""

from dataclasses import dataclass

STEP_LATE_P99_US = 10_000  # later than this and the network was not the trace
HANDOVER_OFF = 0.1  # of the interruption that was asked for
EVENT_LATE_US = 100_000  # a tenth of the step of the SLA window: a later event blurs the recovery time
OVERRUN_SHARE = 0.01  # more requests than this and the modelled processor shows in the p99
OVERRUN_US, OVERRUN_PART = 100, 0.01  # of a request's latency: what is late by less is not felt


@dataclass(frozen=True, slots=True)
class Limits:
    """Each holds for the p95 of every link direction by itself, so that no good link hides a bad one."""

    rate_error: float  # share of the scheduled rate, over windows of 1 s
    delay_error_us: int  # one way
    idle_share: float | None = None  # of the processors, p5 of all seconds; None: not judged
    sample_late_us: int | None = None  # p95 of the lateness of the testbed's own samples


VIRTUAL = Limits(rate_error=0.01, delay_error_us=100)
REAL = Limits(rate_error=0.03, delay_error_us=1000, idle_share=0.05, sample_late_us=10_000)


def limits_of(clock: str) -> Limits:
    return REAL if clock == "real" else VIRTUAL
