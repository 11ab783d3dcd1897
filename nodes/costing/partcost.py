"""What a part of a layer costs the node that runs it: modelled work, and memory. Pure.

Rules: weights are counted in the smallest pieces, single heads and bundles of columns, so that what two parts on a node
have in common, or a part and the whole layer while one takes the place of the other, is there once. Parts that cut
through a bundle count their pieces of it apart.
"""

from collections.abc import Sequence
from functools import lru_cache

from nodes.models.shares import (
    FLOAT_BYTES,
    MLP,
    PROJ,
    Columns,
    Heads,
    Share,
    ShareError,
    SplitConfig,
    cache_bytes_per_token,
    flops,
    layer_shares,
    output_bytes_per_token,
    share_of,
    smallest,
    weight_bytes,
)
from nodes.pieces import Piece
from nodes.slices import BlockCost, Work

Held = dict[tuple[int, str], int]  # block and piece -> bytes


def part_work(config: SplitConfig, share: Share, tokens: int, before: int, shares: Sequence[Share] = ()) -> Work:
    """Of the next `tokens` after `before` others. `shares`: whose output it takes, where it is a closing one.

    What it reads is counted as for whole layers: its weights, what it takes and gives, keys and values of all tokens.
    """
    taken = FLOAT_BYTES * config.width + sum(output_bytes_per_token(config, one) for one in shares)
    own = tokens * (taken + output_bytes_per_token(config, share))
    own += (before + tokens) * cache_bytes_per_token(config, share)
    return Work(flops(config, share, tokens, before), weight_bytes(config, share), own)


def working_bytes(config: SplitConfig, share: Share, tokens: int) -> int:
    """The most that is alive at once while it takes a text of so many tokens: input, output, and what is between."""
    inner = 0
    if isinstance(share, Heads):  # one head after the other: queries, keys, values and a row of scores for each query
        inner = tokens * (3 * config.width // config.movable) + tokens * tokens * (config.heads // config.movable)
    elif isinstance(share, Columns):
        inner = 2 * tokens * (share.end - share.begin)
    elif share == MLP:
        inner = 2 * tokens * config.hidden
    elif share == PROJ:
        inner = tokens * config.width
    return FLOAT_BYTES * (inner + tokens * config.width) + tokens * output_bytes_per_token(config, share)


def held_bytes(costs: Sequence[BlockCost], piece: Piece) -> tuple[dict[tuple[int, str], int], int]:
    """(weights by block and piece, working bytes) of a slice or a part. Raises ShareError: there is none."""
    _, first, last, name = piece
    if not 0 <= first < last <= len(costs):
        raise ShareError(f"there are blocks 0..{len(costs) - 1}")
    if not name:
        weights = {
            (first + i, p): size for i, cost in enumerate(costs[first:last]) for p, size in _pieces(cost).items()
        }
        return weights, max(cost.working_bytes for cost in costs[first:last])
    split, share = costs[first].split, share_of(name)
    if split is None or last != first + 1:
        raise ShareError("only a layer has parts")
    weights = {(first, str(one)): weight_bytes(split, one) for one in smallest(split, share)}
    return weights, working_bytes(split, share, costs[first].output_shape[1])


def _pieces(cost: BlockCost) -> dict[str, int]:
    return {"": cost.weight_bytes} if cost.split is None else _layer_pieces(cost.split)


@lru_cache
def _layer_pieces(split: SplitConfig) -> dict[str, int]:
    return {str(share): weight_bytes(split, share) for share in layer_shares(split)}
