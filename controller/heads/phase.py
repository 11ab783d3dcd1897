"""Blocks that are alike, to be spread over devices so that the last of them ends early: the heads, or FFN columns.

n of them on device j end after fixed[j] + n * each[j], which rises with n. Without moves the least bottleneck of B
blocks is therefore the B-th smallest of all such ends that room allows. With moves the bottleneck and the cost of
moving are weighed in `transport`; `least_sums` bounds that from below.
"""

from dataclasses import dataclass, field

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, Ints
from controller.heads.transport import Flow, Transport

MANY = 20_000  # ends


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """What the phases of a layer have in common for one kind of block."""

    count: int  # B
    was: Ints | None  # (N,) where they are
    move: Floats  # (N, N) s for one

    def out_s(self) -> Floats:
        """(N,) the cheapest move from there."""
        away = self.move.copy()
        np.fill_diagonal(away, np.inf)
        return np.asarray(np.minimum(away.min(axis=1), UNREACHABLE_S))


@dataclass(slots=True, eq=False)
class Phase:
    alike: Alike
    fixed: Floats  # (N,)
    each: Floats  # (N,)
    room: Ints  # (N,)
    _floor_s: float | None = field(default=None, init=False)

    def floor_s(self) -> float:
        """The least bottleneck, moves being free."""
        if self._floor_s is None:
            self._floor_s = float(least_ends(self.fixed, self.each, self.room, self.alike.count))
        return self._floor_s

    def bound_s(self) -> float:
        """Bottleneck and moves are no less."""
        floors = np.array([self.floor_s()])
        return float(least_sums(self.alike, self.fixed[None], self.each, self.room, floors)[0])

    def least(self, below_s: float) -> Flow | None:
        """The best way to spread them, bottleneck and moves together; None when that is not below `below_s`."""
        level, count, was = self.floor_s(), self.alike.count, self.alike.was
        if level >= min(below_s, UNREACHABLE_S):
            return None
        if not count:
            return Flow(0.0, np.zeros((0, 3), dtype=np.intp), np.zeros(len(self.fixed), dtype=np.intp))
        if was is not None:
            if self.bound_s() >= below_s:
                return None
            return Transport(was, self.alike.move, self.fixed, self.each, self.room, level).least(below_s)
        filled = self._filled(level)
        to = np.flatnonzero(filled)
        return Flow(level, np.stack((to, to, filled[to]), axis=1), filled)

    def all_on(self, device: int) -> Flow | None:
        """All on one device."""
        if self.alike.count > self.room[device]:
            return None
        cost_s = float(self.fixed[device] + self.alike.count * self.each[device])
        on = np.zeros(len(self.fixed), dtype=np.intp)
        on[device] = self.alike.count
        held = np.array([device]) if self.alike.was is None else np.flatnonzero(self.alike.was)
        if self.alike.was is not None:
            cost_s += float(self.alike.was @ self.alike.move[:, device])
        many = on[held] if self.alike.was is None else self.alike.was[held]
        return Flow(cost_s, np.stack((held, np.full(len(held), device), many), axis=1), on)

    def _filled(self, level: float) -> Ints:
        """(N,) a count for each device that ends by `level`, the first devices filled first."""
        number = np.arange(1, self.alike.count + 1)
        ends = self.fixed[:, None] + number * self.each[:, None]
        most = ((ends <= level) & (number <= self.room[:, None])).sum(axis=1)
        below = np.minimum(np.cumsum(most), self.alike.count)
        return np.asarray(np.diff(below, prepend=0), dtype=np.intp)


def least_ends(fixed: Floats, each: Floats, room: Ints, count: int, below_s: float = float("inf")) -> Floats:
    """(...) the count-th smallest end; fixed, each, room are (..., N) or broadcast to it. Infinite without room.

    Ends from `below_s` on are not always told from infinite.
    """
    if not count:
        return np.zeros(fixed.shape[:-1])
    most = count
    if below_s < UNREACHABLE_S and fixed.size * count > MANY:  # few blocks of a device end before that
        most = int(np.ceil((below_s - fixed) / np.maximum(each, 1e-30)).clip(0, count).max())
        most = max(most, -(-count // fixed.shape[-1]))
    number = np.arange(1, most + 1)
    ends = fixed[..., None] + number * each[..., None]
    ends = np.where(number <= room[..., None], ends, np.inf).reshape(*fixed.shape[:-1], -1)
    return np.asarray(np.partition(ends, count - 1, axis=-1)[..., count - 1])


def least_sums(alike: Alike, fixed: Floats, each: Floats, room: Ints, floors: Floats) -> Floats:
    """(Q,) for `fixed` (Q, N): bottleneck and moves are no less; `floors` (Q,) the bottleneck is no less.

    At a bottleneck T what does not end by T on its device must leave, each block by the cheapest move from there. Only
    the ends of what is there, and the floor, need be looked at as T.
    """
    if alike.was is None or not alike.count:
        return floors
    held = np.flatnonzero(alike.was)
    was, there, slow = alike.was[held], fixed[:, held], np.maximum(each[held], 1e-30)
    owner = np.repeat(np.arange(len(held)), was)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(was) - was, was) + 1
    levels = np.concatenate((floors[:, None], there[:, owner] + number * slow[owner]), axis=1)
    levels = np.maximum(levels, floors[:, None])  # (Q, T)
    most = np.minimum(np.floor((levels[:, :, None] - there[:, None]) / slow * (1 + 1e-12) + 1e-9), room[held])
    leave = np.maximum(was - np.maximum(most, 0.0), 0.0)  # (Q, T, held)
    return np.asarray((levels + leave @ alike.out_s()[held]).min(axis=1))


def least_ffn_s(  # noqa: PLR0917 a phase for every end
    alike: Alike, onward: Floats, each: Floats, room: Ints, proj: int, below_s: float = np.inf
) -> Floats:
    """(N,) by the layer's end: FFN columns and their moves are no less. All are at the end, or they meet at `proj`."""
    moves = 0.0 if alike.was is None else alike.was @ alike.move
    whole = np.where(room >= alike.count, onward[proj] + alike.count * each + moves, np.inf)
    fixed = (onward[proj] + onward[:, proj])[None]
    whole[proj] = float(least_sums(alike, fixed, each, room, least_ends(fixed, each, room, alike.count, below_s))[0])
    return np.asarray(whole)
