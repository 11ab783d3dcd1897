"""One layer, exactly: heads are alike, so a placement is a vector of counts, and its first phase a bottleneck.

For a projection on p and a FFN on q, n heads on device j end after fixed[p, j] + n * each[p, j], which rises with
n. Without moves the least bottleneck of h heads is therefore the h-th smallest of all such ends that room allows.
With moves the bottleneck and the cost of moving are weighed in `transport`. Pairs (p, q) are taken in order of a
bound, the end of the first phase without the room that q takes and without moves; the first bound that is not below
the best ends it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, Ints
from controller.heads.task import SLACK, Task
from controller.heads.transport import Transport

BATCH = 8  # projections looked at together


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer to be placed, everything else being fixed."""

    asked: Task
    source: int  # where its input is
    memory: Floats  # (N,) bytes left for it
    work: Floats  # (N,) FLOP left for it
    onward: Floats  # (N,) what follows when its FFN is there
    before: Ints | None  # (heads + 2,) where it is now


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    cost_s: float
    proj: int
    ffn: int
    moved: Ints  # (pairs, 3): from, to, heads; without a placement before, from is to

    def row(self, before: Ints | None) -> Ints:
        """(heads + 2,) the placement of the layer; of the heads on one device, those that stay are the first."""
        _, to, number = self.moved.T
        if before is None:
            return np.concatenate((np.repeat(to, number), (self.proj, self.ffn)))
        row = np.concatenate((before[:-2], (self.proj, self.ffn)))
        stays_first = sorted(self.moved.tolist(), key=lambda pair: (pair[0], pair[0] != pair[1], pair[1]))
        at = np.argsort(before[:-2], kind="stable")
        row[at] = np.repeat([to for _, to, _ in stays_first], [number for *_, number in stays_first])
        return row


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A place for projection and FFN."""

    proj: int
    ffn: int
    fixed: Floats  # (N,) n heads on a device end after fixed + n * each
    each: Floats  # (N,)
    tail_s: float  # everything behind the first phase, the moves of projection and FFN with it
    bound_s: float  # no placement of the heads costs less


def place_layer(layer: Layer, best_s: float = float("inf")) -> Found | None:
    """The best placement of the layer below `best_s`, None when there is none."""
    asked, spent = layer.asked, layer.asked.spent
    tail = spent.proj[:, None] + spent.onward + spent.ffn + layer.onward + _moves(layer)
    tail = np.where(_both_fit(layer), tail, np.inf)
    floor = least_ends(spent.enter[layer.source][None], spent.head[None], room_for_heads(layer), asked.model.heads)[0]
    order = np.argsort(tail.min(axis=1), kind="stable")
    found: Found | None = None
    for start in range(0, len(order), BATCH):
        at = order[start : start + BATCH]
        at = at[floor + tail[at].min(axis=1) < best_s]
        if not len(at):
            break
        for pair in _pairs(layer, at, tail):
            if pair.bound_s >= best_s:
                break
            trial = _settle(layer, pair, best_s)
            if trial is not None and trial.cost_s < best_s:
                best_s, found = trial.cost_s, trial
    return found


def _pairs(layer: Layer, at: Ints, tail: Floats) -> Iterator[_Pair]:
    """Those with a projection in `at`, in order of their bounds."""
    spent, heads = layer.asked.spent, layer.asked.model.heads
    fixed = spent.enter[layer.source] + spent.delay.T[at]
    each = spent.head + spent.gather.T[at]
    room = np.repeat(room_for_heads(layer)[None], len(at), axis=0)
    room[np.arange(len(at)), at] = room_for_heads(layer, proj=True)[at]
    bounds = least_ends(fixed, each, room, heads)[:, None] + tail[at]
    for pair in np.argsort(bounds, axis=None, kind="stable"):
        row, q = divmod(int(pair), bounds.shape[1])
        yield _Pair(int(at[row]), q, fixed[row], each[row], float(tail[at[row], q]), float(bounds[row, q]))


def _settle(layer: Layer, pair: _Pair, best_s: float) -> Found | None:
    """Where the heads go when projection and FFN are placed."""
    heads, room, p, q = layer.asked.model.heads, room_for_heads(layer), pair.proj, pair.ffn
    room[p] = room_for_heads(layer, proj=True, ffn=p == q)[p]
    if q != p:
        room[q] = room_for_heads(layer, ffn=True)[q]
    if layer.before is None:
        level = float(least_ends(pair.fixed[None], pair.each[None], room[None], heads)[0])
        if level + pair.tail_s >= min(best_s, UNREACHABLE_S):
            return None
        filled = _fill(pair, room, level, heads)
        to = np.flatnonzero(filled)
        return Found(level + pair.tail_s, p, q, np.stack((to, to, filled[to]), axis=1))
    move = layer.asked.spent.move_head / layer.asked.horizon
    was = np.bincount(layer.before[:-2], minlength=len(room))
    flow = Transport(was, move, pair.fixed, pair.each, room).least(best_s - pair.tail_s)
    return None if flow is None else Found(flow.cost_s + pair.tail_s, p, q, flow.moved)


def _moves(layer: Layer) -> Floats | float:
    """(P, Q) what it costs to move projection and FFN."""
    if layer.before is None:
        return 0.0
    spent, (proj, ffn) = layer.asked.spent, layer.before[-2:]
    return np.asarray((spent.move_proj[proj][:, None] + spent.move_ffn[ffn]) / layer.asked.horizon)


def room_for_heads(layer: Layer, proj: bool = False, ffn: bool = False) -> Ints:
    """(N,) how many heads fit beside the others."""
    need, heads = layer.asked.need, layer.asked.model.heads
    room = np.full(len(layer.memory), float(heads))
    for left, each in ((layer.memory, need.resident_bytes), (layer.work, need.flops)):
        taken = each[1] * proj + each[2] * ffn
        if each[0] > 0:
            room = np.minimum(room, np.floor((left * SLACK - taken) / each[0]))
        room = np.where(left * SLACK < taken, -1.0, room)
    return np.asarray(np.maximum(room, 0.0), dtype=np.intp)


def _both_fit(layer: Layer) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(P, Q): whether projection and FFN have room there, together where p = q."""
    fit = np.ones((len(layer.memory),) * 2, dtype=bool)
    for left, each in ((layer.memory, layer.asked.need.resident_bytes), (layer.work, layer.asked.need.flops)):
        fit &= (left * SLACK >= each[1])[:, None] & (left * SLACK >= each[2])
        np.fill_diagonal(fit, fit.diagonal() & (left * SLACK >= each[1] + each[2]))
    return fit


def least_ends(fixed: Floats, each: Floats, room: Ints, heads: int) -> Floats:
    """(P,) the heads-th smallest end; fixed, each, room are (P, N) or broadcast to it. Infinite without room."""
    number = np.arange(1, heads + 1)
    ends = fixed[:, :, None] + number * each[:, :, None]
    ends = np.where(number <= np.broadcast_to(room, fixed.shape)[:, :, None], ends, np.inf)
    return np.asarray(np.partition(ends.reshape(len(ends), -1), heads - 1, axis=1)[:, heads - 1])


def _fill(pair: _Pair, room: Ints, level: float, heads: int) -> Ints:
    """(N,) a count for each device that ends by `level`, the first devices filled first."""
    number = np.arange(1, heads + 1)
    ends = pair.fixed[:, None] + number * pair.each[:, None]
    most = ((ends <= level) & (number <= room[:, None])).sum(axis=1)
    below = np.minimum(np.cumsum(most), heads)
    return np.asarray(np.diff(below, prepend=0), dtype=np.intp)
