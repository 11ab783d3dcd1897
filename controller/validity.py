"""Whether what a policy says can be done: the first thing that speaks against a decision, by name. Pure.

A move must place every block of every stream once; on nodes that exist, are up, and that privacy, pins and vetoes
allow; and all must fit into memory beside what is loaded until the move is over. A stream whose place does not change
may stay on a node that is down, or where privacy no longer lets it be (then the coordinator does not serve it): nothing
else may be open to it.
"""

from collections.abc import Mapping

from controller.memory import overfull
from controller.model import Decision, Model, Placement, Snapshot
from controller.table import Row, Rows, Table

MOVES = ("REMAP", "RESPLIT")
STAYS = ("KEEP", "INFEASIBLE")


def objection(table: Table, snapshot: Snapshot, current: Placement, decision: object) -> str:
    """Why the decision is refused, empty when it is not. `current` of epoch 0: it is the first placement."""
    if not isinstance(decision, Decision):
        return f"it answered {type(decision).__name__}; a Decision is right"
    if decision.action not in (*STAYS, *MOVES):
        return f"no action {decision.action!r}; right are {', '.join((*STAYS, *MOVES))}"
    for candidate in decision.candidates:
        if wrong := _named(table, candidate.nodes, current.nodes):
            return f"its candidate {candidate.name}: {wrong}"
    if decision.action in STAYS:
        return _staying(current, decision)
    placement = decision.placement
    if placement.epoch <= current.epoch:
        return f"its epoch is {placement.epoch}; a move from epoch {current.epoch} has a higher one"
    nodes = placement.nodes
    return _missing(table, nodes) or _named(table, nodes, current.nodes) or _place(table, snapshot, current, nodes)


def forbidden_streams(table: Table, nodes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The streams that have a block on a node where privacy, pins or vetoes forbid it."""
    return tuple(stream for stream, names in sorted(nodes.items()) if not table.permits(stream, table.row(names)))


def _staying(current: Placement, decision: Decision) -> str:
    if not current.epoch and decision.action == "KEEP":
        return "there is nothing to keep yet"
    if current.epoch and decision.placement != current:
        return f"it says {decision.action} and carries another placement"
    return ""


def _named(table: Table, nodes: Mapping[str, tuple[str, ...]], known: Mapping[str, tuple[str, ...]]) -> str:
    """Streams, blocks and nodes that there are, where it is not as `known`."""
    for stream, row in nodes.items():
        there = known.get(stream)
        if row is there or row == there:  # mostly the very same, which == would go through
            continue
        if stream not in table.streams:
            return f"there is no stream {stream!r}"
        blocks = len(table.chain(stream).weight)
        if len(row) != blocks:
            return f"stream {stream} has {len(row)} nodes for {blocks} blocks"
        if not table.index.keys() >= set(row):
            return f"stream {stream}: there is no node {next(name for name in row if name not in table.index)!r}"
    return ""


def _missing(table: Table, nodes: Mapping[str, tuple[str, ...]]) -> str:
    return next((f"stream {stream} is placed nowhere" for stream in table.streams if stream not in nodes), "")


def _place(table: Table, snapshot: Snapshot, current: Placement, nodes: Mapping[str, tuple[str, ...]]) -> str:
    changed = dict[str, Row]()
    for stream, names in nodes.items():
        there = current.nodes.get(stream)
        if names is there or names == there:
            continue
        changed[stream] = row = table.row(names)
        down = {n for n in set(row) if not snapshot.nodes[n].up}
        if down or not table.permits(stream, row):
            return _refused(table, stream, names, down)
    return _memory(table, changed, {stream: table.row(names) for stream, names in current.nodes.items()})


def _refused(table: Table, stream: str, names: tuple[str, ...], down: set[int]) -> str:
    """What speaks first against a row, some node of which is `down` or forbidden."""
    allowed, model = table.chain(stream).allowed, table.problem.models[table.streams[stream].model]
    for block, name in enumerate(names):
        if not allowed[block, table.index[name]]:
            return f"{stream}/{model.blocks[block].name} on {name}: {_forbidden(table, stream, block, name, model)}"
        if table.index[name] in down:
            break
    return f"stream {stream} moves to {name}, which is down"


def _forbidden(table: Table, stream: str, block: int, name: str, model: Model) -> str:
    problem = table.problem
    if name in problem.vetoes:
        return "the experiment's veto forbids the node"
    pinned = problem.pins.get((stream, block), name)
    if pinned != name:
        return f"the experiment pins it to {pinned}"
    zone = problem.hosts[table.index[name]].zone
    before = model.blocks[block - 1].output_class if block else model.input_class
    kinds = [k for k in (before, model.blocks[block].output_class) if zone not in problem.zones.get(k, {zone})]
    return f"its {kinds[0]} data may not enter zone {zone}"


def _memory(table: Table, changed: Rows, loaded: Rows) -> str:
    need = overfull(table, changed, loaded)
    for n in sorted(need):
        host = table.problem.hosts[n]
        return f"{host.name} needs {round(need[n])} bytes with what is loaded, and has {host.memory_bytes}"
    return ""
