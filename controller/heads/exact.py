"""The optimum by trying everything: for 3-5 devices and one layer, or very few blocks.

One layer with a FFN of one block goes through all N^h vectors of heads for each of the N^2 places of projection and
FFN; heads are told apart, so that nothing the faster planners rely on is assumed. All else goes through all N^blocks
plans.
"""

from itertools import product

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, Infeasible, Ints, Plan
from controller.heads.task import SLACK, Task, objectives_s

MOST = 5_000_000  # vectors of heads, or plans
TOGETHER = 10_000  # plans


def exact(asked: Task) -> Plan | Infeasible:
    size, model = asked.devices, asked.model
    alone = model.layers == 1 and not model.columns
    tried = size**model.heads if alone else size ** (model.layers * model.blocks)
    if tried > MOST:
        raise ValueError(f"{tried} placements are too many to try; {MOST} are the most")
    return _one_layer(asked) if alone else _all(asked, tried)


def _all(asked: Task, tried: int) -> Plan | Infeasible:
    shape = asked.model.layers, asked.model.blocks
    best, best_s = None, float("inf")
    for first in range(0, tried, TOGETHER):
        numbers = np.arange(first, min(first + TOGETHER, tried))
        plans = np.stack(np.unravel_index(numbers, (asked.devices,) * (shape[0] * shape[1])), axis=1)
        cost = objectives_s(asked, plans.reshape(-1, *shape))
        at = int(cost.argmin())
        if cost[at] < best_s:
            best, best_s = plans[at].reshape(shape), float(cost[at])
    return Infeasible("none of all placements fits", proven=True) if best is None else best


def _one_layer(asked: Task) -> Plan | Infeasible:
    size, heads, spent = asked.devices, asked.model.heads, asked.spent
    vectors = np.stack(np.unravel_index(np.arange(size**heads), (size,) * heads), axis=1)  # (V, h)
    held = np.stack([(vectors == n).sum(axis=1) for n in range(size)], axis=1)  # (V, N)
    moved = np.zeros(len(vectors))
    was = None if asked.before is None else asked.before[0]
    if was is not None:
        moved = spent.move_head[was[:-2], vectors].sum(axis=1)
    best, best_s = None, float("inf")
    for p, q in product(range(size), repeat=2):
        cost = _phase(asked, held, p) + moved / asked.horizon + _tail(asked, was, p, q)
        cost[~_fit(asked, held, p, q)] = np.inf
        at = int(cost.argmin())
        if cost[at] < best_s:
            best_s, best = float(cost[at]), np.concatenate((vectors[at], (p, q)))[None]
    if best is None or best_s >= UNREACHABLE_S:
        return Infeasible("none of all placements fits", proven=True)
    return best


def _phase(asked: Task, held: Ints, p: int) -> Floats:
    spent, used = asked.spent, held > 0
    alone = spent.enter[asked.source] + held * spent.head
    wire = held * spent.gather[:, p] + spent.delay[:, p]
    if asked.need.summed:
        return np.asarray(np.where(used, alone, 0.0).max(axis=1) + np.where(used, wire, 0.0).sum(axis=1))
    return np.asarray(np.where(used, alone + wire, 0.0).max(axis=1))


def _tail(asked: Task, was: Ints | None, p: int, q: int) -> float:
    spent = asked.spent
    tail = float(spent.proj[p] + spent.onward[p, q] + spent.ffn[q] + spent.home[q])
    if was is not None:
        tail += float(spent.move_proj[was[-2], p] + spent.move_ffn[was[-1], q]) / asked.horizon
    return tail


def _fit(asked: Task, held: Ints, p: int, q: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    fit = np.ones(len(held), dtype=bool)
    for have, each in ((asked.memory, asked.need.resident_bytes), (asked.work, asked.need.flops)):
        other = np.zeros(len(have))
        other[p] += each[1]
        other[q] += each[2]
        fit &= (held * each[0] + other <= have * SLACK).all(axis=1)
    return fit
