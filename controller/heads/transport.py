"""Blocks that are somewhere already: the bottleneck against the cost of moving, as a parametric flow of least cost.

The heads, or FFN columns, that come from one device are alike. `moved[a, k]` of them go from a to k at `move[a, k]`
each. Begin with as few moves as room asks for; then, again and again, forbid the end that is the bottleneck now and
push one block off its device along the cheapest chain of moves (shortest path in the residual network, so that the
flow stays one of least cost for the tightened room). The bottleneck falls and the cost rises: the best sum on the way
is the optimum. It ends when nothing can be pushed off, or when even the least bottleneck would not pay for the moves
made.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    cost_s: float  # bottleneck and moves
    moved: Ints  # (pairs, 3): from, to, how many
    on: Ints  # (N,) how many are there then


class Transport:
    """`was` (N,) blocks before, ends fixed + n * each, `room` (N,); `floor_s`: no bottleneck is less."""

    def __init__(  # noqa: PLR0917 the arrays of a phase
        self, was: Ints, move: Floats, fixed: Floats, each: Floats, room: Ints, floor_s: float
    ) -> None:
        self._floor_s = floor_s
        self._move, self._fixed, self._each, self._room = move, fixed, each, room.copy()
        self._flow = np.diag(was)  # [from, on]
        self._on = was.copy()
        self._step = np.where(was[:, None] > 0, move, np.inf)  # [on, to]: the cheapest head there to push on
        self._from = np.where(was > 0, np.arange(len(was)), -1)[:, None].repeat(len(was), axis=1)
        self._spent = 0.0

    def least(self, below_s: float) -> Flow | None:
        """The least bottleneck and moves together, None when it is not below `below_s`."""
        floor = self._floor_s
        for n in np.flatnonzero(self._on > self._room).tolist():
            while self._on[n] > self._room[n]:
                if self._spent + floor >= below_s or not self._push(n):
                    return None
        best: Flow | None = None
        while True:
            ends = np.where(self._on > 0, self._fixed + self._on * self._each, -np.inf)
            worst = int(ends.argmax())
            level = float(ends[worst])
            if self._spent + level < min(below_s, UNREACHABLE_S):
                below_s = self._spent + level
                best = Flow(below_s, self._pairs(), self._on.copy())
            self._tighten(level)
            if self._spent + floor >= below_s or not self._push(worst):
                return best
            while (over := np.flatnonzero(self._on > self._room)).size:
                if not self._push(int(over[0])):
                    return best

    def _tighten(self, level: float) -> None:
        """Only ends strictly below `level` are allowed from now on."""
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.ceil((level * (1 - 1e-12) - self._fixed) / self._each) - 1
        most = np.where(self._each > 0, most, np.where(self._fixed < level, np.inf, 0))
        self._room = np.minimum(self._room, np.maximum(most, 0)).astype(np.intp)

    def _push(self, off: int) -> bool:
        """One head off `off`, along the cheapest chain to a device with room; False when there is none."""
        free = self._on < self._room
        free[off] = False
        if not free.any():
            return False
        far, via = self._step[off].copy(), np.full(len(self._on), off)
        for _ in range(len(far)):
            longer = far[:, None] + self._step
            through = longer.argmin(axis=0)
            shorter = longer[through, np.arange(len(far))] < far - 1e-15
            shorter[off] = False
            if not shorter.any():
                break
            far[shorter] = longer[through, np.arange(len(far))][shorter]
            via[shorter] = through[shorter]
        to = int(np.where(free, far, np.inf).argmin())
        if not far[to] < UNREACHABLE_S:
            return False
        self._spent += float(far[to])
        self._shift(off, to, via)
        return True

    def _shift(self, off: int, to: int, via: Ints) -> None:
        chain = [to]
        while chain[-1] != off:
            chain.append(int(via[chain[-1]]))
        links = [(on, after, int(self._from[on, after])) for after, on in pairwise(chain)]
        for on, after, home in links:
            self._flow[home, on] -= 1
            self._flow[home, after] += 1
        self._on[off] -= 1
        self._on[to] += 1
        for n in chain:
            homes = np.flatnonzero(self._flow[:, n])
            if not homes.size:
                self._step[n], self._from[n] = np.inf, -1
                continue
            extra = self._move[homes] - self._move[homes, n][:, None]
            best = extra.argmin(axis=0)
            self._step[n] = extra[best, np.arange(len(best))]
            self._from[n] = homes[best]

    def _pairs(self) -> Ints:
        came, on = np.nonzero(self._flow)
        return np.stack((came, on, self._flow[came, on]), axis=1)
