"""A whole model under a mixed placement, in one process: what the nodes of a network do together, step by step.

Rules: a node has its own parts, slices and caches and nothing else; what goes from one to another goes as raw bytes.
Between two tokens anything may be placed anew; caches go with their heads, and go on with the same bits. When a node is
lost, its caches are made anew from the history, the input and the tokens so far, in one pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from nodes.inlayer.parts import Arrived, Part, apart, pieces, split_config, together
from nodes.models.cache import Cache
from nodes.models.generate import next_token
from nodes.models.shares import MLP, MLP_NORM, MLP_SUM, NORM, PROJ, SUM, Share, needs
from nodes.models.splits import Placement, Run, Split, check_placement, stages
from nodes.runtime.slicing import Slice, SliceError, cut


@dataclass(slots=True)
class Node:
    """What one node has in memory."""

    slices: dict[tuple[int, int], Slice] = field(default_factory=dict)  # by first and last unit
    parts: dict[tuple[int, Share], Part] = field(default_factory=dict)  # by layer
    units: dict[str, Cache] = field(default_factory=dict)  # caches of whole units, by name
    heads: dict[int, dict[int, Cache]] = field(default_factory=dict)  # caches by layer, then by head


class Assembly:
    """One generation at a time."""

    def __init__(self, family: str, weights: Mapping[str, torch.Tensor], placement: Placement) -> None:
        """`weights`: those of the whole model, which lie on every node. Raises ShareError, SliceError."""
        self.family, self.config = family, split_config(family)
        self.nodes: dict[str, Node] = {}
        self._names = [unit.name for unit in self.config.units()]
        self.history = torch.empty(1, 0, dtype=torch.int64)  # all tokens that went in
        self._weights = weights
        self._settle(placement)

    def tokens(self, ids: torch.Tensor, count: int) -> Iterator[int]:
        """`count` tokens that follow `ids`, greedily; between two of them, heads may move and nodes be lost."""
        scores = self.begin(ids)
        for i in range(count):
            token = next_token(scores)
            yield token
            if i + 1 < count:
                scores = self.step(torch.tensor([[token]]))

    def begin(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 (1, T) -> scores of what follows (1, vocabulary); the caches are new."""
        for node in self.nodes.values():
            node.units = {name: cache for piece in node.slices.values() for name, cache in piece.caches().items()}
            node.heads = {}
            for (layer, _), part in node.parts.items():
                node.heads.setdefault(layer, {}).update(part.caches())
        self.history = ids
        return self._pass(ids, begins=True)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """The next tokens, int64 (1, T) -> scores of what follows them (1, vocabulary)."""
        self.history = torch.cat((self.history, ids), dim=1)
        return self._pass(ids, begins=False)

    def move(self, head: int, layer: int, node: str) -> None:
        """With its cache. Raises ShareError, SliceError for a whole layer."""
        split = self.placement[layer + 1]
        if not isinstance(split, Split):
            raise SliceError(f"layer{layer} is whole, on {split}: it has no head {head} to move")
        self.place([*self.placement[: layer + 1], split.moved(head, node), *self.placement[layer + 2 :]])

    def place(self, placement: Placement) -> None:
        """Another placement from the next token on: caches go where their heads go. Raises ShareError."""
        check_placement(self.config, placement)
        changed = [i for i, (old, new) in enumerate(zip(self.placement, placement, strict=True)) if old != new]
        taken = {i: self._taken(i) for i in changed}
        self._settle(placement)
        for i, caches in taken.items():
            self._give(i, caches)

    def lose(self, node: str, placement: Placement) -> torch.Tensor | None:
        """A node is gone with all it had; the generation goes on where `placement` says, by one pass over its history.

        Returns the scores of what follows (None: nothing was begun). Raises ShareError, SliceError.
        """
        if any(node in nodes_of(place) for place in placement):
            raise SliceError(f"{node} is lost, and has a place in the new placement")
        self.nodes.pop(node, None)
        self._settle(placement)
        return self.begin(self.history) if self.history.shape[1] else None

    def _taken(self, unit: int) -> dict[int, Cache]:
        """The caches of a unit by head, out of the nodes that have them."""
        place = self.placement[unit]
        if isinstance(place, Split):
            at = {i: self.nodes[place.node_of(i)].heads.get(unit - 1, {}) for i in range(self.config.movable)}
            return {i: held.pop(i) for i, held in at.items() if i in held}
        whole = self.nodes[place].units.pop(self._names[unit], None)
        return apart(whole) if whole else {}

    def _give(self, unit: int, caches: Mapping[int, Cache]) -> None:
        place = self.placement[unit]
        sent = {i: resent(cache) for i, cache in caches.items()}
        if isinstance(place, Split):
            for i, cache in sent.items():
                self.nodes[place.node_of(i)].heads.setdefault(unit - 1, {})[i] = cache
        elif sent:
            self.nodes[place].units[self._names[unit]] = together([sent[i] for i in sorted(sent)])

    def _settle(self, placement: Placement) -> None:
        """Every node gets the parts and slices that it has to have, keeps those that it had, and no others."""
        check_placement(self.config, placement)
        nodes: dict[str, Node] = {}
        order = stages(placement)
        for stage in order:
            if isinstance(stage, Run):
                self._node(nodes, stage.node).slices[stage.first, stage.last] = self._slice(stage)
            else:
                layer, split = stage
                for name, share in split.everything:
                    self._node(nodes, name).parts[layer, share] = self._part(name, layer, share)
        self.nodes, self.placement, self._stages = nodes, tuple(placement), order

    def _node(self, nodes: dict[str, Node], name: str) -> Node:
        had = self.nodes.get(name, Node())
        return nodes.setdefault(name, Node(units=had.units, heads=had.heads))

    def _slice(self, run: Run) -> Slice:
        held = self.nodes.get(run.node, Node()).slices.get((run.first, run.last))
        return held or cut(self.family, self._weights, run.first, run.last)

    def _part(self, node: str, layer: int, share: Share) -> Part:
        held = self.nodes.get(node, Node()).parts.get((layer, share))
        return held or Part(self.config, layer, share, pieces(self._weights, needs(self.config, layer, share)))

    def _pass(self, x: torch.Tensor, *, begins: bool) -> torch.Tensor:
        at: str | None = None  # where x is
        for stage in self._stages:
            if isinstance(stage, Run):
                x, node = carried(x, at, stage.node), self.nodes[stage.node]
                run = node.slices[stage.first, stage.last]
                x, at = run(x, node.units) if begins else run.step(x, node.units), stage.node
            else:
                x, at = self._layer(*stage, carried(x, at, stage[1].home)), stage[1].end
        return x

    def _layer(self, layer: int, split: Split, x: torch.Tensor) -> torch.Tensor:
        """From the layer's input at its home to its result at its end."""

        def do(node: str, share: Share, x: torch.Tensor, arrived: Arrived | None = None) -> torch.Tensor:
            held = self.nodes[node]
            return held.parts[layer, share](x, held.heads.get(layer), arrived)

        def spread(begin: str, shares: Sequence[tuple[str, Share]], x: torch.Tensor) -> Arrived:
            """What shares of `x` make of it, back at the middle."""
            return {share: carried(do(at, share, carried(x, begin, at)), at, split.middle) for at, share in shares}

        home, middle, end = split.home, split.middle, split.end
        mixed = spread(home, split.heads, do(home, NORM, x))
        close = SUM if split.heads[0][1].rows else PROJ
        x = do(middle, close, carried(x, home, middle), mixed)
        if not split.columns:
            return do(end, MLP, carried(x, middle, end))
        return do(middle, MLP_SUM, x, spread(middle, split.columns, do(middle, MLP_NORM, x)))


def carried(x: torch.Tensor, begin: str | None = None, end: str | None = None) -> torch.Tensor:
    """As it arrives at another node: the same bytes elsewhere; on the same node it stays."""
    if begin is not None and begin == end:
        return x
    return torch.frombuffer(bytearray(x.contiguous().numpy().data.cast("B")), dtype=x.dtype).view(x.shape)


def resent(cache: Cache) -> Cache:
    """As it is made anew at another node."""
    tensors = {name: carried(tensor) for name, tensor in cache.tensors().items()}
    return Cache.of(cache.length, tensors, grows=frozenset(tensors))


def nodes_of(place: str | Split) -> set[str]:
    return {place} if isinstance(place, str) else {place.home, *(node for node, _ in place.parts)}
