"""Whether all blocks fit at all: exact, by a programme over devices.

There are three sizes of block only. After some devices the state is (FFNs placed, projections placed); its value is
the most heads that fit beside them. O(N l^4) for l layers. A FFN in columns is packed as if it were whole, which is
no proof when that does not fit.
"""

import numpy as np

from controller.heads.model import Infeasible, Ints, Plan
from controller.heads.task import SLACK, Task


def pack(asked: Task) -> Plan | Infeasible:
    """Some plan that fits, whole layers together as far as they go; or the proof that there is none."""
    layers = asked.model.layers
    room = [_room(asked, n) for n in range(asked.devices)]  # each (l+1, l+1): heads beside a FFNs and b projections
    most = np.full((layers + 1, layers + 1), -1)
    most[0, 0] = 0
    steps = [most]
    for beside in room:
        steps.append(_add(steps[-1], beside))
    if steps[-1][layers, layers] < layers * asked.model.heads:
        return Infeasible(
            "no placement of all blocks fits into memory and load limit of the devices", proven=not asked.model.columns
        )
    plan, heads = _trace(asked, steps, room), asked.model.heads
    return np.insert(plan, [heads] * asked.model.columns, plan[:, -1:], axis=1)


def _room(asked: Task, n: int) -> Ints:
    number = np.arange(asked.model.layers + 1)
    heads = np.full((len(number),) * 2, float(asked.model.layers * asked.model.heads))
    for left, each in ((asked.memory[n], asked.need.resident_bytes), (asked.work[n], asked.need.flops)):
        ffn = each.end + asked.model.columns * each.column
        rest = left * SLACK - ffn * number[:, None] - each.proj * number
        if each.head > 0:
            heads = np.minimum(heads, np.floor(rest / each.head))
        heads = np.where(rest < 0, -1, heads)
    return np.asarray(np.maximum(heads, -1), dtype=np.intp)


def _add(most: Ints, beside: Ints) -> Ints:
    size, after = len(most), np.full(most.shape, -1)
    for a, b in np.argwhere(beside >= 0).tolist():
        before = most[: size - a, : size - b]
        better = np.where(before >= 0, before + beside[a, b], -1)
        after[a:, b:] = np.maximum(after[a:, b:], better)
    return after


def _trace(asked: Task, steps: list[Ints], room: list[Ints]) -> Plan:
    layers, heads = asked.model.layers, asked.model.heads
    a = b = layers
    ffns, projs, many = list[int](), list[int](), list[int]()
    for n in range(asked.devices - 1, -1, -1):
        before, beside = steps[n], room[n]
        c, d = next(
            (c, d)
            for c, d in np.argwhere(beside >= 0).tolist()
            if c <= a
            and d <= b
            and before[a - c, b - d] >= 0
            and before[a - c, b - d] + beside[c, d] == steps[n + 1][a, b]
        )
        ffns, projs, many = ffns + [n] * c, projs + [n] * d, many + [n] * int(beside[c, d])
        a, b = a - c, b - d
    plan = np.empty((layers, heads + 2), dtype=np.intp)
    plan[:, -1], plan[:, -2] = ffns, projs
    plan[:, :-2] = np.array(many[: layers * heads]).reshape(layers, heads)
    return plan
