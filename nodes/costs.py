"""What the modelled device needs to know of every unit of a family. Pure, no torch."""

from nodes.models.config import config_of
from nodes.profile import profile
from nodes.slices import BlockCost


def costs(family: str) -> tuple[BlockCost, ...]:
    """What the modelled device needs to know of each unit of a family."""
    config = config_of(family)
    shapes, tokens = config.units(), config.tokens
    return tuple(
        BlockCost(unit.flops, unit.weight_bytes, unit.working_bytes, "float32", _whole(shape.output, tokens))
        for unit, shape in zip(profile(family).units, shapes, strict=True)
    )


def _whole(shape: tuple[int, ...], tokens: int) -> tuple[int, ...]:
    """A shape with the number of tokens filled in that a profile assumes."""
    return tuple(tokens if size == -1 else size for size in shape)
