"""One layer of arXiv 2505.02533 as a mixed integer programme for HiGHS: a check of the planners by a stranger."""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from controller.heads.task import Task


class Programme:
    """Variables: the bottleneck T, heads f[from, to], used y, projection P, FFN Q, and both z[p, q]."""

    def __init__(self, asked: Task) -> None:
        if asked.model.layers != 1 or asked.model.columns or asked.need.summed:
            raise ValueError("one layer, its FFN one block, transfers in parallel")
        self._asked, self._size = asked, asked.devices
        size = self._size
        self._flow, self._used = 1, 1 + size * size
        self._proj, self._ffn, self._both = (self._used + size * k for k in (1, 2, 3))
        self._count = self._both + size * size
        self._rows: list[tuple[dict[int, float], float, float]] = []

    def optimum_s(self) -> float | None:
        """The least objective, None when there is no placement."""
        self._place()
        self._room()
        self._bottleneck()
        matrix = lil_matrix((len(self._rows), self._count))
        for number, (row, _, _) in enumerate(self._rows):
            for variable, factor in row.items():
                matrix[number, variable] += factor
        least, most = (np.array([row[side] for row in self._rows]) for side in (1, 2))
        upper = np.concatenate(
            ([np.inf], np.full(self._size**2, self._asked.model.heads), np.ones(self._count - self._used))
        )
        whole = np.concatenate(([0], np.ones(self._both - 1), np.zeros(self._size**2)))
        found = milp(
            self._objective(),
            integrality=whole,
            bounds=Bounds(0, upper),
            constraints=LinearConstraint(matrix.tocsr(), least, most),
            options={"mip_rel_gap": 1e-9},
        )
        return float(found.fun) if found.success else None

    def _was(self) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """(N,) heads before; without a placement before all come from device 0, moves being free."""
        asked = self._asked
        if asked.before is None:
            return np.array([asked.model.heads] + [0] * (self._size - 1))
        return np.bincount(asked.before[0, :-2], minlength=self._size)

    def _objective(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        asked, spent, size = self._asked, self._asked.spent, self._size
        cost = np.zeros(self._count)
        cost[0] = 1.0
        cost[self._proj : self._proj + size] = spent.proj
        cost[self._ffn : self._ffn + size] = spent.ffn + spent.home
        cost[self._both :] = spent.onward.ravel()
        if asked.before is not None:
            proj, ffn = asked.before[0, -2:]
            cost[self._flow : self._used] = spent.move_head.ravel() / asked.horizon
            cost[self._proj : self._proj + size] += spent.move_proj[proj] / asked.horizon
            cost[self._ffn : self._ffn + size] += spent.move_ffn[ffn] / asked.horizon
        return cost

    def _add(self, row: dict[int, float], least: float, most: float) -> None:
        self._rows.append((row, least, most))

    def _place(self) -> None:
        size = self._size
        for n, was in enumerate(self._was().tolist()):
            self._add({self._flow + n * size + k: 1.0 for k in range(size)}, was, was)
        for first in (self._proj, self._ffn):
            self._add({first + n: 1.0 for n in range(size)}, 1, 1)
        for p in range(size):
            for q in range(size):
                self._add({self._both + p * size + q: 1.0, self._proj + p: -1.0, self._ffn + q: -1.0}, -1, np.inf)

    def _heads(self, device: int, factor: float) -> dict[int, float]:
        return {self._flow + n * self._size + device: factor for n in range(self._size)}

    def _room(self) -> None:
        asked = self._asked
        for n in range(self._size):
            self._add({**self._heads(n, 1.0), self._used + n: -float(asked.model.heads)}, -np.inf, 0)
            limits = (asked.memory, asked.need.resident_bytes), (asked.work, asked.need.flops)
            for have, (head, proj, ffn, _) in limits:
                if np.isfinite(have[n]):
                    row = {
                        **self._heads(n, head / have[n]),
                        self._proj + n: proj / have[n],
                        self._ffn + n: ffn / have[n],
                    }
                    self._add(row, -np.inf, 1 + 1e-9)

    def _bottleneck(self) -> None:
        spent, heads = self._asked.spent, self._asked.model.heads
        enter = spent.enter[self._asked.source]
        big = float((enter + spent.delay.max() + heads * (spent.head + spent.gather.max())).max())
        for n in range(self._size):
            for p in range(self._size):
                row = self._heads(n, float(spent.head[n] + spent.gather[n, p]))
                row |= {self._used + n: float(enter[n] + spent.delay[n, p]), self._proj + p: big, 0: -1.0}
                self._add(row, -np.inf, big)
