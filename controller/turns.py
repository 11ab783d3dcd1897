"""One plan at work: what is best for streams while the others stay. Pure."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import combinations

import numpy as np

from controller.chain import Costs, Group, Own, Room, room_in
from controller.choices import Choices, Picked, choices, joined
from controller.comeback import STEPS, knee_us
from controller.cost import NOBODY, Load, Outlook, backlog_us
from controller.crowd import Crowd, crowd, crowded
from controller.labels import Fitted, Judge
from controller.programme import Best, solve
from controller.scene import HANDFUL, Scene, within
from controller.spread import Whole, spread
from controller.table import Row, Rows
from controller.together import Together

RESPONSES, MORE = 20, 40  # best responses in one plan; of a handful of streams there may be more
ROUNDS = 8
LEAST_GAIN = 1e-3  # of a round, else it is the last
COMPANY = 12  # streams that are bounded together
CLOSE = 1e-6  # a gap that is rounding
SWAPS = 48  # of two streams' places that are tried
BRIEF = 4  # steps for a row that comes back, where it pays rent and is one of many tries
TRIFLE, ASKED = 0.02, 6  # of a gap; the streams that may gain most, where there are more than a handful


Rent = Callable[[Costs, list[Own]], Costs]
Squeezed = tuple[Group, Costs, tuple[int, int], Best | None, Room]  # as `scene.within` takes it


class Turn:
    """Best responses of the streams `free`; the other ones of `current` stay as they are. Remembers its answers."""

    def __init__(self, scene: Scene, free: Sequence[str], weights: Mapping[str, float], current: Rows) -> None:
        self.scene, self.free, self.current = scene, list(free), current
        self.kept = {s: row for s, row in current.items() if s not in free}
        self.asked, self.most = 0, RESPONSES if len(free) > HANDFUL else MORE
        self.weights = weights
        self.loaded = scene.loaded
        known = scene.stay if len(free) == len(scene.at) else None
        self.outlook = Outlook(scene.forecast, weights, self.kept, known)
        self._beside: Load | None = None
        self._found: tuple[Rows, Crowd] | None = None
        self._asked: tuple[Together, list[str]] | None = None
        self.bounded = False  # `together` was asked
        self.least_us = 0.0  # no placement of the free streams costs less, with what they make others wait
        self._worth: dict[object, float] = {}
        self._within: dict[object, Best | None] = {}  # where memory is short
        self._usable: dict[tuple[str, Row], bool] = {}
        self.goal_us = sum(scene.alone[s].least_us for s in free) * (1 + CLOSE)

    @cached_property
    def cramped(self) -> bool:
        """Whether memory is too short for all of them to be where each would be alone."""
        alone = {s: found.row for s in self.free if (found := self.scene.alone[s].best) is not None}
        if self.scene.objective.limited or len(self.free) < 2:
            return False
        return len(alone) < len(self.free) or bool(self.loaded.overfull(alone))

    @property
    def hampered(self) -> bool:
        """Whether a limit keeps them from being where each would be alone."""
        scene = self.scene
        if not scene.objective.limited or len(self.free) < 2:
            return False
        alone = {s: found.row for s in self.free if (found := scene.alone[s].best) is not None}
        return len(alone) < len(self.free) or not scene.objective.kept(scene.forecast, alone, self.outlook.under)

    @property
    def beyond_us(self) -> float:
        """What the free streams cost at least if one of them uses a node that is not considered for it."""
        alone = {s: self.scene.alone[s].least_us for s in self.free}
        return sum(alone.values()) + min(self.scene.beyond_us[s] - us for s, us in alone.items())

    def worth(self, rows: Rows) -> float:
        """The objective when the free streams are at `rows`, without what the others cost; infinite if it cannot be."""
        key = frozenset(rows.items())
        found = self._worth.get(key)
        if found is None:
            found = self._worth[key] = self._judged(rows)
        return found

    def _judged(self, rows: Rows) -> float:
        if not all([self._may(stream, row) for stream, row in rows.items()]):
            return float("inf")
        if self._tight(rows) and self.loaded.overfull(rows):
            return float("inf")
        return self._within_limits_us(rows)

    def _within_limits_us(self, rows: Rows) -> float:
        """What rows cost, endless over a limit."""
        objective, total = self.scene.objective, self.outlook.total_us(rows)
        if objective.limited and not objective.kept(self.scene.forecast, rows, self.outlook.under):
            return float("inf")
        return total if objective.latency_alone else total + sum(self.beside_us(rows).values())

    def beside_us(self, rows: Rows) -> dict[str, float]:
        """What rows cost beside latency."""
        scene = self.scene
        return scene.objective.beside_us(scene.table, scene.forecast, rows, self.current, self.outlook.under)

    def _may(self, stream: str, row: Row) -> bool:
        """Whether a row is where its stream may be, on nodes that are up."""
        found = self._usable.get((stream, row))
        if found is None:
            scene = self.scene
            found = self._usable[stream, row] = scene.table.permits(stream, row) and scene.forecast.up(row)
        return found

    def _tight(self, rows: Rows) -> bool:
        tight = self.scene.table.tight
        return bool(tight) and any(not tight.isdisjoint(row) for row in rows.values())

    def responses(self, streams: Sequence[str], rows: Rows, rent: Rent | None = None) -> list[Row | None]:
        """The best row of each of `streams` while the others stay at `rows`; `rent` is to be paid beside."""
        known = {s: best.row for s in streams if rent is None and (best := self._by_itself(s, rows))}
        answers: dict[str, Row | None] = {**known}
        self.asked += len(streams)
        for at, group in enumerate(self.scene.groups):
            mine = [s for s in streams if self.scene.at[s][0] == at and s not in known]
            if mine:
                answers |= zip(mine, self._respond(group, mine, rows, rent), strict=True)
        return [answers[s] for s in streams]

    def _by_itself(self, stream: str, rows: Rows) -> Best | None:
        """The best row of a stream that meets nobody, which was sought before."""
        return self.scene.alone[stream].best if self._silent and not rows.keys() - {stream} else None

    def _respond(self, group: Group, streams: Sequence[str], rows: Rows, rent: Rent | None) -> list[Row | None]:
        pick, others = [self.scene.at[s][1] for s in streams], [_without(rows, stream) for stream in streams]
        beside, short = self._crowd(streams, rows), self.cramped or bool(self._within)
        rooms = [self._room(stream, rest) for stream, rest in zip(streams, others, strict=True)] if short else None
        costs = self._costs(group, pick, beside, rooms, rent)
        found = solve(costs)
        for b, best in enumerate(found):
            if best is None or self.loaded.overfull({**others[b], streams[b]: best.row}).keys().isdisjoint(best.row):
                most = STEPS if rent is None else BRIEF
                found[b] = self._met(group, costs, (b, pick[b]), best, beside, most=most).best
                continue
            key = streams[b], frozenset(others[b].items()), rent
            if key not in self._within:
                room, one = rooms[b] if rooms else self._room(streams[b], others[b]), costs.only(b)
                if not rooms:
                    one = self._costs(group, pick[b : b + 1], beside.only([b]), [room], rent)
                there = best if rooms else solve(one)[0]
                self._within[key] = self._squeezed((group, one, (0, pick[b]), there, room), rows)
            found[b] = self._within[key]
        return [best.row if best else None for best in found]

    def _costs(
        self, group: Group, pick: Sequence[int], beside: Crowd, rooms: Sequence[Room] | None, rent: Rent | None
    ) -> Costs:
        weights = [self.weights.get(group.streams[b], 1.0) for b in pick]
        costs = group.costs(pick, beside, weights, rooms, self.current)
        return costs if rent is None else rent(costs, [group.own(b) for b in pick])

    def _room(self, stream: str, others: Rows) -> Room:
        return room_in(self.scene.table, stream, self.loaded, others)

    @property
    def _silent(self) -> bool:
        """Whether none of those that stay is heard where the free streams may go."""
        near = self.near()
        return not near.nodes and not near.paths

    def _squeezed(self, asked: Squeezed, rows: Rows) -> Best | None:
        """The best row where memory is short, or the present one if nothing better is found."""
        group, _, (_, at), _, _ = asked
        stream, known = group.streams[at], None
        judge = self._longer_us(stream, _without(rows, stream))
        if stream in rows and self.worth(rows) < float("inf"):
            known = Best(judge([rows[stream]]), rows[stream])
        below = known.cost_us if known else float("inf")
        return within(*asked, judge=judge, effort="short", below_us=below).best or known

    def _longer_us(self, stream: str, others: Rows) -> Judge:
        """What a row of a stream adds to what the others cost."""
        before_us = self._within_limits_us(others)

        def judge(rows: list[Row]) -> float:
            total = self._within_limits_us({**others, stream: rows[0]})
            return total - before_us if total < float("inf") else total

        return judge

    def _met(
        self,
        group: Group,
        costs: Costs,
        places: tuple[int, int],
        best: Best | None,
        beside: Crowd,
        *,
        most: int = STEPS,
    ) -> Fitted:
        weight, others = self.weights.get(group.streams[places[1]], 1.0), (lambda: beside.parts(places[0]))
        return self.scene.met(group, costs, places, best, others=others, weight=weight, most=most)

    def _crowd(self, streams: Sequence[str], rows: Rows) -> Crowd:
        """What each of `streams` finds where it may go."""
        forecast, near = self.scene.forecast, self.near()
        if any(stream not in rows for stream in streams):
            loads = [forecast.load(_without(rows, stream), self.weights, base=near) for stream in streams]
            return crowded(loads, len(self.scene.table.memory))
        if self._found is None or self._found[0] is not rows:
            weights = np.array([self.weights.get(stream, 1.0) for stream in rows])
            uses = [forecast.use(stream, row) for stream, row in rows.items()]
            self._found = rows, crowd(uses, weights, self._under(), len(self.scene.table.memory))
        at = {stream: s for s, stream in enumerate(rows)}
        return self._found[1].only([at[stream] for stream in streams])

    def _under(self) -> Crowd:
        return crowded([self.near()], len(self.scene.table.memory))

    def near(self) -> Load:
        """Of the load of those who stay, what is on the nodes considered."""
        if self._beside is None:
            nodes = {n for group in self.scene.groups for n in group.nodes.ravel().tolist()}
            base = self.outlook.under
            self._beside = Load(
                {n: parts for n, parts in base.nodes.items() if n in nodes},
                {way: parts for way, parts in base.paths.items() if nodes.issuperset(way)},
            )
        return self._beside

    def unlike(self, rows: Rows) -> list[tuple[str, str]]:
        """Pairs of free streams of one model, of other rates or weights, the most unlike first; swaps are learnt."""
        streams, at = self.scene.table.streams, self.scene.at
        own = {s: (float(streams[s].period_us), self.weights.get(s, 1.0)) for s in self.free}
        if len(set(own.values())) < 2:
            return []
        every = [
            (a, b)
            for a, b in combinations(self.free, 2)
            if own[a] != own[b] and rows[a] != rows[b] and at[a][0] == at[b][0]
        ]

        def alike(two: tuple[str, str]) -> float:
            (a_us, a_weight), (b_us, b_weight) = own[two[0]], own[two[1]]
            return min(a_us, b_us) / max(a_us, b_us) * min(a_weight, b_weight) / (max(a_weight, b_weight) or 1.0)

        pairs = sorted(every, key=alike)[:SWAPS]
        swaps = [(stream, rows[other]) for a, b in pairs for stream, other in ((a, b), (b, a))]
        self.scene.forecast.learn([one for one in swaps if self._may(*one)])
        return pairs

    def _promising(self, rows: Rows, total: float) -> list[str]:
        """The streams of which a best response may gain more than a trifle."""
        if self._asked is None or len(self.free) <= HANDFUL:
            return self.free
        (asked, order), scene = self._asked, self.scene
        crowd, backlog = self._crowd(order, rows), backlog_us(scene.snapshot)
        moving = [self.weights.get(s, 1.0) * scene.forecast.use(s, rows[s]).moving_us for s in order]
        if not scene.objective.latency_alone:
            whole = sum(self.beside_us(rows).values())
            rest = [whole - sum(self.beside_us(_without(rows, s)).values()) for s in order]
            moving = [us + more for us, more in zip(moving, rest, strict=True)]
        gain = np.array(moving) + crowd.waits_us(len(backlog), backlog) - asked.responses_us(crowd)
        gains = dict(zip(order, gain.tolist(), strict=True))
        best = sorted(self.free, key=lambda stream: -gains[stream])[:ASKED]
        return [s for s in self.free if s in best and gains[s] > TRIFLE * (total - self.goal_us)]

    def together(self, rows: Rows) -> Rows | None:
        """Raises the goal to the least that the free streams cost together, below `rows`; the rows that it suggests."""
        scene, known = self.scene, self.worth(rows)
        slack = known - self.goal_us
        if not 1 <= len(self.free) <= COMPANY or not 0 < slack < float("inf"):
            return None
        self.bounded = True
        if len(self.free) == 1:  # of one alone all is known
            return None if self._silent else self._beside_those_that_stay(self.free[0])
        order, parts, near = list[str](), list[Choices](), self.near()
        for at, group in enumerate(scene.groups):
            mine = [s for s in self.free if scene.at[s][0] == at]
            if mine:
                order += mine
                parts.append(choices(self._picked(group, mine), slack))
        weights = np.array([self.weights.get(s, 1.0) for s in order])
        asked = Together(joined(parts), weights, near, backlog_us(scene.snapshot), scene.objective)
        found = asked.found(known, scene.forecast.load(rows, self.weights, base=near))
        if asked.sure:
            self._asked = asked, order
            self.at_least(found.least_us)
        return dict(zip(order, found.rows, strict=True)) if found.rows else None

    def at_least(self, bound_us: float) -> None:
        """No placement costs less than this bound, which knows waits beside those that stay up to their knee only."""
        near = self.near()
        self.least_us = max(self.least_us, min(bound_us, self._knee_us()) if near.nodes or near.paths else bound_us)
        self.goal_us = max(self.goal_us, self.least_us * (1 + CLOSE))

    def _knee_us(self) -> float:
        """What the free streams cost at least if one of them meets itself beside others where waits grow slower."""
        alone = {s: self.scene.alone[s].least_us for s in self.free}
        more = min(knee_us(self.weights.get(s, 1.0)) - us for s, us in alone.items())
        return sum(alone.values()) + max(more, 0.0)

    def _beside_those_that_stay(self, stream: str) -> Rows | None:
        """The same of the only one that is free: its best row, and the least of all its rows."""
        at, b = self.scene.at[stream]
        group, under, weight = self.scene.groups[at], self._under(), self.weights.get(stream, 1.0)
        costs = group.costs([b], under, [weight], current=self.current)
        found = self._met(group, costs, (0, b), solve(costs)[0], under)
        self.least_us = min(found.least_us, self.scene.beyond_us[stream], knee_us(weight))
        self.goal_us = max(self.goal_us, self.least_us * (1 + CLOSE))
        return {stream: found.best.row} if found.best else None

    def spread(self) -> Rows | None:
        """Each of the free streams whole on a node, the streams of each model beside those of the models before."""
        scene, rows = self.scene, dict[str, Row]()
        backlog = backlog_us(scene.snapshot)
        for at, group in enumerate(scene.groups):
            mine = [s for s in self.free if scene.at[s][0] == at]
            if not mine:
                continue
            picked = self._picked(group, mine)
            nodes, alone, parts = group.whole(picked.streams, picked.costs)
            if not np.isfinite(alone).any(axis=1).all():
                return None
            places, node = np.unique(nodes, return_inverse=True)
            there = scene.forecast.load(rows, self.weights, base=self.near()).nodes
            stay = np.array([there.get(n, NOBODY) for n in places.tolist()]).T
            weight = np.array([[self.weights.get(s, 1.0)] for s in mine])
            weighed = np.stack((*parts, np.broadcast_to(weight, nodes.shape)))
            chosen = spread(Whole(alone, node.reshape(nodes.shape), weighed, stay, backlog[places]))
            found = nodes[np.arange(len(mine)), chosen].tolist()
            rows |= {s: (n,) * group.blocks for s, n in zip(mine, found, strict=True)}
        return rows

    def _picked(self, group: Group, streams: Sequence[str]) -> Picked:
        scene, pick = self.scene, [self.scene.at[s][1] for s in streams]
        known = None
        if self._silent and pick == [*range(len(group.streams))]:
            costs, known = scene.quiet[scene.groups.index(group)]
        else:
            weights = [self.weights.get(s, 1.0) for s in streams]
            costs = group.costs(pick, self._under().only([0] * len(pick)), weights, current=self.current)
        least = np.array([scene.alone[s].least_us for s in streams])
        beyond = np.array([scene.beyond_us[s] for s in streams])
        return Picked(group, pick, costs, least, beyond, known)

    def settled(self, rows: Rows, rounds: int = ROUNDS) -> tuple[Rows, float]:
        """Rounds of best response from `rows`: the end, and what it is worth."""
        total = self.worth(rows)
        for _ in range(rounds):
            if total <= self.goal_us or self.asked >= self.most:
                break
            before, changed = total, False
            streams = self._promising(rows, total)
            found = zip(streams, self.responses(streams, rows), strict=True)
            others = [(stream, row) for stream, row in found if row is not None and row != rows[stream]]
            self.scene.forecast.learn(others)
            for stream, row in others:
                trial = {**rows, stream: row}
                lower = self.worth(trial)
                if lower < total:
                    rows, total, changed = trial, lower, True
            if not changed or len(self.free) == 1 or before - total < LEAST_GAIN * before:
                break
        return rows, total


def _without(rows: Rows, stream: str) -> dict[str, Row]:
    return {s: row for s, row in rows.items() if s != stream}
