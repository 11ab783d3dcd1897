"""Whole layers on devices: EdgeShard's latency programme (arXiv 2405.14371).

State (layer, device): the least delay, and what its way has taken of each device. With one label a state it is the
published rule, which misses optima when memory is short; with more labels it comes closer to the optimum.
"""

from dataclasses import dataclass

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, Infeasible, Ints, Plan
from controller.heads.task import SLACK, Task


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """L layers in a chain over N devices; infinite where one cannot be. Any unit of time, any unit of room."""

    enter: Floats  # (N,)
    run: Floats  # (L, N)
    hop: Floats  # (L + 1, N, N) before layer l; the first and last are not used
    home: Floats  # (N,)
    need: Floats  # (L, N) room a layer takes
    free: Floats  # (N,)


def cheapest(stages: Stages, labels: int) -> Ints | None:
    """(L,) the devices of the best way found, None when none was."""
    layers, size = stages.run.shape
    everyone = np.arange(size)
    cost = np.full((size, labels), np.inf)  # of each label of each device
    cost[:, 0] = np.where(stages.need[0] <= stages.free, stages.enter + stages.run[0], np.inf)
    used = np.zeros((size, labels, size))  # of each device
    used[everyone, 0, everyone] = stages.need[0]
    came = list[tuple[Ints, Ints]]()
    for layer in range(1, layers):
        ways = cost[:, :, None] + stages.hop[layer][:, None, :] + stages.run[layer]  # (from, label, to)
        ways = np.where(used + stages.need[layer] <= stages.free, ways, np.inf).reshape(-1, size)
        keep = np.argsort(ways, axis=0, kind="stable")[:labels].T  # (to, label)
        device, label = np.divmod(keep, labels)
        cost = np.take_along_axis(ways.T, keep, axis=1)
        used = used[device, label]
        used[everyone, :, everyone] += stages.need[layer][:, None]
        came.append((device, label))
    total = cost + stages.home[:, None]
    at, label_at = divmod(int(total.argmin()), labels)
    if not np.isfinite(total[at, label_at]):
        return None
    row = [at]
    for device, label in reversed(came):
        at, label_at = int(device[at, label_at]), int(label[at, label_at])
        row.append(at)
    return np.array(row[::-1], dtype=np.intp)


def pipeline(asked: Task, labels: int = 1) -> Plan | Infeasible:
    spent, heads, layers = asked.spent, asked.model.heads, asked.model.layers
    whole = heads * spent.head + spent.proj + spent.ffn + spent.columns * spent.column
    room = layer_room(asked)
    stages = Stages(
        enter=spent.enter[asked.source],
        run=np.tile(np.where((room > 0) & (whole < UNREACHABLE_S), whole, np.inf), (layers, 1)),
        hop=np.broadcast_to(spent.enter, (layers + 1, *spent.enter.shape)),
        home=spent.home,
        need=np.ones((layers, asked.devices)),
        free=room,
    )
    row = cheapest(stages, labels)
    if row is None:
        return Infeasible("whole layers do not fit, or not by this rule")
    return np.repeat(row[:, None], asked.model.blocks, axis=1)


def layer_room(asked: Task) -> Floats:
    """(N,) how many whole layers fit."""
    room = np.full(asked.devices, float(asked.model.layers))
    for left, each in ((asked.memory, asked.need.resident_bytes), (asked.work, asked.need.flops)):
        whole = each.layer(asked.model)
        if whole > 0:
            room = np.minimum(room, np.floor(left * SLACK / whole))
    return room
