"""What each of several streams finds where the others are placed, all of them at once as arrays. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.cost import Load, Parts, Use, wait_us
from controller.table import Floats

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """S streams at R places; a place is a path as a * N + b, a node a path to itself.

    Of each: utilisation, rate * time^2, weighted visits.
    """

    place: Indices  # (R,) ascending
    others: Floats  # (3, S, R)
    own: Floats  # (3, S, R) of the stream itself, 0 where it is not placed

    def only(self, streams: Sequence[int]) -> "Crowd":
        return Crowd(self.place, self.others[:, streams], self.own[:, streams])

    def parts(self, s: int) -> dict[int, Parts]:
        """Of the others that one stream finds, by place."""
        some = self.others[:, s].any(axis=0)
        rho, square, uses = self.others[:, s, some].tolist()
        return dict(zip(self.place[some].tolist(), zip(rho, square, uses, strict=True), strict=True))

    def at(self, places: Indices) -> Floats:
        """(3, S, P) of the others, at other places."""
        return _found(self.place, self.others, places)

    def waits_us(self, hosts: int, backlog_us: Floats) -> Floats:
        """(S,) what each stream waits, by weight, and makes the others wait."""
        node, end = np.divmod(self.place, hosts)
        least = np.where(node == end, backlog_us[node], 0.0)
        before, after = (
            weight * np.maximum(least, wait_us(rho, square))
            for rho, square, weight in (self.others, self.others + self.own)
        )
        return np.asarray((after - before).sum(axis=1))


def crowded(loads: Sequence[Load], hosts: int) -> Crowd:
    """Of streams that are not placed yet, each beside a load."""
    parts = [_placed(load, hosts) for load in loads]
    place = np.unique(np.concatenate([np.array(list(one), dtype=np.intp) for one in parts]))
    others = np.zeros((3, len(loads), len(place)))
    for s, one in enumerate(parts):
        if one:
            others[:, s, np.searchsorted(place, list(one))] = np.array(list(one.values())).T
    return Crowd(place, others, np.zeros_like(others))


def crowd(uses: Sequence[Use], weights: Floats, under: Crowd, hosts: int) -> Crowd:
    """Of streams that are placed, beside each other and beside what the one stream of `under` finds."""
    counts = [len(use.nodes) + len(use.paths) for use in uses]
    found = list[tuple[int, float, float]]()
    for use in uses:
        found += [(n * hosts + n, rho, square) for n, rho, square in use.nodes]
        found += [(a * hosts + b, rho, square) for (a, b), rho, square in use.paths]
    entries = np.array(found).reshape(-1, 3)
    ids, owner = entries[:, 0].astype(np.intp), np.repeat(np.arange(len(uses)), counts)
    place, at = np.unique(np.concatenate((under.place, ids)), return_inverse=True)
    at, size = owner * len(place) + at[len(under.place) :], len(uses) * len(place)
    visits = np.bincount(at, minlength=size).reshape(len(uses), -1)
    own = np.array([np.bincount(at, part, size).reshape(visits.shape) for part in (*entries.T[1:], weights[owner])])
    alone = visits == visits.sum(axis=0)  # nothing of a rounding error is left of others that are not there
    others = np.where(alone, 0.0, own.sum(axis=1)[:, None] - own)
    return Crowd(place, others + _found(under.place, under.others, place), own)


def _placed(load: Load, hosts: int) -> dict[int, tuple[float, float, float]]:
    nodes = {n * hosts + n: parts for n, parts in load.nodes.items()}
    return nodes | {a * hosts + b: parts for (a, b), parts in load.paths.items()}


def _found(place: Indices, parts: Floats, wanted: Indices) -> Floats:
    """(3, S, P) of (3, S, R), 0 where a wanted place is none of `place`."""
    if not len(place):
        return np.zeros((*parts.shape[:2], len(wanted)))
    at = np.minimum(np.searchsorted(place, wanted), len(place) - 1)
    return np.where(place[at] == wanted, parts[:, :, at], 0.0)
