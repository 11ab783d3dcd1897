"""The few ways in which the rows of a stream can be in the way of others, each with what it costs alone. Pure.

The *middle* is the block with which half of the work is done, and the run that has it is *large* if it does more than
half of the work. A *choice* is a large run, and stands for the cheapest row that has it: it is in the way of others on
the node of the run, and on the paths from and to the phone where the run begins or ends the row. Runs of a stream on
one node that do about as much are one choice, as cheap as the cheapest of them, in the way as the smallest. One more
choice stands for all other rows, and is in nobody's way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.chain import Costs, Group, Indices, run_ends
from controller.table import Bools, Floats, Row
from controller.through import Through

MOST = 40  # choices of a stream beside the one for all other rows
LARGE = 0.5
EDGES = (0.75, 0.95, 0.999)  # of the work: between two of them runs do about as much
USES = 3  # a choice has at most: a node, the path to it, the path from it
NOWHERE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """Streams of one group, by position there, and what is known of each from elsewhere."""

    group: Group
    streams: Sequence[int]
    costs: Costs
    least_us: Floats  # no row costs less
    beyond_us: Floats  # no row costs less that uses a node which is not considered
    tables: tuple[Floats, Floats] | None = None  # of the costs, if they are known


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """M choices, those of a stream side by side, streams in order."""

    owner: Indices  # (M,)
    least_us: Floats  # (M,) no row of the choice costs less, whatever others do
    place: Indices  # (M, USES) a path as a * N + b, a node as a path to itself; or NOWHERE
    rho: Floats  # (M, USES) utilisation
    square: Floats  # (M, USES) rate * time^2
    row: Callable[[int], Row]  # of a choice, by what stands in `number`
    number: Indices  # (M,)

    def only(self, kept: Bools) -> "Choices":
        owner, place, number = self.owner[kept], self.place[kept], self.number[kept]
        return Choices(owner, self.least_us[kept], place, self.rho[kept], self.square[kept], self.row, number)


def choices(picked: Picked, slack_us: float) -> Choices:
    """The choices less than `slack_us` above the cheapest of their stream."""
    group, streams = picked.group, len(picked.streams)
    middle = _middle(group)
    through = Through(picked.costs, middle, picked.tables)
    by_run, share = through.by_run, group.shares(picked.streams, middle).swapaxes(0, 1)  # (P, B or 1, K)
    large = share > LARGE
    limit = np.maximum(through.least, picked.least_us) + slack_us
    run, b, node = np.unravel_index(np.flatnonzero(large & (by_run < limit[:, None])), by_run.shape)
    cost, done = by_run[run, b, node], np.broadcast_to(share, by_run.shape)[run, b, node]
    kept, least, left_us = _kept(b, cost, done, group.ends(b, middle[run], node), streams)
    place, rho, square = group.uses(picked.streams, b[least], middle[run[least]], node[least])
    b, run, node, cost = b[kept], run[kept], node[kept], cost[kept]
    small_us = np.minimum.reduce(np.where(large, np.inf, by_run)).min(axis=1)
    others_us = np.minimum(np.minimum(picked.beyond_us, left_us), small_us)
    lacking = np.bincount(b, minlength=streams) == 0
    others = np.flatnonzero(lacking | (np.maximum(others_us, picked.least_us) < limit))
    owner, free = np.concatenate((b, others)), np.zeros((len(others), USES))
    order = np.argsort(owner, kind="stable")

    def row(number: int) -> Row:
        if number < len(b):
            return through.row(int(b[number]), int(run[number]), int(node[number]))
        stream = number - len(b)
        small = np.where(np.broadcast_to(large, by_run.shape)[:, stream], np.inf, by_run[:, stream])
        return through.row(stream, *divmod(int(small.argmin()), small.shape[1]))

    return Choices(
        owner[order],
        np.maximum(np.concatenate((cost, others_us[others])), picked.least_us[owner])[order],
        np.concatenate((place, np.full((len(others), USES), NOWHERE)))[order],
        np.concatenate((rho, free))[order],
        np.concatenate((square, free))[order],
        row,
        np.concatenate((np.arange(len(b)), len(b) + others))[order],
    )


def _middle(group: Group) -> Indices:
    """The runs that have the middle."""
    first, last = run_ends(group.blocks)
    work = group.work
    middle = int(np.searchsorted(work, work[-1] / 2, side="left")) - 1
    return np.flatnonzero((first <= middle) & (middle < last))


def _kept(owner: Indices, cost: Floats, share: Floats, ends: Indices, streams: int) -> tuple[Indices, Indices, Floats]:
    """The choices: the cheapest of each, the one that does least, and (S,) the least cost of those that are too many.

    Few runs are told apart as they are, many by `EDGES`.
    One that is dearer than another of the same stream with the same `ends`, and does no less there, is none.
    """
    edges = np.unique(share) if len(share) <= MOST * streams else EDGES
    kinds = len(edges) + 1
    alike = ends * kinds + np.searchsorted(edges, share, side="right")
    places = (int(ends.max(initial=-1)) + 1) * kinds
    (cheapest, cheap), (_, light) = (_least(values, alike, places) for values in (cost, share))
    less = np.minimum.accumulate(cheapest.reshape(-1, kinds), axis=1)
    kept = np.flatnonzero(cheapest < np.pad(less[:, :-1], ((0, 0), (1, 0)), constant_values=np.inf).ravel())
    cheap, light = cheap[kept], light[kept]
    by_cost = np.lexsort((cost[cheap], owner[cheap]))
    cheap, light = cheap[by_cost], light[by_cost]
    many = np.arange(len(cheap)) - np.searchsorted(owner[cheap], np.arange(streams))[owner[cheap]] >= MOST
    left = np.full(streams, np.inf)
    np.minimum.at(left, owner[cheap[many]], cost[cheap[many]])
    return cheap[~many], light[~many], left


def _least(values: Floats, place: Indices, places: int) -> tuple[Floats, Indices]:
    """(P,) the least value at each place, and where it is, the first of equals."""
    least, where = np.full(places, np.inf), np.zeros(places, dtype=np.intp)
    np.minimum.at(least, place, values)
    found = np.flatnonzero(values == least[place])[::-1]
    where[place[found]] = found
    return least, where


def joined(parts: Sequence[Choices]) -> Choices:
    """Those of several groups, the streams of the first one first."""
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0, *(int(part.owner.max()) + 1 for part in parts)])
    offsets = np.cumsum([0, *(int(part.number.max()) + 1 for part in parts)])

    def row(number: int) -> Row:
        at = int(np.searchsorted(offsets, number, side="right")) - 1
        return parts[at].row(number - int(offsets[at]))

    return Choices(
        np.concatenate([part.owner + first for part, first in zip(parts, firsts[:-1], strict=True)]),
        np.concatenate([part.least_us for part in parts]),
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.rho for part in parts]),
        np.concatenate([part.square for part in parts]),
        row,
        np.concatenate([part.number + offset for part, offset in zip(parts, offsets[:-1], strict=True)]),
    )
