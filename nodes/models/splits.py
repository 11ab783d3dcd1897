"""Which node has which part: one layer by parts, and a whole model of such layers and whole ones. No torch.

Rules: a layer's input is at its *home*, which does the norm. Heads give what they took to the node with `proj`, rows
what they add to the home; there the attention's result is, the *middle*. Columns of the feed-forward part get its norm
from the middle and give back what they add; without columns, `mlp` takes the result as it is. The layer's result
is where the last part was. Home and middle have those parts that follow from the others: norm, sum, mlp:norm, mlp:sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from nodes.models.shares import (
    MLP,
    MLP_NORM,
    MLP_SUM,
    NORM,
    PROJ,
    SUM,
    Columns,
    Heads,
    Share,
    ShareError,
    SplitConfig,
    check,
    share_of,
)

Placed = tuple[str, Share]  # on a node


@dataclass(frozen=True)
class Split:
    """One layer: its home, and the parts that are placed, each on a node. Nothing is checked before `check_split`."""

    home: str
    parts: tuple[Placed, ...]

    @classmethod
    def of(cls, home: str, parts: Mapping[str, Iterable[str]]) -> "Split":
        """From the names of the parts on each node. Raises ShareError for a name that is none."""
        return cls(home, tuple((node, share_of(text)) for node, texts in parts.items() for text in texts))

    @classmethod
    def assigned(
        cls, home: str, heads: Sequence[str], gather: str | None, mlp: str | Sequence[tuple[str, int]]
    ) -> "Split":
        """From the node of each head; `gather`: of the projection, None: by rows with the heads.

        `mlp`: the node of the feed-forward part, or the nodes that share it with the number of columns of each.
        """
        nodes = dict.fromkeys(heads)
        shares = [Heads(tuple(i for i, at in enumerate(heads) if at == node), rows=gather is None) for node in nodes]
        parts: list[Placed] = list(zip(nodes, shares, strict=True))
        if gather is not None:
            parts.append((gather, PROJ))
        if isinstance(mlp, str):
            return cls(home, (*parts, (mlp, MLP)))
        ends = [sum(count for _, count in mlp[: i + 1]) for i in range(len(mlp))]
        columns = [(node, Columns(end - count, end)) for (node, count), end in zip(mlp, ends, strict=True)]
        return cls(home, (*parts, *columns))

    @cached_property
    def heads(self) -> tuple[tuple[str, Heads], ...]:
        """In the order in which they are added: that of their first heads."""
        found = [(node, share) for node, share in self.parts if isinstance(share, Heads)]
        return tuple(sorted(found, key=lambda placed: placed[1].first))

    @cached_property
    def columns(self) -> tuple[tuple[str, Columns], ...]:
        """In the order in which they are added; none: the feed-forward part is whole."""
        found = [(node, share) for node, share in self.parts if isinstance(share, Columns)]
        return tuple(sorted(found, key=lambda placed: placed[1].first))

    @cached_property
    def middle(self) -> str:
        """Where the attention's result is."""
        return next((node for node, share in self.parts if share == PROJ), self.home)

    @cached_property
    def end(self) -> str:
        """Where the layer's result is."""
        return next((node for node, share in self.parts if share == MLP), self.middle)

    @cached_property
    def everything(self) -> tuple[Placed, ...]:
        """The parts that are placed and those that follow from them."""
        follow: list[Placed] = [(self.home, NORM)]
        if all(share != PROJ for _, share in self.parts):
            follow.append((self.home, SUM))
        if self.columns:
            follow += [(self.middle, MLP_NORM), (self.middle, MLP_SUM)]
        return (*self.parts, *follow)

    def node_of(self, head: int) -> str:
        """Raises ShareError."""
        for node, share in self.heads:
            if head in share.numbers:
                return node
        raise ShareError(f"head {head} is on no node")

    def moved(self, head: int, node: str) -> "Split":
        """The same with one head on another node, in one part with those that are there. Raises ShareError."""
        self.node_of(head)
        rows = self.heads[0][1].rows
        held = {at: {i for where, share in self.heads if where == at for i in share.numbers} for at, _ in self.heads}
        for numbers in held.values():
            numbers.discard(head)
        held.setdefault(node, set()).add(head)
        heads = [(at, Heads(tuple(sorted(numbers)), rows)) for at, numbers in held.items() if numbers]
        return Split(self.home, (*heads, *((at, share) for at, share in self.parts if not isinstance(share, Heads))))


