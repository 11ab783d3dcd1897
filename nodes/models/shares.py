"""The parts of a layer by name: what each is called, which weights it needs, what it costs and gives. No torch.

    norm          norm of the layer's input, where that is: the layer's home
    heads:0,3,5   these heads (Llama: K/V groups with their query heads) and their caches; gives what they took
    proj          output projection of all heads, bias, residual
    rows:0,3,5    these heads with their rows of the output projection; gives what they add to its sum
    sum           the sum of all rows, bias, residual: proj where there are rows
    mlp           norm, feed-forward part, residual
    mlp:norm      where the feed-forward part is shared: its norm,
    mlp:0-384     columns 0..383 of its hidden width, what they add to its sum,
    mlp:sum       and the sum of all columns, bias, residual

The blocks are those of "LLM partitioning at attention-head level" (arXiv 2505.02533): heads with their K/V caches,
projection, feed-forward part. Costs differ from its Table I where that has no cache or no weights: a step takes the
next tokens alone, 2 FLOPs a multiply-add; bytes are float32.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Literal

from nodes.models.decoders import GptConfig, LlamaConfig
from nodes.models.shapes import Cut, Shape

FLOAT_BYTES = 4
BUNDLES = 16  # of columns: what is counted and travels as one, where two parts may have some in common
SplitConfig = GptConfig | LlamaConfig  # of the families whose layers have parts
Need = Cut | str  # rows or columns of a weight, or all of it
WholeName = Literal["norm", "proj", "sum", "mlp", "mlp:norm", "mlp:sum"]
SYNTAX = re.compile(r"(?P<whole>norm|proj|sum|mlp(:(norm|sum))?)|(?P<kind>heads|rows):(?P<numbers>\d+(,\d+)*)"
                    r"|mlp:(?P<begin>\d+)-(?P<end>\d+)")  # fmt: skip


class ShareError(ValueError):
    """No such part, or parts that do not make up a layer; the message names the part."""


@dataclass(frozen=True, slots=True)
class Whole:
    name: WholeName

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Heads:
    """Raises ShareError unless they ascend: a part has one name only."""

    numbers: tuple[int, ...]
    rows: bool = False  # with their rows of the output projection

    def __post_init__(self) -> None:
        if not self.numbers or list(self.numbers) != sorted(set(self.numbers)):
            raise ShareError(f"{self}: heads are named in ascending order, each once")

    @property
    def first(self) -> int:
        """Where it stands in a sum."""
        return self.numbers[0]

    @property
    def members(self) -> Iterable[int]:
        return self.numbers

    def __str__(self) -> str:
        return ("rows:" if self.rows else "heads:") + ",".join(map(str, self.numbers))


@dataclass(frozen=True, slots=True)
class Columns:
    begin: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise ShareError(f"{self}: has no columns")

    @property
    def first(self) -> int:
        return self.begin

    @property
    def members(self) -> Iterable[int]:
        return range(self.begin, self.end)

    def __str__(self) -> str:
        return f"mlp:{self.begin}-{self.end}"


Share = Whole | Heads | Columns
NORM, PROJ, SUM = Whole("norm"), Whole("proj"), Whole("sum")
MLP, MLP_NORM, MLP_SUM = Whole("mlp"), Whole("mlp:norm"), Whole("mlp:sum")
WHOLES = {str(share): share for share in (NORM, PROJ, SUM, MLP, MLP_NORM, MLP_SUM)}


@lru_cache(maxsize=4096)  # every frame names its parts
def share_of(text: str) -> Share:
    """`str` of a share back to the share. Raises ShareError, for other spellings of the same part, too."""
    found = SYNTAX.fullmatch(text)
    if found is None:
        raise ShareError(f"no part {text!r}: there are {', '.join(WHOLES)}, heads:0,1, rows:0,1 and mlp:0-128")
    share: Share
    if found["whole"]:
        share = WHOLES[text]
    elif found["kind"]:
        share = Heads(tuple(map(int, found["numbers"].split(","))), rows=found["kind"] == "rows")
    else:
        share = Columns(int(found["begin"]), int(found["end"]))
    if str(share) != text:
        raise ShareError(f"{text!r} is written {str(share)!r}")
    return share


def check(config: SplitConfig, share: Share) -> None:
    """Raises ShareError for heads or columns that the family does not have."""
    if isinstance(share, Heads) and share.numbers[-1] >= config.movable:
        raise ShareError(f"{share}: {config.family} has heads 0..{config.movable - 1}")
    if isinstance(share, Columns) and share.end > config.hidden:
        raise ShareError(f"{share}: {config.family} has columns 0-{config.hidden}")


def closing(share: Share) -> Whole | None:
    """The part that takes what this one gives together with that of others like it."""
    match share:
        case Heads(rows=rows):
            return SUM if rows else PROJ
        case Columns():
            return MLP_SUM
        case Whole():
            return None


@lru_cache
def in_order(config: SplitConfig, close: Whole, shares: frozenset[Share]) -> tuple[Heads | Columns, ...]:
    """The shares that a closing part takes, in the order in which they are added: that of their first head or column.

    Raises ShareError unless each head or column is among them once.
    """
    found = [share for share in shares if not isinstance(share, Whole) and closing(share) == close]
    found.sort(key=lambda share: share.first)
    count = config.hidden if close == MLP_SUM else config.movable
    if len(found) != len(shares) or sorted(i for share in found for i in share.members) != list(range(count)):
        what = "columns" if close == MLP_SUM else "heads"
        told = ", ".join(sorted(map(str, shares))) or "nothing"
        raise ShareError(f"{close} takes each of the {count} {what} of {config.family} once, not {told}")
    return tuple(found)


def needs(config: SplitConfig, layer: int, share: Share) -> tuple[Need, ...]:
    """The weights of a part, in the order in which they are shipped. Raises ShareError."""
    check(config, share)
    if not 0 <= layer < config.layers:
        raise ShareError(f"layer {layer}: {config.family} has layers 0..{config.layers - 1}")
    match share:
        case Heads(numbers, rows):
            cuts = (config.head(layer, i).items() for i in numbers)
            return tuple(cut for one in cuts for role, cut in one if rows or role != "o")
        case Columns(begin, end):
            return tuple(config.columns(layer, begin, end).values())
        case Whole(name):
            return config.whole(layer)[name]


def smallest(config: SplitConfig, share: Share) -> tuple[Share, ...]:
    """What it is made of and may have in common with another part: single heads, bundles of columns. ShareError."""
    check(config, share)
    if isinstance(share, Heads):
        return tuple(Heads((i,), share.rows) for i in share.numbers)
    if isinstance(share, Columns):
        inner = (i for i in bundles(config) if share.begin < i < share.end)
        return tuple(Columns(begin, end) for begin, end in pairwise((share.begin, *inner, share.end)))
    if share == MLP:
        return (MLP_NORM, *smallest(config, Columns(0, config.hidden)), MLP_SUM)
    return (share,)


@lru_cache
def layer_shares(config: SplitConfig) -> tuple[Share, ...]:
    """What a whole layer is made of, as `smallest` has it."""
    return (NORM, *(Heads((i,)) for i in range(config.movable)), PROJ, *smallest(config, MLP))


def bundles(config: SplitConfig) -> tuple[int, ...]:
    """Where they begin, and the end of the last."""
    return tuple(config.hidden * i // BUNDLES for i in range(BUNDLES + 1))


def shape_of(config: SplitConfig, need: Need) -> Shape:
    shapes = _shapes(config)
    if isinstance(need, str):
        return shapes[need]
    whole = shapes[need.weight]
    return (*whole[: need.dim], need.end - need.begin, *whole[need.dim + 1 :])


def weight_bytes(config: SplitConfig, share: Share) -> int:
    """The same in every layer. Raises ShareError, as all that follow."""
    return FLOAT_BYTES * sum(map(prod, _matrices(config, share, dims=(1, 2))))


def flops(config: SplitConfig, share: Share, tokens: int, before: int = 0) -> int:
    """Of the next `tokens` tokens after `before` others whose keys and values are kept."""
    products = sum(map(prod, _matrices(config, share, dims=(2,))))  # every number meets every token once
    count = len(share.numbers) if isinstance(share, Heads) else 0
    attending = 2 * (before + tokens) * count * _mix_width(config)  # scores, and their mix of the values
    return 2 * tokens * (products + attending)


def cache_bytes_per_token(config: SplitConfig, share: Share) -> int:
    """Keys and values."""
    check(config, share)
    return FLOAT_BYTES * 2 * len(share.numbers) * config.head_width if isinstance(share, Heads) else 0


def output_bytes_per_token(config: SplitConfig, share: Share) -> int:
    return FLOAT_BYTES * output_width(config, share)


def output_width(config: SplitConfig, share: Share) -> int:
    check(config, share)
    if isinstance(share, Heads) and not share.rows:
        return len(share.numbers) * _mix_width(config)
    return config.width


def _mix_width(config: SplitConfig) -> int:
    """Of what one head gives; one group: its query heads behind one another."""
    return config.width // config.movable


def _matrices(config: SplitConfig, share: Share, dims: Iterable[int]) -> list[Shape]:
    shapes = (shape_of(config, need) for need in needs(config, 0, share))
    return [shape for shape in shapes if len(shape) in dims]


@lru_cache
def _shapes(config: SplitConfig) -> dict[str, Shape]:
    return {name: shape for unit in config.units() for name, shape in unit.weights.items()}
