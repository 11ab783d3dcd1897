"""A snapshot beside what stays: the nodes worth considering, and what each stream alone would do. Pure.

What streams cost is the objective, their latency by weight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controller.chain import LIGHT, Costs, Group, Room, overfull_in, room_in
from controller.comeback import STEPS, OneStream, cheapest, comes_back
from controller.cost import Forecast, Load, Parts
from controller.labels import Effort, Fitted, Judge, fitted
from controller.memory import Loaded
from controller.model import Snapshot
from controller.objective import PLAIN, Objective
from controller.programme import Best, solve, tables
from controller.table import Floats, Row, Rows, Table
from controller.tiers import Asked, Frontier, frontier
from controller.tight import tight

HANDFUL = 4  # streams that may be looked at more closely
SHARED, BEGIN = 60, 4  # steps for rows that come back, of several streams in one plan; and what a search takes to begin


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """Streams of one model on the nodes worth considering, when nobody else is there."""

    group: Group
    quiet: tuple[Costs, tuple[Floats, Floats]]
    reached: Sequence[bool]  # whether there is any row
    found: Sequence[Fitted]  # that fits
    beyond_us: tuple[float, ...]


class Scene:
    """A snapshot beside what stays: the nodes worth considering, and what each stream alone would do."""

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        streams: Sequence[str],
        current: Rows,
        *,
        objective: Objective = PLAIN,
        known: Forecast | None = None,
        weights: Mapping[str, float] | None = None,
        effort: Effort = "thorough",
    ) -> None:
        """`effort`: to find how each stream alone fits into memory, where its best row does not."""
        self.weights, self._effort = weights or {}, effort
        self.table, self.snapshot, self.objective = table, snapshot, objective
        self.forecast = known or Forecast(table, snapshot)
        self.loaded = Loaded(table, current)  # until the move is over
        planned = frozenset(streams)
        self.stay = self.forecast.load_of_many({s: row for s, row in current.items() if s not in planned}, self.weights)
        self.groups: list[Group] = []
        self.at: dict[str, tuple[int, int]] = {}  # stream -> its group, its position there
        self.quiet: list[tuple[Costs, tuple[Floats, Floats]]] = []  # of each group, when nobody else is there
        self.alone: dict[str, Fitted] = {}  # what is least holds for all nodes
        self.beyond_us: dict[str, float] = {}  # a row that uses a node which is not considered costs at least this
        self.steps = 2 * STEPS if len(planned) == 1 else SHARED  # half of them for streams by themselves
        self.cut_off: set[str] = set()  # no node can be reached, may hold a block and is big enough for it
        for members in table.by_model(streams):
            self._add(members, current)

    def weight(self, streams: Sequence[str]) -> list[float]:
        return [max(self.weights.get(stream, 1.0), LIGHT) for stream in streams]

    def _add(self, members: list[str], current: Rows) -> None:
        kept = [{self.table.source(s), *current.get(s, ())} for s in members]
        asked = Asked(self.table, self.snapshot, members, self.stay, self.weights, self.objective, current)
        front = frontier(asked, kept)
        alone = self._alone(members, front, current)
        if len(members) <= HANDFUL:  # where rows wait for themselves the bound of others is often too low at first
            best_us = np.array([found.best.cost_us if found.best else -np.inf for found in alone.found])
            if (wider := front.wider(best_us / self.weight(members))) is not front:
                alone = self._alone(members, wider, current)
        self.at |= {s: (len(self.groups), b) for b, s in enumerate(members)}
        self.groups.append(alone.group)
        self.quiet.append(alone.quiet)
        for stream, reached, found, beyond_us in zip(members, alone.reached, alone.found, alone.beyond_us, strict=True):
            if not reached and beyond_us == float("inf"):
                self.cut_off.add(stream)
            self.beyond_us[stream] = beyond_us
            self.alone[stream] = Fitted(found.best, min(found.least_us, beyond_us))

    def _alone(self, members: list[str], front: Frontier, current: Rows) -> "Alone":
        group, weight = Group(self.table, self.snapshot, members, front.nodes, self.objective), self.weight(members)
        costs = group.costs(range(len(members)), [Load()] * len(members), weight, current=current)
        quiet, fits, most = (costs, tables(costs)), list[Fitted](), self.steps // 2 // len(members)
        rows = solve(*quiet)
        for b, (stream, best) in enumerate(zip(members, rows, strict=True)):
            room = room_in(self.table, stream, self.loaded, {})
            met = Fitted(best, best.cost_us if best else float("inf"))
            if best is not None and fits_in(group, stream, room, best.row):
                met = self.met(group, costs, (b, b), best, weight=weight[b], most=most)
            judge = self._spent_us(stream, current)
            found = within(group, costs, (b, b), met.best, room, judge=judge, effort=self._effort)
            least = met.least_us if found.best is met.best else max(met.least_us, found.least_us)
            fits.append(Fitted(found.best, least))
        beyond = tuple(each * us for each, us in zip(weight, front.beyond_us, strict=True))
        return Alone(group, quiet, [best is not None for best in rows], fits, beyond)

    def _spent_us(self, stream: str, current: Rows) -> Judge:
        """What a row costs when nobody else is there; endless over a limit."""

        def judge(found: list[Row]) -> float:
            rows = {stream: found[0]}
            if self.objective.limited and not self.objective.kept(self.forecast, rows):
                return float("inf")
            beside = self.objective.beside_us(self.table, self.forecast, rows, current)
            return self.forecast.total_us(rows, self.weights) + sum(beside.values())

        return judge

    def met(
        self,
        group: Group,
        costs: Costs,
        places: tuple[int, int],
        best: Best | None,
        *,
        others: Callable[[], Mapping[int, Parts]] = dict,
        weight: float = 1.0,
        most: int = STEPS,
    ) -> Fitted:
        """The best row when runs of one row that meet wait for each other; `best` if it has none, or time is up."""
        b, stream = places
        if best is None or not comes_back(best.row) or self.steps <= 0:
            return Fitted(best, best.cost_us if best else float("inf"))
        one = OneStream(costs.only(b), group.own(stream), weight, others(), len(group.table.memory), self.objective)
        found, took = cheapest(one, best.row, min(most, self.steps))
        self.steps -= took + BEGIN
        return found


def fits_in(group: Group, stream: str, room: Room, row: Row) -> bool:
    return group.table.tight.isdisjoint(row) or overfull_in(group.table, stream, room)(row) is None


def within(
    group: Group,
    costs: Costs,
    places: tuple[int, int],
    best: Best | None,
    room: Room,
    *,
    judge: Judge | None = None,
    effort: Effort = "thorough",
    below_us: float = float("inf"),
) -> Fitted:
    """The best row that fits, `best` if it does; another one only if it costs less than `below_us`.

    `places` of the stream: in the costs, and in the group.
    """
    b, stream = places
    if best is None:
        return Fitted(None, float("inf"))
    name = group.streams[stream]
    if fits_in(group, name, room, best.row):
        return Fitted(best, best.cost_us)
    if effort == "none":
        return Fitted(None, best.cost_us)
    return fitted(tight(costs.only(b), group, stream, room), judge, effort, below_us)


def alone(table: Table, snapshot: Snapshot, streams: Sequence[str]) -> dict[str, Fitted]:
    """Each stream when nobody else is there: its best row, and the least latency it can ever have."""
    return Scene(table, snapshot, streams, {}).alone
