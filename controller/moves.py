"""From one placement to the next: what to load, where requests go, what to let go, and in which order.

A slice is one contiguous run of a stream's blocks on one node, exactly what a request executes there; streams
of the same model whose runs are equal share it. Nothing is released that the new placement uses.

The life of a move is `TRANSITIONS`, and nothing else: before `commit` a failure leads to `abort` and the old
epoch serves on; from `commit` on there is no way back, only forward.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from controller import parts
from controller.memory import resident
from controller.model import Action, Model, Problem, Slice, Snapshot
from controller.table import REMEMBERED, Row, Rows, Table, runs

# state -> what happened -> next state
TRANSITIONS: Mapping[str, Mapping[str, str]] = {
    "prepare": {"loaded": "commit", "failed": "abort"},
    "commit": {"written": "switch", "failed": "abort"},
    "switch": {"switched": "drain"},
    "drain": {"empty": "release", "late": "drain"},
    "release": {"released": "done"},
    "abort": {},
    "done": {},
}


class IllegalTransition(Exception):
    """A move was driven out of order: a fault of the caller."""


def advance(state: str, event: str) -> str:
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        can = ", ".join(TRANSITIONS.get(state, {})) or "nothing, it has ended"
        raise IllegalTransition(f"a move in {state!r} cannot take {event!r}; it can take: {can}") from None


@dataclass(frozen=True, slots=True)
class Load:
    """A slice to prepare, and the node to copy its weights from (None: they are prestaged)."""

    piece: Slice
    source: str | None


@dataclass(frozen=True, slots=True)
class Move:
    prepare: tuple[Load, ...]
    routes: Mapping[str, tuple[Slice, ...]]
    release: tuple[Slice, ...]


Nodes = Mapping[str, tuple[str, ...]]


def route(problem: Problem, stream: str, nodes: tuple[str, ...]) -> tuple[Slice, ...]:
    """The slices a request of this stream goes through, in order."""
    return routes(problem, {stream: nodes})[stream]


def routes(problem: Problem, nodes: Nodes) -> dict[str, tuple[Slice, ...]]:
    models = {stream.name: stream.model for stream in problem.streams}
    apart = {name for name, model in problem.models.items() if parts.in_parts(model)}
    return {
        stream: parts.way(problem.models[models[stream]], row)
        if models[stream] in apart
        else _whole(models[stream], row)
        for stream, row in nodes.items()
    }


@lru_cache(REMEMBERED)
def _whole(model: str, nodes: tuple[str, ...]) -> tuple[Slice, ...]:
    """The route of a model whose layers are whole."""
    positions = {name: n for n, name in enumerate(dict.fromkeys(nodes))}
    return tuple(
        Slice(nodes[first], model, first, last) for first, last, _ in runs(tuple(positions[name] for name in nodes))
    )


def slices(problem: Problem, nodes: Nodes) -> tuple[Slice, ...]:
    """Every slice of a placement once, in a fixed order."""
    return _ordered(_pieces(routes(problem, nodes)))


def _pieces(ways: Mapping[str, tuple[Slice, ...]]) -> set[Slice]:
    return {piece for stop in set(chain.from_iterable(ways.values())) for piece in parts.pieces(stop)}


def _ordered(pieces: Iterable[Slice]) -> tuple[Slice, ...]:
    return tuple(sorted(pieces, key=lambda p: (p.node, p.model, p.first, p.last, p.part)))


def plan_move(problem: Problem, old: Nodes, new: Nodes, snapshot: Snapshot) -> Move:
    """All steps from `old` (empty at the start) to `new`."""
    ways = routes(problem, new)
    before, after = _pieces(routes(problem, old)), _pieces(ways)
    wanted, index = _ordered(after - before), dict[str, int]()
    if wanted and problem.weights != "prestaged":
        index = {host.name: n for n, host in enumerate(problem.hosts)}
    loads = tuple(
        Load(piece, source_of(index, before, problem.models[piece.model], piece, snapshot)) for piece in wanted
    )
    return Move(loads, ways, _ordered(before - after))


def source_of(
    index: Mapping[str, int], loaded: Set[Slice], model: Model, piece: Slice, snapshot: Snapshot
) -> str | None:
    """The node to copy a slice's weights from: up, holding most of what it lacks, then the fastest path.

    None when no other node that is up holds any of it, or the node holds all of it itself. `index`: node -> position;
    empty when weights are prestaged.
    """
    if not index:
        return None
    wanted, held = set(parts.copied(model, piece)), dict[str, set[int]]()
    for other in loaded:
        if other.model == piece.model and other.first < piece.last and piece.first < other.last:
            held.setdefault(other.node, set()).update(wanted.intersection(parts.blocks_of(model, other)))
    wanted -= held.pop(piece.node, set())
    if not wanted:
        return None
    target = index[piece.node]
    best: tuple[int, int, int] | None = None
    names: dict[int, str] = {}
    for node, blocks in held.items():
        n, count = index[node], len(blocks & wanted)
        rate = int(snapshot.rate_bps[n, target])
        if count and snapshot.nodes[n].up and rate > 0:
            names[n], best = node, max(best or (0, 0, 0), (count, rate, -n))
    return names[-best[2]] if best else None


def action_of(old: Rows, new: Rows) -> Action:
    """REMAP when every stream keeps its cuts and only nodes change, else RESPLIT."""

    def cuts(row: Row | None) -> list[int]:
        return [last for _, last, _ in runs(row or ())]

    moved = [stream for stream in old.keys() | new.keys() if old.get(stream) != new.get(stream)]
    return "REMAP" if all(cuts(old.get(stream)) == cuts(new.get(stream)) for stream in moved) else "RESPLIT"


def move_cost(table: Table, old: Rows, new: Rows, snapshot: Snapshot) -> tuple[int, int]:
    """(bytes, microseconds) of the weights that travel: loads to different nodes go side by side."""
    problem = table.problem
    if problem.weights == "prestaged" or not old:
        return 0, 0
    names = {stream: table.names(row) for stream, row in old.items()}
    move = plan_move(problem, names, {stream: table.names(row) for stream, row in new.items()}, snapshot)
    held, total, busy = resident(table, old), 0, dict[int, float]()
    for load in move.prepare:
        if load.source is None:
            continue
        piece, target = load.piece, table.index[load.piece.node]
        model = problem.models[piece.model]
        missing = [b for b in parts.blocks_of(model, piece) if not held[piece.model][b, target]]
        size = sum(model.blocks[b].weight_bytes for b in missing)
        source = table.index[load.source]
        time = size * 8e6 / int(snapshot.rate_bps[source, target]) + int(snapshot.delay_us[source, target])
        total, busy[target] = total + size, busy.get(target, 0.0) + time
    return total, round(max(busy.values(), default=0.0))
