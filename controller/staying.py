"""What streams that stay do to one more at each node, at the least: linear in the time that it takes there. Pure.

A visit of time t to a node that has utilisation rho waits as long as there is waiting already, and for each bit of
utilisation that it adds it and all others there wait longer. Waits grow the faster the fuller a node is, so that

    wait(rho + t / period, square + t^2 / period) >= wait(rho, square) + slope * t / period

with the slope at rho, or that of an overfull node where this is less. Where a backlog hides the waiting, waits need
not grow at all.
"""

from dataclasses import dataclass

import numpy as np

from controller.cost import FULL, HORIZON_US, NOBODY, Load, wait_us
from controller.table import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Staying:
    """At N nodes; costs of a stream are told as multiples of its own weight."""

    rho: Floats  # (N,)
    square: Floats  # (N,) rate * time^2
    uses: Floats  # (N,) visits of those that stay, by weight
    backlog_us: Floats  # (N,)

    @classmethod
    def of(cls, stay: Load, backlog_us: Floats) -> "Staying":
        parts = np.zeros((len(NOBODY), len(backlog_us)))
        if stay.nodes:
            parts[:, list(stay.nodes)] = np.array(list(stay.nodes.values())).T
        rho, square, uses = parts
        return cls(rho, square, uses, backlog_us)

    @property
    def wait_us(self) -> Floats:
        """(N,) of each visit."""
        return np.maximum(self.backlog_us, wait_us(self.rho, self.square))

    def dearer(self, period_us: Floats, weight: Floats) -> Floats:
        """(B, N) how much a microsecond of work costs, 1 where nobody is; streams have (B, 1) periods and weights."""
        steep = HORIZON_US / 2.0
        below = self.square / (2.0 * np.square(1.0 - np.minimum(self.rho, FULL)))
        slope = np.where(self.rho < FULL, np.minimum(below, steep), steep)
        seen = wait_us(self.rho, self.square) >= self.backlog_us
        everyone = 1.0 + self.uses / np.where(weight > 0, weight, np.inf)
        return np.asarray(1.0 + np.where(seen, slope, 0.0) * everyone / period_us)

    def whole_us(self, time: Floats, period_us: Floats, weight: Floats) -> Floats:
        """(B, N) what visits of these times wait, and make the others wait longer."""
        after = np.maximum(self.backlog_us, wait_us(self.rho + time / period_us, self.square + time * time / period_us))
        return np.asarray(after + self.uses / np.where(weight > 0, weight, np.inf) * (after - self.wait_us))
