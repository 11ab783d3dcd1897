"""The blocks of a model whose layers may be placed by parts: of each layer its heads, projection, feed-forward. Pure.

Each block costs what the part costs on a node (nodes/models/shares.py), in the mean round of a generation, as whole
layers do. What follows from the placement goes with the projection, where most of it is and all of it is small: the
norm of the layer, and where the feed-forward part is several blocks of columns, the norm and the bias beside them.
Rows of the projection are what it has more than is left: bias and sum.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from controller.model import Block
from nodes.costing.partcost import working_bytes
from nodes.models.config import config_of
from nodes.models.decoders import GptConfig, LlamaConfig
from nodes.models.shares import (
    BUNDLES,
    FLOAT_BYTES,
    MLP,
    MLP_NORM,
    MLP_SUM,
    NORM,
    PROJ,
    Columns,
    Heads,
    Share,
    SplitConfig,
    bundles,
    cache_bytes_per_token,
    flops,
    output_bytes_per_token,
    weight_bytes,
)


def by_heads(  # noqa: PLR0917 a model, and how it is cut
    family: str, units: tuple[Block, ...], rounds: int, batch: int, ffn_parts: int = 1, proj_rows: bool = False
) -> tuple[Block, ...]:
    """From the blocks of whole units; `rounds` of a session (1: one answer), the first of which brings the input.

    `ffn_parts`: how many blocks of columns the feed-forward part is; `proj_rows`: the projection is a block of rows for
    each head and what is left. Raises ValueError for a family whose layers have no parts.
    """
    config = config_of(family)
    if not isinstance(config, GptConfig | LlamaConfig):
        raise ValueError(f"the layers of {family} have no parts")
    found = [replace(units[0], unit=0)]
    shares: list[Share] = [*(Heads((i,)) for i in range(config.movable)), PROJ, *_feed_forward(config, ffn_parts)]
    beside = dict.fromkeys(shares, 0)
    follow = [NORM] if ffn_parts == 1 else [NORM, MLP_NORM, MLP_SUM]
    beside[PROJ] = sum(weight_bytes(config, share) for share in follow)
    for unit in range(1, config.layers + 1):
        layer = [_block(config, units[unit], unit, share, beside[share], rounds, batch) for share in shares]
        if proj_rows:
            with_rows = [Heads((i,), rows=True) for i in range(config.movable)]
            more = [_block(config, units[unit], unit, share, 0, rounds, batch) for share in with_rows]
            rows = [
                replace(_less(one, [head]), working_bytes=max(0, one.working_bytes - head.working_bytes))
                for one, head in zip(more, layer, strict=False)
            ]
            layer[len(rows) : len(rows) + 1] = [*rows, _less(layer[len(rows)], rows)]
        found += layer
    return (*found, replace(units[-1], unit=config.layers + 1))


def _less(whole: Block, parts: Sequence[Block]) -> Block:
    """What is left of a block without others."""
    return replace(
        whole,
        flops=whole.flops - sum(part.flops for part in parts),
        weight_bytes=whole.weight_bytes - sum(part.weight_bytes for part in parts),
        formula_cost=whole.formula_cost - sum(part.formula_cost for part in parts),
        read_bytes=whole.read_bytes - sum(part.read_bytes for part in parts),
    )


def _feed_forward(config: SplitConfig, count: int) -> list[Share]:
    """As even as bundles allow, the smallest that are counted and travel."""
    if count == 1:
        return [MLP]
    ends = [bundles(config)[BUNDLES * i // count] for i in range(count + 1)]
    return [Columns(begin, end) for begin, end in pairwise(ends)]


def _block(  # noqa: PLR0917 a part, and what it is asked for
    config: SplitConfig, layer: Block, unit: int, share: Share, beside_bytes: int, rounds: int, batch: int
) -> Block:
    prompt, steps = config.tokens, rounds - 1
    work = flops(config, share, prompt) + steps * flops(config, share, 1, prompt + rounds // 2)
    given = (prompt + steps) * output_bytes_per_token(config, share)
    weights = weight_bytes(config, share) + beside_bytes
    kept = (prompt + rounds // 2) * cache_bytes_per_token(config, share)  # read again in each round
    return Block(
        f"{layer.name}/{share}",
        work // rounds,
        weights,
        given // rounds,
        working_bytes(config, share, prompt) * batch,
        layer.output_class,
        weights // FLOAT_BYTES,  # the formula counts the numbers of a matrix
        unit,
        str(share),
        weights + kept,
    )
