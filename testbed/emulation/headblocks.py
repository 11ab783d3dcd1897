"""The blocks of a model whose layers may be placed by parts: of each layer its heads, projection, feed-forward. Pure.

Each block costs what the part costs on a node (nodes/models/shares.py), in the mean round of a generation, as whole
layers do. The norm of a layer goes with its projection: it is small, and its home follows from the placement.
"""

from dataclasses import replace

from controller.model import Block
from nodes.costing.partcost import working_bytes
from nodes.models.config import config_of
from nodes.models.decoders import GptConfig, LlamaConfig
from nodes.models.shares import (
    FLOAT_BYTES,
    MLP,
    NORM,
    PROJ,
    Heads,
    Share,
    SplitConfig,
    cache_bytes_per_token,
    flops,
    output_bytes_per_token,
    weight_bytes,
)


def by_heads(family: str, units: tuple[Block, ...], rounds: int, batch: int) -> tuple[Block, ...]:
    """From the blocks of whole units; `rounds` of a session (1: one answer), the first of which brings the input.

    Raises ValueError for a family whose layers have no parts.
    """
    config = config_of(family)
    if not isinstance(config, GptConfig | LlamaConfig):
        raise ValueError(f"the layers of {family} have no parts")
    found = [replace(units[0], unit=0)]
    for unit in range(1, config.layers + 1):
        shares: list[Share] = [*(Heads((i,)) for i in range(config.movable)), PROJ, MLP]
        found += [_block(config, units[unit], unit, share, rounds, batch) for share in shares]
    return (*found, replace(units[-1], unit=config.layers + 1))


def _block(  # noqa: PLR0917 a part, and what it is asked for
    config: SplitConfig, layer: Block, unit: int, share: Share, rounds: int, batch: int
) -> Block:
    prompt, steps = config.tokens, rounds - 1
    work = flops(config, share, prompt) + steps * flops(config, share, 1, prompt + rounds // 2)
    given = (prompt + steps) * output_bytes_per_token(config, share)
    weights = weight_bytes(config, share) + (weight_bytes(config, NORM) if share == PROJ else 0)
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
