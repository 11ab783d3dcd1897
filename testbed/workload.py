"""When each request of a stream is sent. Pure: chance is an argument.

`periodic` sends every `period_us` with a random phase below one period, so that streams do not beat in step;
`poisson` has exponential gaps.
"""

from typing import Literal, Protocol

Arrivals = Literal["poisson", "periodic"]


class Chance(Protocol):
    """What is needed of `random.Random`."""

    def random(self) -> float: ...
    def expovariate(self, lambd: float) -> float: ...


def arrivals_us(
    kind: Arrivals, period_us: int, start_us: int, stop_us: int, chance: Chance, *, requests: int | None = None
) -> tuple[int, ...]:
    """Nondecreasing times in [start_us, stop_us), at most `requests` of them."""
    times: list[int] = []
    now = float(start_us)
    while requests is None or len(times) < requests:
        if kind == "poisson":
            now += chance.expovariate(1 / period_us)
        else:
            now = now + period_us if times else start_us + chance.random() * period_us
        if int(now) >= stop_us:
            break
        times.append(int(now))
    return tuple(times)
