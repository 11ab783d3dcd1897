"""The costs of one stream on all nodes, for the rules of rivals. Pure."""

from dataclasses import dataclass

import numpy as np

from controller.chain import Group, Room, square
from controller.cost import Load
from controller.model import Snapshot
from controller.table import Floats, Table


@dataclass(frozen=True, slots=True, eq=False)
class ChainCost:
    """Infinite where it may not be."""

    run: Floats  # (L+1, L+1, N): blocks i..j-1 on n
    hop: tuple[Floats, ...]  # L+1 of (N, N), diagonal infinite: crossing before block l
    enter: Floats  # (N,)
    leave: Floats  # (N,)


def chain_cost(table: Table, snapshot: Snapshot, stream: str, *, others: Load, weight: float, room: Room) -> ChainCost:
    """The costs of one stream given the load of the others; `weight` counts its latency against theirs."""
    return cost_of(Group(table, snapshot, [stream], np.arange(len(table.memory))[None]), others, weight, room)


def cost_of(group: Group, others: Load, weight: float, room: Room) -> ChainCost:
    """The same for the one stream of a group, which can be asked again and again."""
    costs = group.costs([0], [others], [weight], [room])
    return ChainCost(
        square(costs.run[0], group.blocks),
        tuple(costs.hop[0, kind] for kind in costs.kind),
        costs.enter[0],
        costs.leave[0],
    )
