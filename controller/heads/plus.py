"""heads_plus: the least delay and migration of all layers, found layer by layer.

One layer: exact (`sweep`). Many layers share memory, so they are coupled by it and by where a layer's input is:
  1 `toll` relaxes the first: no layer takes room from another. What is left is a chain, solved exactly, which bounds
    the delay of any placement from below (moves cost nothing there).
  2 starts: what is placed now; layer after layer with the toll as what follows; whole layers in a pipeline;
    Algorithm 1; each with the exchange of two layers that helps most; where none fits, what `packing` finds.
  3 each start is improved one layer at a time, exactly, the others staying, until no layer gains; then, while the
    best is more than 1 % above the bound, layers or blocks are exchanged, or two layers taken out and put in again.
The best is taken, be it one device, a pipeline, a head split or both. Infeasible only where `packing` proves it or
nothing can be reached.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, permutations

import numpy as np

from controller.heads.blocks import heads
from controller.heads.draft import Draft
from controller.heads.model import Floats, Infeasible, Plan
from controller.heads.packing import pack
from controller.heads.pipeline import pipeline
from controller.heads.swaps import blocks_exchanged, layers_exchanged
from controller.heads.sweep import Layer, least_ends, place_layer, room_for_heads
from controller.heads.task import Task, fits, objective_s

LABELS = 8  # ways kept for each state of the pipeline programme
ROUNDS = 6  # over all layers, and of escapes
PAIRS = 30  # of layers rebuilt in a round
HOPEFUL = 2.0  # of the best so far: a start that costs more is not improved
NEAR, CLOSE = 1 + 1e-4, 1.01  # of the bound: no other start, no escape


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    plan: Plan
    cost_s: float
    bound_s: float  # no plan's delay is below


def heads_plus(asked: Task) -> Plan | Infeasible:
    found = bounded(asked)
    return found if isinstance(found, Infeasible) else found.plan


def bounded(asked: Task) -> Bounded | Infeasible:
    """The plan with what it costs and what no plan can be below."""
    if asked.need.summed:
        raise ValueError("transfers that are summed (mode code) are placed by `summed`")
    if asked.model.layers == 1:
        return _one(asked)
    tolls = toll(asked)
    bound_s = float(tolls[0, asked.source])
    best, best_s = None, float("inf")
    for start in _starts(asked, tolls):
        hopeful = objective_s(asked, start) < best_s * HOPEFUL
        plan = _improve(asked, tolls, start) if hopeful else start
        cost_s = objective_s(asked, plan)
        if cost_s < best_s:
            best, best_s = plan, cost_s
        if best_s <= bound_s * NEAR:
            break
    if best is None:
        packed = pack(asked)
        if isinstance(packed, Infeasible):
            return packed
        best = _improve(asked, tolls, packed)
        best_s = objective_s(asked, best)
        if best_s == float("inf"):
            return Infeasible("what fits cannot be reached")
    for _ in range(ROUNDS):
        further = None if best_s <= bound_s * CLOSE else _escape(asked, tolls, best)
        if further is None:
            break
        best, best_s = further, objective_s(asked, further)
    return Bounded(best, best_s, bound_s)


def _one(asked: Task) -> Bounded | Infeasible:
    before = None if asked.before is None else asked.before[0]
    stay_s = float("inf") if asked.before is None else objective_s(asked, asked.before)
    layer = Layer(asked, asked.source, asked.memory, asked.work, asked.spent.home, before)
    found = place_layer(layer, stay_s)
    if found is not None:
        return Bounded(found.row(before)[None], found.cost_s, found.cost_s)
    if asked.before is not None and np.isfinite(stay_s):
        return Bounded(asked.before, stay_s, stay_s)
    packed = pack(asked)
    return packed if isinstance(packed, Infeasible) else Infeasible("what fits cannot be reached", proven=True)


def toll(asked: Task) -> Floats:
    """(layers + 1, N) the least delay from before a layer to the end, by where its input is; no shared room."""
    spent, size = asked.spent, asked.devices
    alone = Layer(asked, 0, asked.memory, asked.work, np.zeros(size), None)
    each = spent.head + spent.gather.T  # (P, N)
    least = np.stack(
        [least_ends(at + spent.delay.T, each, room_for_heads(alone), asked.model.heads) for at in spent.enter]
    )
    onward = spent.proj[:, None] + spent.onward + spent.ffn  # (P, Q)
    step = (least[:, :, None] + onward).min(axis=1)  # (S, Q)
    tolls = np.empty((asked.model.layers + 1, size))
    tolls[-1] = spent.home
    for layer in range(asked.model.layers - 1, -1, -1):
        tolls[layer] = (step + tolls[layer + 1]).min(axis=1)
    return tolls


def _starts(asked: Task, tolls: Floats) -> Iterator[Plan]:
    if asked.before is not None:
        yield asked.before
    for rule in (partial(_forward, tolls=tolls), partial(pipeline, labels=LABELS), heads):
        plan = rule(asked)
        if not isinstance(plan, Infeasible):
            yield min((plan, *layers_exchanged(plan)), key=partial(objective_s, asked))


def _forward(asked: Task, tolls: Floats) -> Plan | Infeasible:
    """Layer after layer into what room is left, the toll being what follows."""
    draft = Draft(asked, tolls)
    for number in range(asked.model.layers):
        if not draft.fill(number):
            return Infeasible(f"no room for layer {number} behind those before it")
    return draft.plan


def _improve(asked: Task, tolls: Floats, plan: Plan) -> Plan:
    """One layer at a time, exactly, until no layer gains. A start that does not fit stays as it is."""
    if not fits(asked, plan):
        return plan
    draft, calm = Draft(asked, tolls, plan), 0
    for turn in range(ROUNDS * len(plan)):
        calm = 0 if draft.improve(turn % len(plan)) else calm + 1
        if calm == len(plan):
            break
    return draft.plan


def _escape(asked: Task, tolls: Floats, plan: Plan) -> Plan | None:
    """A better plan behind an exchange of layers, of blocks, or of the room of two layers; None when there is none."""
    limit_s = objective_s(asked, plan) * (1 - 1e-9)
    trials = chain(layers_exchanged(plan), blocks_exchanged(asked, plan), _rebuilt(asked, tolls, plan))
    return next((_improve(asked, tolls, trial) for trial in trials if objective_s(asked, trial) < limit_s), None)


def _rebuilt(asked: Task, tolls: Floats, plan: Plan) -> Iterator[Plan]:
    """Two layers taken out and put in again, in either order."""
    for first, second in islice(permutations(range(len(plan)), 2), PAIRS):
        draft = Draft(asked, tolls, plan)
        draft.take(first)
        draft.take(second)
        if draft.fill(first) and draft.fill(second):
            yield draft.plan
