"""Where limits of utilisation are in the way: what each use of a node and path pays, and placements by that. Pure.

Streams that answer each other one by one take what is best for them, and leave nothing to who comes last. So each use
of a place that is over its limit pays a price (Lagrange): whatever the prices are, what the streams cost and pay alone,
less what all that the limits leave is worth, is never more than the cheapest placement that keeps them. The prices
that give the highest bound are sought by subgradients; with them the streams are placed one after the other, who found
no place first in the next attempt.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from controller.chain import Costs, Own
from controller.cost import NOBODY
from controller.programme import solve
from controller.table import Floats, Row, Rows
from controller.tight import DULL, GUESS, PROVEN
from controller.turns import Turn

ROUNDS = 8  # of better prices
PLACED = 2, ROUNDS - 1  # after which of them streams are placed by them
ATTEMPTS = 4  # each with another stream first

Prices = Mapping[tuple[int, int], float]  # of all the time of a path, or of a node: a path to itself


class Limits:
    """The streams of a turn under the limits of its objective."""

    def __init__(self, turn: Turn) -> None:
        self._turn, scene = turn, turn.scene
        self._groups = list[tuple[list[str], list[Own], Costs]]()
        for at, group in enumerate(scene.groups):
            mine = [s for s in turn.free if scene.at[s][0] == at]
            if mine:
                pick, weights = [scene.at[s][1] for s in mine], [turn.weights.get(s, 1.0) for s in mine]
                costs = group.costs(pick, [turn.near()] * len(mine), weights, current=turn.current)
                self._groups.append((mine, [group.own(b) for b in pick], costs))
        self.least_us = -float("inf")  # no placement that keeps the limits costs less

    def starts(self) -> list[dict[str, Row]]:
        """Placements that keep the limits, if any are found; raises `least_us`."""
        prices, found, known, step = dict[tuple[int, int], float](), list[dict[str, Row]](), float("inf"), 1.0
        for turn in range(ROUNDS):
            rows, paid = self._apart(prices)
            if rows is None:
                break
            over = self._over(rows, prices)
            least = paid - sum(price * self._left(place) for place, price in prices.items())
            if turn in PLACED or not any(more > 0 for more in over.values()):
                placed = self._one_by_one(prices)
                found += [placed] if placed else []
                known = min(known, self._turn.worth(placed) if placed else float("inf"))
            step *= DULL if least <= self.least_us else 1.0
            self.least_us = max(self.least_us, least)
            size = sum(more * more for more in over.values())
            goal = known if known < float("inf") else GUESS * abs(self.least_us)
            if not size or self.least_us >= goal * (1 - PROVEN):
                break
            move = step * (goal - least) / size
            prices = {place: max(prices.get(place, 0.0) + move * more, 0.0) for place, more in over.items()}
        self.least_us = min(self.least_us, self._turn.beyond_us)
        return found

    def _apart(self, prices: Prices) -> tuple[dict[str, Row] | None, float]:
        """What each stream does when nobody else is there, and what all of them cost and pay."""
        rows, paid = dict[str, Row](), 0.0
        for streams, own, costs in self._groups:
            for stream, best in zip(streams, solve(rented(costs, own, prices)), strict=True):
                if best is None:
                    return None, paid
                rows[stream], paid = best.row, paid + best.cost_us
        return rows, paid

    def _over(self, rows: Rows, prices: Prices) -> dict[tuple[int, int], float]:
        """How much more than is left is used, where that is more or has a price."""
        load = self._turn.scene.forecast.load(rows, {})
        used = {(n, n): rho for n, (rho, _, _) in load.nodes.items()}
        used |= {way: rho for way, (rho, _, _) in load.paths.items()}
        over = {place: used.get(place, 0.0) - self._left(place) for place in {**used, **prices}}
        return {place: more for place, more in over.items() if more > 0 or prices.get(place, 0.0) > 0}

    def _left(self, place: tuple[int, int]) -> float:
        """What a limit leaves beside those that stay."""
        objective, under, (a, b) = self._turn.scene.objective, self._turn.outlook.under, place
        if a == b:
            return max(objective.max_utilisation - under.nodes.get(a, NOBODY)[0], 0.0)
        return max(objective.max_link_share - under.paths.get(place, NOBODY)[0], 0.0)

    def _one_by_one(self, prices: Prices) -> dict[str, Row] | None:
        order, turn = list(self._turn.free), self._turn

        def rent(costs: Costs, own: list[Own]) -> Costs:
            return rented(costs, own, prices)

        for _ in range(ATTEMPTS):
            rows = dict[str, Row]()
            for stream in order:
                row = turn.responses([stream], rows, rent)[0]
                if row is None:
                    order = [stream, *(other for other in order if other != stream)]
                    break
                rows[stream] = row
            else:
                return rows if turn.worth(rows) < float("inf") else None
        return None


def rented(costs: Costs, own: list[Own], prices: Prices) -> Costs:
    """With what uses pay; `own` of each stream in `costs`."""
    if not any(prices.values()):
        return costs
    run, hop, enter, leave = (part.copy() for part in (costs.run, costs.hop, costs.enter, costs.leave))
    for b, one in enumerate(own):
        node, path = _of_nodes(costs.nodes[b].tolist(), prices)
        run[b] += one.per_us * one.time * node
        rent = one.per_us * one.wire * path  # (U, K, K)
        hop[b] += rent
        enter[b] += rent[costs.kind[0], one.home]
        leave[b] += rent[costs.kind[-1], :, one.home]
    return replace(costs, run=run, hop=hop, enter=enter, leave=leave)


def _of_nodes(nodes: list[int], prices: Prices) -> tuple[Floats, Floats]:
    """(K,) of nodes, (K, K) of paths."""
    at, path = {n: k for k, n in enumerate(nodes)}, np.zeros((len(nodes), len(nodes)))
    for (a, b), price in prices.items():
        if a in at and b in at:
            path[at[a], at[b]] = price
    node = path.diagonal().copy()
    np.fill_diagonal(path, 0.0)
    return node, path
