"""The recent end-to-end latency of every stream, from the outcomes that phones report. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from testbed.percentile import percentile

LOST_US = 3_600_000_000  # stands for "no answer" in a percentile


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that ended. `done_us` is 0 when there was no answer."""

    stream: str
    sent_us: int
    done_us: int
    ok: bool

    @property
    def latency_us(self) -> int:
        return self.done_us - self.sent_us if self.ok else LOST_US


class RecentLatency:
    """Keeps what ended within a window; the window is counted by when a request ended."""

    def __init__(self, window_us: int, rank: int) -> None:
        self.window_us = window_us
        self.rank = rank
        self.ended: deque[tuple[int, Ended]] = deque()

    def add(self, now_us: int, outcomes: Iterable[Ended]) -> None:
        self.ended.extend((outcome.done_us if outcome.ok else now_us, outcome) for outcome in outcomes)
        while self.ended and self.ended[0][0] < now_us - self.window_us:
            self.ended.popleft()

    def by_stream(self) -> dict[str, int]:
        """Stream -> the percentile of its latencies, us; streams without a sample are left out."""
        samples: dict[str, list[int]] = {}
        for _, outcome in self.ended:
            samples.setdefault(outcome.stream, []).append(outcome.latency_us)
        found = {stream: percentile(values, self.rank) for stream, values in samples.items()}
        return {stream: round(value) for stream, value in found.items() if value is not None}

    def overall_us(self) -> int | None:
        value = percentile([outcome.latency_us for _, outcome in self.ended], self.rank)
        return None if value is None else round(value)