Placement = Sequence[str | Split]  # of each unit: the node that has all of it, or its parts


@dataclass(frozen=True, slots=True)
class Run:
    """Units first..last-1, whole, on one node."""

    node: str
    first: int
    last: int


Stage = Run | tuple[int, Split]  # a layer by its number


def stages(placement: Placement) -> list[Stage]:
    """What comes one after the other: whole units in a row on a node make up one run."""
    found: list[Stage] = []
    for place, group in groupby(enumerate(placement), key=lambda unit: unit[1]):
        units = [i for i, _ in group]
        if isinstance(place, str):
            found.append(Run(place, units[0], units[-1] + 1))
        else:
            found += [(i - 1, place) for i in units]
    return found


def check_placement(config: SplitConfig, placement: Placement) -> None:
    """Raises ShareError unless every unit is somewhere, and the layers that are split are complete."""
    units = config.units()
    if len(placement) != len(units):
        raise ShareError(f"{config.family} has {len(units)} units, {len(placement)} are placed")
    for i, place in enumerate(placement):
        if isinstance(place, Split):
            if not 1 <= i <= config.layers:
                raise ShareError(f"{units[i].name} has no parts")
            try:
                check_split(config, place)
            except ShareError as error:
                raise ShareError(f"{units[i].name}: {error}") from error


def check_split(config: SplitConfig, split: Split) -> None:
    """Raises ShareError unless every head and every column is on one node, and what closes them, too."""
    for node, share in split.parts:
        check(config, share)
        if share in {NORM, SUM, MLP_NORM, MLP_SUM}:
            raise ShareError(f"{share} on {node}: follows from the other parts and is not placed")
    _check_heads(config, split)
    if not split.columns:
        _check_once(split, MLP)
        return
    if (whole := _node_of(split, MLP)) is not None:
        raise ShareError(f"mlp on {whole}: it is on {split.columns[0][0]} as {split.columns[0][1]}, too")
    reached = 0
    for node, share in (*split.columns, ("", Columns(config.hidden, config.hidden + 1))):
        if share.begin > reached:
            raise ShareError(f"mlp:{reached}-{share.begin} is on no node")
        if share.begin < reached:
            raise ShareError(f"{share} on {node}: columns before {reached} are elsewhere already")
        reached = share.end


def _check_heads(config: SplitConfig, split: Split) -> None:
    at: dict[int, str] = {}
    for node, share in split.heads:
        if share.rows != split.heads[0][1].rows:
            raise ShareError(f"{share} on {node}: {split.heads[0][1]} on {split.heads[0][0]} is of the other kind")
        for i in share.numbers:
            if i in at:
                raise ShareError(f"head {i} is on {at[i]} and again on {node}")
            at[i] = node
    missing = [str(i) for i in range(config.movable) if i not in at]
    if missing:
        raise ShareError(f"head {', '.join(missing)} on no node")
    if not split.heads[0][1].rows:
        _check_once(split, PROJ)
    elif (gather := _node_of(split, PROJ)) is not None:
        raise ShareError(f"proj on {gather}: rows are added at the home, {split.home}")


def _check_once(split: Split, share: Share) -> None:
    nodes = [node for node, held in split.parts if held == share]
    if len(nodes) != 1:
        raise ShareError(f"{share} is on {' and again on '.join(nodes) or 'no node'}")


def _node_of(split: Split, share: Share) -> str | None:
    return next((node for node, held in split.parts if held == share), None)
