"""heads_plus: the least delay and migration of all layers, found layer by layer.

One layer: exact (`sweep`), but where heads and FFN columns compete for short memory. Many layers share memory, so they
are coupled by it and by where a layer's input is:
  1 `tolls` relaxes the first: no layer takes room from another. What is left is a chain, solved exactly, which bounds
    the cost of any placement from below.
  2 starts: what is placed now, less the layers that no longer fit; layer after layer with the toll as what follows;
    whole layers in a pipeline; Algorithm 1; each with the exchange of two layers that helps most; where none fits,
    what `packing` finds.
  3 each start is improved one layer at a time, exactly, the others staying, until no layer gains.
  4 `mixing` combines what was seen so far: the layers of all these plans, and where there are few all layers there
    can be, in the best way that fits.
  5 while the best is more than 1 % above the bound: layers or blocks are exchanged, or two layers taken out and put
    in again.
The best is taken, be it one device, a pipeline, a head split or both. Infeasible only where `packing` proves it or
nothing can be reached.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np

from controller.heads.blocks import heads
from controller.heads.draft import Draft, Known
from controller.heads.mixing import mixed, patterns_of, tally
from controller.heads.model import Infeasible, Ints, Plan
from controller.heads.packing import pack
from controller.heads.pipeline import pipeline
from controller.heads.swaps import blocks_exchanged, layers_exchanged
from controller.heads.sweep import Layer, place_layer
from controller.heads.task import Task, fits, objective_s, objectives_s
from controller.heads.tolls import tolls_of

LABELS = 8  # ways kept for each state of the pipeline programme
ROUNDS = 6  # over all layers, and of escapes
PAIRS = 30  # of layers rebuilt in a round
HOPEFUL = 2.0  # of the best so far: a start that costs more is not improved
MIXES = 3
NEAR, CLOSE, WIDE = 1 + 1e-4, 1.01, 1.05  # of the bound: no other start; no escape; more patterns, Algorithm 1


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
    return _one(asked) if asked.model.layers == 1 else _Search(asked).best()


def _one(asked: Task) -> Bounded | Infeasible:
    before = None if asked.before is None else asked.before[0]
    stay_s = float("inf") if asked.before is None else objective_s(asked, asked.before)
    layer = Layer(asked, asked.source, asked.memory, asked.work, asked.spent.home, before)
    found = place_layer(layer, stay_s)
    if found is not None:
        return Bounded(found.row(before)[None], found.cost_s, found.bound_s)
    if asked.before is not None and np.isfinite(stay_s):
        return Bounded(asked.before, stay_s, stay_s)
    return _packed(asked)


def _packed(asked: Task) -> Bounded | Infeasible:
    """Some plan that fits and can be reached."""
    packed = pack(asked)
    if isinstance(packed, Infeasible):
        return packed
    cost_s = objective_s(asked, packed)
    if cost_s == float("inf"):
        return Infeasible("what fits cannot be reached", proven=asked.model.layers == 1 and not asked.model.columns)
    return Bounded(packed, cost_s, 0.0)


class _Search:
    """Many layers."""

    def __init__(self, asked: Task) -> None:
        self._asked, self._known = asked, Known()
        self._tolls = tolls_of(asked)
        self._bound_s = float(self._tolls[0, asked.source])
        self._best: Plan | None = None
        self._best_s = float("inf")
        self._seen: dict[bytes, Ints] = {}  # patterns of layers

    def best(self) -> Bounded | Infeasible:
        for start in self._starts():
            self._take(start)
            if self._best_s <= self._bound_s * NEAR:
                break
        if self._best is None:
            packed = _packed(self._asked)
            if isinstance(packed, Infeasible):
                return packed
            self._take(packed.plan)
        for _ in range(MIXES):
            if self._best_s <= self._bound_s * NEAR or not self._mix():
                break
        for _ in range(ROUNDS):
            if self._best_s <= self._bound_s * CLOSE or not self._escape():
                break
        assert self._best is not None
        return Bounded(self._best, self._best_s, self._bound_s)

    def _take(self, start: Plan) -> bool:
        """Improves a start and keeps it when it is the best; says whether it is."""
        self._see(start)
        if objective_s(self._asked, start) >= self._best_s * HOPEFUL:
            return False
        plan = self._improved(start)
        self._see(plan)
        cost_s = objective_s(self._asked, plan)
        if cost_s >= self._best_s * (1 - 1e-12):
            return False
        self._best, self._best_s = plan, cost_s
        return True

    def _see(self, plan: Plan) -> None:
        for row in plan:
            pattern = tally(self._asked, row)
            self._seen[pattern.tobytes()] = pattern

    def _mix(self) -> bool:
        """The best of all layers seen; where these are all there are, the optimum."""
        wide = self._best_s > self._bound_s * WIDE
        patterns = patterns_of(self._asked, self._seen.values(), wide)
        found = mixed(self._asked, patterns, self._tolls, self._best_s * (1 - 1e-9))
        better = found.plan is not None and self._take(found.plan)
        if patterns.complete and found.proven:
            self._bound_s = self._best_s
        return better

    def _starts(self) -> Iterator[Plan]:
        asked = self._asked
        for make in (self._stayed, self._forward, self._pipeline, self._algorithm_1):
            plan = make()
            if plan is not None:
                trials = np.concatenate((plan[None], layers_exchanged(plan)))
                yield trials[objectives_s(asked, trials).argmin()]

    def _stayed(self) -> Plan | None:
        """What is placed now; where it no longer fits, layers on devices that are too full are placed anew."""
        asked = self._asked
        if asked.before is None or fits(asked, asked.before):
            return asked.before
        draft = Draft(asked, self._tolls, self._known, asked.before)
        while (over := draft.over()).size:
            held = [
                np.isin(row, over).sum() if number not in draft.out else -1 for number, row in enumerate(asked.before)
            ]
            draft.take(int(np.argmax(held)))
        return draft.plan if all(draft.fill(number) for number in draft.out) else None

    def _forward(self) -> Plan | None:
        """Layer after layer into what room is left, the toll being what follows."""
        draft = Draft(self._asked, self._tolls, self._known)
        return draft.plan if all(draft.fill(number) for number in range(self._asked.model.layers)) else None

    def _pipeline(self) -> Plan | None:
        found = pipeline(self._asked, LABELS)
        return None if isinstance(found, Infeasible) else found

    def _algorithm_1(self) -> Plan | None:
        if self._asked.model.columns or self._best_s <= self._bound_s * WIDE:
            return None
        found = heads(self._asked)
        return None if isinstance(found, Infeasible) else found

    def _improved(self, plan: Plan) -> Plan:
        """One layer at a time, exactly, until no layer gains. A start that does not fit stays as it is."""
        if not fits(self._asked, plan):
            return plan
        draft, calm = Draft(self._asked, self._tolls, self._known, plan), 0
        for turn in range(ROUNDS * len(plan)):
            calm = 0 if draft.improve(turn % len(plan)) else calm + 1
            if calm == len(plan):
                break
        return draft.plan

    def _escape(self) -> bool:
        """To a better plan behind an exchange of layers, of blocks, or of the room of two layers."""
        best = self._best
        assert best is not None
        for make in (layers_exchanged, lambda plan: blocks_exchanged(self._asked, plan), self._rebuilt):
            trials = make(best)
            if len(trials):
                cost = objectives_s(self._asked, trials)
                if cost.min() < self._best_s * (1 - 1e-9):
                    return self._take(trials[cost.argmin()])
        return False

    def _rebuilt(self, plan: Plan) -> Plan:
        """(M, layers, blocks) two layers taken out and put in again, in either order."""
        made, draft = list[Plan](), Draft(self._asked, self._tolls, self._known, plan)
        for pair in islice(permutations(range(len(plan)), 2), PAIRS):
            for number in pair:
                draft.take(number)
            if all(draft.fill(number) for number in pair):
                made.append(draft.plan)
            for number in pair:
                if number not in draft.out:
                    draft.take(number)
                draft.put(number, plan[number])
        return np.array(made, dtype=np.intp)
