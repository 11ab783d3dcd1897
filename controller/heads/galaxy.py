"""Galaxy (arXiv 2405.17245): tensor parallel attention and MLP, sequence parallel in between, on heterogeneous devices.

Its planner: heads and MLP columns in proportion to capability, then what overflows a device's memory goes to those
with room, the most capable first. A layer's synchronisation is real: an all-gather before and a reduce-scatter
behind attention and MLP each, around a ring of the k devices, (k - 1) steps of 1/k of the activations at the pace
of its slowest link: together 4 (k-1)/k L D b bytes a device and layer, two all-reduces. The projection's rows lie
with its heads. Not here: the overlap of tiles with transfers, and its profiler; capability is the free compute.
The paper uses all devices. `devices` = 0 tries the fastest 1, 2, 4, 8, ... and takes the best, kinder than published.
A `Shares` is no Plan: projection and FFN are spread. Planned once, at the start.
"""

from dataclasses import dataclass

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, Infeasible, Ints
from controller.heads.task import SLACK, Task


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """The same in each layer; the devices are in the order of the ring."""

    heads: Ints  # (N,) of each layer
    mlp: Floats  # (N,) of the FFN's columns, sums to 1


def galaxy(asked: Task, devices: int | None = None) -> Shares | Infeasible:
    """On the fastest `devices`, all when None."""
    up = int((asked.spent.head < UNREACHABLE_S).sum())
    sizes = [devices or up] if devices != 0 else [k for k in (1, 2, 4, 8, 16, 32, 64) if k < up] + [up]
    found = [shares for k in sizes if not isinstance(shares := _shares(asked, min(k, up)), Infeasible)]
    if not found:
        return Infeasible("Galaxy's shares overflow the memory of all devices together")
    return min(found, key=lambda shares: galaxy_s(asked, shares))


def _shares(asked: Task, size: int) -> Shares | Infeasible:
    able = np.where(asked.spent.head < UNREACHABLE_S, 1.0 / asked.spent.head, 0.0)
    able[np.argsort(-able, kind="stable")[size:]] = 0.0
    layers, total = asked.model.layers, asked.model.heads
    (head, proj, ffn, _), left = asked.need.resident_bytes, asked.memory * SLACK
    unit = layers * (head + proj / total)
    most = np.where(able > 0, np.floor(left / unit), 0).astype(np.intp)
    heads = _apportion(able, most, total)
    if heads is None:
        return Infeasible("no room for the heads")
    room = np.where(able > 0, np.maximum(left - unit * heads, 0.0) / (layers * ffn), 0.0)
    mlp = _spread(able, room)
    return Infeasible("no room for the MLP") if mlp is None else Shares(heads, mlp)


def _apportion(able: Floats, most: Ints, total: int) -> Ints | None:
    """Whole numbers in proportion, the largest remainders up, none above `most`; None when that is impossible."""
    ideal = able / able.sum() * total
    number = np.asarray(np.minimum(np.floor(ideal), most), dtype=np.intp)
    while number.sum() < total:
        open_ = number < most
        if not open_.any():
            return None
        wanted = np.where(open_, ideal - number, -np.inf)
        if wanted.max() <= 0:  # all shares are met: what overflowed goes to the most capable with room
            wanted = np.where(open_, able, -np.inf)
        number[wanted.argmax()] += 1
    return number


def _spread(able: Floats, room: Floats) -> Floats | None:
    """Fractions in proportion, none above `room`; what overflows is spread over the rest in proportion again."""
    if room.sum() < 1:
        return None
    share, free = np.zeros(len(able)), able > 0
    for _ in range(len(able)):
        rest = 1.0 - share[~free].sum()
        share[free] = rest * able[free] / able[free].sum()
        over = free & (share > room)
        if not over.any():
            break
        share[over], free = room[over], free & ~over
        if not free.any():
            break
    return np.asarray(share / share.sum(), dtype=np.float64)


def galaxy_bytes(asked: Task, shares: Shares) -> Floats:
    """(N,) memory."""
    head, proj, ffn, _ = asked.need.resident_bytes
    own = shares.heads * (head + proj / asked.model.heads) + shares.mlp * ffn
    return np.asarray(asked.model.layers * own, dtype=np.float64)


def galaxy_fits(asked: Task, shares: Shares) -> bool:
    return bool((galaxy_bytes(asked, shares) <= asked.memory * SLACK).all())


def galaxy_s(asked: Task, shares: Shares) -> float:
    """The delay of one token: the scatter of the input, the layers, and the way home."""
    spent = asked.spent
    used = np.flatnonzero((shares.heads > 0) | (shares.mlp > 0))
    attention = shares.heads * (spent.head + spent.proj / asked.model.heads)
    layer = float(attention[used].max() + (shares.mlp * spent.ffn)[used].max()) + 4 * _ring_s(asked, used)
    enter, home = float(spent.enter[asked.source][used].max()), float(spent.home[used].min())
    return min(enter + asked.model.layers * layer + home, UNREACHABLE_S)


def _ring_s(asked: Task, used: Ints) -> float:
    """One all-gather or reduce-scatter: k - 1 steps, each 1/k of the activations over the slowest link."""
    size = len(used)
    if size == 1:
        return 0.0
    after = np.roll(used, -1)
    wire = asked.need.proj_bytes / size / np.maximum(asked.rate[used, after], 1e-9)
    return float((size - 1) * (wire + asked.spent.delay[used, after]).max())
