"""How many sessions of a model there may be at once, and how long they get: what their keys and values take. Pure.

A session may last until its deadline, so as many are at once as arrive within a deadline's time, at the most.
"""

from bisect import bisect_right
from dataclasses import dataclass

from nodes.models.config import config_of
from testbed.plan import Plan, StreamPlan


@dataclass(frozen=True, slots=True)
class Sessions:
    at_once: int  # 0: the model generates nothing
    tokens: int  # of the longest, input and all that is generated


def sessions_of(plan: Plan, model: str) -> Sessions:
    """Of all streams of a model together: any node may serve all of them."""
    streams = [stream for stream in plan.streams if stream.model == model and stream.generate]
    used = next(one for one in plan.models if one.name == model)
    longest = max((stream.generate.tokens for stream in streams if stream.generate), default=0)
    return Sessions(sum(map(_at_once, streams)), (used.prompt_bytes or config_of(used.family).tokens) + longest)


def _at_once(stream: StreamPlan) -> int:
    assert stream.generate is not None
    arrivals, last_us = sorted(stream.arrivals_us), stream.generate.deadline_us
    return max((bisect_right(arrivals, t_us + last_us) - i for i, t_us in enumerate(arrivals)), default=0)
