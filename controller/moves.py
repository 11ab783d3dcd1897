"""From one placement to the next: what to load, where requests go, what to let go, and in which order.

A slice is one contiguous run of a stream's blocks on one node, exactly what a request executes there; streams
of the same model whose runs are equal share it. Nothing is released that the new placement uses.

The life of a move is `TRANSITIONS`, and nothing else: before `commit` a failure leads to `abort` and the old
epoch serves on; from `commit` on there is no way back, only forward.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controller import parts
from controller.cost import Rows, Table, resident, runs
from controller.model import Action, Problem, Slice, Snapshot

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
    model = next(s.model for s in problem.streams if s.name == stream)
    if parts.in_parts(problem.models[model]):
        return parts.way(problem.models[model], nodes)
    positions = {name: n for n, name in enumerate(dict.fromkeys(nodes))}
    return tuple(
        Slice(nodes[first], model, first, last) for first, last, _ in runs(tuple(positions[name] for name in nodes))
    )


def routes(problem: Problem, nodes: Nodes) -> dict[str, tuple[Slice, ...]]:
    return {stream: route(problem, stream, row) for stream, row in nodes.items()}


def slices(problem: Problem, nodes: Nodes) -> tuple[Slice, ...]:
    """Every slice of a placement once, in a fixed order."""
    pieces = {piece for way in routes(problem, nodes).values() for stop in way for piece in parts.pieces(stop)}
    return tuple(sorted(pieces, key=lambda p: (p.node, p.model, p.first, p.last, p.part)))


def plan_move(problem: Problem, old: Nodes, new: Nodes, snapshot: Snapshot) -> Move:
    """All steps from `old` (empty at the start) to `new`."""
    before, after = slices(problem, old), slices(problem, new)
    loads = tuple(Load(piece, source_of(problem, before, piece, snapshot)) for piece in after if piece not in before)
    return Move(loads, routes(problem, new), tuple(piece for piece in before if piece not in after))


def source_of(problem: Problem, loaded: tuple[Slice, ...], piece: Slice, snapshot: Snapshot) -> str | None:
    """The node to copy a slice's weights from: up, holding most of it, then the fastest path; None when prestaged.

    Also None when no other node that is up holds any of it, or the node holds all of it itself.
    """
    if problem.weights == "prestaged":
        return None
    index = {host.name: n for n, host in enumerate(problem.hosts)}
    wanted = set(range(piece.first, piece.last))
    held: dict[str, set[int]] = {}
    for other in loaded:
        if other.model == piece.model and (not other.part or other.part == piece.part):
            held.setdefault(other.node, set()).update(wanted & set(range(other.first, other.last)))
    if held.get(piece.node) == wanted:
        return None
    target = index[piece.node]
    best: tuple[int, int, int] | None = None
    for node, blocks in held.items():
        n = index[node]
        rate = int(snapshot.rate_bps[n, target])
        if node != piece.node and blocks and snapshot.nodes[n].up and rate > 0:
            best = max(best or (0, 0, 0), (len(blocks), rate, -n))
    return problem.hosts[-best[2]].name if best else None


def action_of(old: Rows, new: Rows) -> Action:
    """REMAP when every stream keeps its cuts and only nodes change, else RESPLIT."""

    def cuts(rows: Rows) -> dict[str, list[int]]:
        return {stream: [last for _, last, _ in runs(row)] for stream, row in rows.items()}

    return "REMAP" if cuts(old) == cuts(new) else "RESPLIT"


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
        blocks = parts.blocks_of(problem.models[piece.model], piece)
        missing = table.chains[piece.model].weight[blocks] * ~held[piece.model][blocks, target]
        size = int(missing.sum())
        source = table.index[load.source]
        time = size * 8e6 / int(snapshot.rate_bps[source, target]) + int(snapshot.delay_us[source, target])
        total, busy[target] = total + size, busy.get(target, 0.0) + time
    return total, round(max(busy.values(), default=0.0))
