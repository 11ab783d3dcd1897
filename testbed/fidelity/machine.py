"""Whether the machine kept up with real time: `headroom` records. Pure."""

from collections.abc import Iterator

from testbed.fidelity.asked import Kinds
from testbed.fidelity.limits import Limits
from testbed.percentile import percentile

Figures = dict[str, float | int | None]


def machine(kinds: Kinds, limits: Limits, figures: Figures) -> Iterator[str]:
    """Real time only: a virtual second waits for whatever has to be computed in it."""
    seconds = kinds["headroom"]
    if limits.idle_share is None or limits.sample_late_us is None or not seconds:
        return
    idle = percentile([record["idle_ppm"] / 1e6 for record in seconds], 5)
    late = percentile([record["late_us"] for record in seconds], 95)
    figures["idle_share_p5"], figures["sample_late_p95_us"] = idle, late
    if idle is not None and idle < limits.idle_share:
        yield f"the processors were {1 - idle:.0%} busy (p95 of all seconds), limit {1 - limits.idle_share:.0%}"
    if late is not None and late > limits.sample_late_us:
        limit_ms = limits.sample_late_us / 1000
        yield f"the testbed's own samples were {late / 1000:.0f} ms late (p95), limit {limit_ms:.0f} ms"
