"""Many layers from known patterns: for each layer one of them, so that all fit and the whole costs least.

A pattern says how many heads and columns are on each device, and where projection and end are; which head goes where
follows from the cheapest moves. Layer after layer the ways so far are kept by what they cost and will at least cost,
`WAYS` of them; of those that end at the same place and have taken the same only the cheapest. The answer is the
optimum over the patterns when no way was dropped for being one too many, and the optimum when they are all there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, islice, product

import numpy as np

from controller.heads.costs import counts, ffn_phase_s, head_phase_s
from controller.heads.model import UNREACHABLE_S, Floats, Ints, Plan
from controller.heads.sweep import moved
from controller.heads.task import SLACK, Task
from controller.heads.transport import Flow, Transport

Flows = dict[tuple[int, bytes, bytes], Flow | None]  # kind of block, from counts, to counts
WAYS, ALL = 600, 120  # ways kept; patterns of a layer up to which all are tried
FEW = 16  # sets of devices, and pairs of places, up to which all are tried
WORK = 20_000  # ways times patterns, at most


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """M of them, each different."""

    on: Ints  # (M, 4, N) heads, projection, end, columns
    complete: bool = False  # there are no others

    @property
    def proj(self) -> Ints:
        return np.asarray(self.on[:, 1].argmax(axis=1))

    @property
    def end(self) -> Ints:
        return np.asarray(self.on[:, 2].argmax(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    plan: Plan | None  # None: none was found below the limit
    proven: bool  # of all plans from the patterns none is better, or below the limit


def tally(asked: Task, row: Ints) -> Ints:
    """(4, N) the pattern of a layer."""
    model, size = asked.model, asked.devices
    kind = np.repeat((0, 3, 1, 2), (model.heads, model.columns, 1, 1))
    return np.bincount(kind * size + row, minlength=4 * size).reshape(4, size)


def all_patterns(asked: Task) -> Patterns:
    """All that a layer can have: few for few devices and heads only."""
    size, model = asked.devices, asked.model
    heads, columns = _spreads(size, model.heads, None), _spreads(size, model.columns, None)
    one = np.eye(size, dtype=np.intp)
    every = [np.stack(parts) for parts in product(heads, one, one, columns)]
    return Patterns(_ending(np.stack(every)), complete=True)


def patterns_of(asked: Task, seen: Iterable[Ints], wide: bool = True) -> Patterns:
    """All that there are, where they are few; else those of the layers seen and, when `wide`, many more."""
    size, model = asked.devices, asked.model
    many = [len(_spreads(size, count, ALL)) for count in (model.heads, model.columns)]
    if many[0] * many[1] * size * size <= ALL:
        return all_patterns(asked)
    one = np.eye(size, dtype=np.intp)
    found = list(seen)
    if wide:
        tails = {(int(on[1].argmax()), int(on[2].argmax())) for on in found} | {(n, n) for n in range(size)}
        tails |= set(product(range(size), range(size))) if size * size <= FEW else set()
        heads, columns = _filled(asked, found)
        found += [np.stack((on, one[p], one[q], columns[k])) for p, q in sorted(tails) for k, on in enumerate(heads)]
    return Patterns(_ending(np.unique(np.stack(found), axis=0)))


def _ending(on: Ints) -> Ints:
    """Those that end where the columns are or, where they are on several devices, at the projection."""
    columns = on[:, 3]
    whole = columns.max(axis=1) == columns.sum(axis=1)
    right = np.where(whole, (columns * on[:, 2]).any(axis=1), (on[:, 1] == on[:, 2]).all(axis=1))
    return np.asarray(on[right | ~columns.any(axis=1)])


def _filled(asked: Task, seen: list[Ints]) -> tuple[list[Ints], list[Ints]]:
    """Heads and columns over sets of devices, as evenly as their speed has it; and as they are, or were seen."""
    size, model, spent = asked.devices, asked.model, asked.spent
    before = [] if asked.before is None else [tally(asked, row) for row in asked.before]
    pairs = {(on[0].tobytes(), on[3].tobytes()): (on[0], on[3]) for on in (*before, *seen)}
    sets = [kept for many in range(1, size + 1) for kept in combinations(range(size), many)]
    for kept in sets if len(sets) <= FEW else [kept for kept in sets if len(kept) in (1, size - 1, size)]:
        in_set = np.isin(np.arange(size), kept)
        on = [
            _evenly(np.where(in_set, each, np.inf), count)
            for each, count in ((spent.head, model.heads), (spent.column, model.columns))
        ]
        pairs[on[0].tobytes(), on[1].tobytes()] = on[0], on[1]
    return [heads for heads, _ in pairs.values()], [columns for _, columns in pairs.values()]


def _evenly(each: Floats, count: int) -> Ints:
    """(N,) so that the last ends early, wherever input and output are."""
    ends = each[:, None] * np.arange(1, count + 1)
    device = np.argsort(ends, axis=None, kind="stable")[:count] // max(count, 1)
    return np.bincount(device, minlength=len(each))


def _spreads(size: int, count: int, most: int | None) -> list[Ints]:
    """Every way to put so many on the devices, or one more than `most`."""
    ways = islice(combinations(range(count + size - 1), size - 1), None if most is None else most + 1)
    return [np.diff((-1, *bars, count + size - 1)).astype(np.intp) - 1 for bars in ways]


def mixed(asked: Task, patterns: Patterns, tolls: Floats, below_s: float, ways: int | None = None) -> Mixed:
    """The best plan below `below_s`; `ways` kept, else as many as take little time."""
    steps, known = _steps(asked, patterns), Flows()
    befores: list[Ints | None] = [None] * asked.model.layers if asked.before is None else list(asked.before)
    alike = [b"" if before is None else before.tobytes() for before in befores]
    each = {key: _rows(asked, patterns, before, known) for key, before in zip(alike, befores, strict=True)}
    rows = [each[key] for key in alike]
    sizes = np.array([asked.need.resident_bytes, asked.need.flops])  # (2, 4)
    need = np.einsum("rk,mkn->mrn", sizes, patterns.on).reshape(len(patterns.on), -1)
    have = np.concatenate((asked.memory, asked.work)) * SLACK
    bounded = np.isfinite(have)
    need, have = need[:, bounded], have[bounded]
    cost, at, used = np.zeros(1), np.array([asked.source]), np.zeros((1, len(have)))
    came, dropped, most = list[tuple[Ints, Ints]](), False, ways or min(WAYS, max(1, WORK // len(patterns.on)))
    for number in range(asked.model.layers):
        total = cost[:, None] + steps[at] + rows[number][1]
        taken = used[:, None] + need
        least = np.where((taken <= have).all(axis=2), total + tolls[number + 1][patterns.end], np.inf).ravel()
        order = np.argsort(least, kind="stable")[: int((least < below_s).sum())]
        way, choice = np.divmod(order, len(patterns.on))
        first = _first_of_each(patterns.end[choice], taken[way, choice])
        dropped = dropped or len(first) > most
        way, choice = way[first[:most]], choice[first[:most]]
        if not len(way):
            return Mixed(None, proven=not dropped)
        cost, at, used = total[way, choice], patterns.end[choice], taken[way, choice]
        came.append((way, choice))
    place, picked = int((cost + asked.spent.home[at]).argmin()), list[Ints]()
    for number in range(asked.model.layers - 1, -1, -1):
        way, choice = came[number]
        picked.append(rows[number][0][choice[place]])
        place = int(way[place])
    return Mixed(np.array(picked[::-1], dtype=np.intp), proven=not dropped)


def _first_of_each(end: Ints, taken: Floats) -> Ints:
    """Of the ways that end at one place and have taken the same, the first; in order."""
    key = np.column_stack((end, np.round(taken / np.maximum(taken.max(axis=0, initial=0.0), 1.0) * 1e9)))
    return np.sort(np.unique(key, axis=0, return_index=True)[1])


def _steps(asked: Task, patterns: Patterns) -> Floats:
    """(N, M) a layer of each pattern, by where its input is; moves left out."""
    spent, size = asked.spent, asked.devices
    shape = size, len(patterns.on)
    heads, proj = np.broadcast_to(patterns.on[:, 0], (*shape, size)), np.broadcast_to(patterns.proj, shape)
    phase = head_phase_s(spent, heads, np.arange(size)[:, None].repeat(shape[1], axis=1), proj)
    rest = spent.proj[patterns.proj] + ffn_phase_s(spent, patterns.on[:, 3], patterns.proj, patterns.end)
    return np.minimum(phase + rest, UNREACHABLE_S)


def _rows(asked: Task, patterns: Patterns, before: Ints | None, known: Flows) -> tuple[Ints, Floats]:
    """(M, blocks) the layer by each pattern, (M,) what its moves cost."""
    tails = np.stack((patterns.proj, patterns.end), axis=1)
    if before is None:
        each = [np.repeat(np.tile(np.arange(asked.devices), 2), on[[0, 3]].ravel()) for on in patterns.on]
        return np.concatenate((np.array(each), tails), axis=1), np.zeros(len(tails))
    spent = asked.spent
    parts = ((before[: asked.model.heads], 0, spent.move_head), (before[asked.model.heads : -2], 3, spent.move_column))
    cost = spent.move_proj[before[-2], tails[:, 0]] + spent.move_ffn[before[-1], tails[:, 1]]
    made = np.repeat(before[None], len(tails), axis=0)
    made[:, -2:] = tails
    for first, (was, kind, move) in zip((0, asked.model.heads), parts, strict=True):
        held = counts(was, asked.devices)
        wanted, at = np.unique(patterns.on[:, kind], axis=0, return_inverse=True)
        for one, now in enumerate(wanted):
            if (now == held).all():
                continue
            key = kind, held.tobytes(), now.tobytes()
            if key not in known:
                known[key] = _cheapest(held, now, move)
            flow = known[key]
            cost[at == one] += UNREACHABLE_S if flow is None else flow.cost_s
            if flow is not None:
                made[at == one, first : first + len(was)] = moved(was, flow.moved)
    return made, cost / asked.horizon


def _cheapest(was: Ints, now: Ints, move: Floats) -> Flow | None:
    """The moves from the counts `was` (N,) to `now`."""
    nothing = np.zeros(len(now))
    return Transport(was, move, nothing, nothing, now, 0.0).least(UNREACHABLE_S)
