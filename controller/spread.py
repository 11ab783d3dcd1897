"""Each stream whole on one node, where it is best off beside the others: a start that costs little to find. Pure."""

from dataclasses import dataclass

import numpy as np

from controller.chain import Indices
from controller.cost import wait_us
from controller.table import Floats

CHANGES = 4  # of each stream, at most


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """S streams, each of which may be whole on K nodes."""

    alone_us: Floats  # (S, K) by weight, all that a stream waits beside those that stay with it
    node: Indices  # (S, K) of R
    parts: Floats  # (3, S, K) utilisation, rate * time^2, weight
    stay: Floats  # (3, R) of those that stay
    backlog_us: Floats  # (R,)

    def added_us(self, others: Floats) -> Floats:
        """(S, K) what all wait more for it, where the others of each stream are (3, S, R)."""
        before = np.take_along_axis(others, np.broadcast_to(self.node, self.parts.shape), axis=2)
        least = self.backlog_us[self.node]
        waits = [
            weight * np.maximum(least, wait_us(rho, square)) for rho, square, weight in (before, before + self.parts)
        ]
        return np.asarray(waits[1] - waits[0])


def spread(whole: Whole) -> Indices:
    """(S,) where each is: first where it is best off alone, then the one that gains most by it moves, and so on."""
    streams = np.arange(len(whole.node))
    shape = (3, len(streams), whole.stay.shape[1])
    moving = whole.alone_us - whole.added_us(np.broadcast_to(whole.stay[:, None], shape))
    chosen = whole.alone_us.argmin(axis=1)
    for _ in range(CHANGES * len(streams)):
        own = np.zeros(shape)
        own[:, streams, whole.node[streams, chosen]] = whole.parts[:, streams, chosen]
        others = whole.stay[:, None] + own.sum(axis=1)[:, None] - own
        cost = moving + whole.added_us(others)
        gain = cost[streams, chosen] - cost.min(axis=1)
        most = int(gain.argmax())
        if not gain[most] > 1e-9 * cost[most, chosen[most]]:
            break
        chosen[most] = int(cost[most].argmin())
    return np.asarray(chosen)
