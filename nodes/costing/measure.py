"""What each unit of a model takes on this very machine, once it is warm: the counterpart of `nodes.costing.profile`.

Rules: one thread, as in a run; each unit gets the output of the one before; the first runs are not counted; of the
others the median. Weights have values of no meaning, but pages of their own: zeros that nobody wrote are one page
that never leaves the cache. A unit alone may lie in the cache whole: in its chain it would be slower.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median_low

import torch

from nodes.models.config import config_of, weight_shapes
from nodes.models.described import DescribedConfig
from nodes.prepare import inputs
from nodes.runtime.slicing import cut, one_thread

VALUE = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """Median nanoseconds of each unit; None where it has no part in a step."""

    tokens: int | None  # of the input, where it is a text
    length: int | None  # tokens so far when the first step was taken; None: the family generates nothing
    pass_ns: tuple[int, ...]
    step_ns: tuple[int | None, ...]


def measure(family: str, tokens: int | None = None, runs: int = 9, warm: int = 2) -> Measured:
    """`tokens` as in `profile`. Raises UnknownFamily, and SliceError for a text that is too long."""
    one_thread()
    weights = {name: torch.empty(shape).fill_(VALUE) for name, shape in weight_shapes(family).items()}
    x = _input(family, tokens)
    text = x.shape[1] if x.dtype == torch.int64 else None
    pieces = [cut(family, weights, i, i + 1) for i in range(len(config_of(family).units()))]
    pass_ns, step_ns = list[int](), list[int | None]()
    step_x, length = torch.ones(1, 1, dtype=torch.int64), None
    for piece in pieces:
        pass_ns.append(_median_ns(partial(piece, x), runs, warm))
        caches = piece.caches()
        x = piece(x, caches)
        if not piece.generates:
            step_ns.append(None)
            continue
        length = next((cache.length for cache in caches.values()), length)
        step_ns.append(_median_ns(partial(piece.step, step_x, caches), runs, warm))
        step_x = piece.step(step_x, caches)
    return Measured(text, length, tuple(pass_ns), tuple(step_ns))


def _input(family: str, tokens: int | None) -> torch.Tensor:
    config = config_of(family)
    if isinstance(config, DescribedConfig):  # of one's own: any values
        return torch.ones(config.input_shape, dtype=getattr(torch, config.input_dtype))
    if config.input_dtype == "int64":
        return torch.ones(1, tokens or config.tokens, dtype=torch.int64)
    return torch.from_numpy(inputs.make(family, 0, 0)).clone()


def _median_ns(run: Callable[[], torch.Tensor], runs: int, warm: int) -> int:
    taken = []
    for _ in range(warm + runs):
        began = time.perf_counter_ns()
        run()
        taken.append(time.perf_counter_ns() - began)
    return median_low(taken[warm:])
