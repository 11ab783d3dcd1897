"""Who stands by whom, where keys and values are kept twice (`kv: replica`). Pure.

For each node that keeps something of sessions one other: the first of the candidates that is up, is not that node and
may have the data. Those who serve nothing of the model come first, so that one loss takes one of the two copies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.model import Slice
from nodes.phone.generation import heads_of
from testbed.plan import Plan


@dataclass(frozen=True, slots=True)
class Kept:
    """Blocks first..last-1 of a model at a node, of each these heads ((): all)."""

    node: str
    model: str
    first: int
    last: int
    heads: tuple[int, ...] = ()


def candidates(plan: Plan) -> tuple[str, ...]:
    """Those that the experiment names, or else all hosts but phones, those with the most memory first."""
    servers = [host for host in plan.hosts if host.kind != "phone"]
    return plan.standby or tuple(
        host.name for host in sorted(servers, key=lambda host: (-host.memory_bytes, host.name))
    )


def kept_along(way: Sequence[Slice], grows: Callable[[str, int, int], bool]) -> list[Kept]:
    """What is kept of sessions at the stops of a route; `grows`: whether blocks of a model keep anything of tokens."""
    found = []
    for stop in way:
        for node, part in stop.parts or ((stop.node, ""),):
            heads = heads_of(part)
            if grows(stop.model, stop.first, stop.last) and (heads or not part):
                found.append(Kept(node, stop.model, stop.first, stop.last, heads))
    return found


def standbys(
    routes: Mapping[str, Sequence[Slice]],
    order: Sequence[str],
    grows: Callable[[str, int, int], bool],
    may: Callable[[str, Kept], bool],
) -> dict[Kept, str]:
    """Of what is kept along the routes: who stands by. `may`: whether a node is up and may have it."""
    kept = {one for way in routes.values() for one in kept_along(way, grows)}
    serving = {(one.node, one.model) for one in kept}
    found = {}
    for one in kept:
        able = [node for node in order if node != one.node and may(node, one)]
        able.sort(key=lambda node: (node, one.model) in serving)  # else as they come
        if able:
            found[one] = able[0]
    return found


def followed(standing: Mapping[Kept, str]) -> list[tuple[Kept, str]]:
    """Who keeps up with what: neighbouring blocks of which a node has the same heads are asked for together."""
    found: list[tuple[Kept, str]] = []
    for one, name in sorted(
        standing.items(), key=lambda pair: (pair[1], pair[0].node, pair[0].model, pair[0].heads, pair[0].first)
    ):
        last, at = found[-1] if found else (one, "")
        if at == name and last == replace(one, first=last.first, last=last.last) and last.last == one.first:
            found[-1] = replace(last, last=one.last), name
        else:
            found.append((one, name))
    return found
