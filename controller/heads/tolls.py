"""The least that many layers can cost: each as if it were alone, so that only where a layer's input is couples them.

What is left is a chain over the layers, solved exactly. Of the moves those of projection and end are counted in full,
those of heads and columns by what no bottleneck can do without (`phase.least_sums`).
"""

import numpy as np

from controller.heads.costs import counts
from controller.heads.model import Floats, Ints
from controller.heads.phase import Alike, least_ends, least_ffn_s, least_sums
from controller.heads.sweep import Layer, rooms
from controller.heads.task import Task


def tolls_of(asked: Task) -> Floats:
    """(layers + 1, N) the least from before a layer to the end, by where its input is."""
    layers = asked.model.layers
    befores: list[Ints | None] = [None] * layers if asked.before is None else list(asked.before)
    alike = [b"" if before is None else before.tobytes() for before in befores]
    steps = {key: _step(asked, before) for key, before in zip(alike, befores, strict=True)}
    tolls = np.empty((layers + 1, asked.devices))
    tolls[-1] = asked.spent.home
    for layer in range(layers - 1, -1, -1):
        tolls[layer] = (steps[alike[layer]] + tolls[layer + 1]).min(axis=1)
    return tolls


def _step(asked: Task, before: Ints | None) -> Floats:
    """(N, N) the least from the input of a layer to its end."""
    spent, model, size = asked.spent, asked.model, asked.devices
    alone = Layer(asked, 0, asked.memory, asked.work, np.zeros(size), None)
    parts = (before[: model.heads], before[model.heads : -2]) if before is not None else ()
    on: list[Ints | None] = [counts(part, size) for part in parts]
    on = on or [None, None]
    heads = Alike(model.heads, on[0], spent.move_head / asked.horizon)
    columns = Alike(model.columns, on[1], spent.move_column / asked.horizon)
    room, column_room = (np.maximum(rooms(alone, block)[0], 0) for block in ("head", "column"))
    moves = np.zeros((size, size))
    if before is not None:
        moves = (spent.move_proj[before[-2]][:, None] + spent.move_ffn[before[-1]]) / asked.horizon
    step = np.full((size, size), np.inf)
    for p in range(size):
        first = _least(heads, spent.enter + spent.delay[:, p], spent.head + spent.gather[:, p], room)
        rest = spent.onward[p] + spent.ffn
        if model.columns:
            rest = least_ffn_s(columns, spent.onward, spent.column, column_room, p)
        step = np.minimum(step, first[:, None] + spent.proj[p] + rest + moves[p])
    return step


def _least(alike: Alike, fixed: Floats, each: Floats, room: Ints) -> Floats:
    """For each of `fixed` (M, N)."""
    return least_sums(alike, fixed, each, room, least_ends(fixed, each, room, alike.count))
