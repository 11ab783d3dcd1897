"""What the modelled device needs to know of every unit of a family. Pure, no torch."""

from nodes.costing.profile import profile, step_costs
from nodes.models.config import config_of
from nodes.models.decoders import GptConfig, LlamaConfig
from nodes.slices import BlockCost


def costs(family: str, batch: int = 1) -> tuple[BlockCost, ...]:
    """What the modelled device needs to know of each unit of a family; so many requests may be inside one at a time."""
    config = config_of(family)
    shapes, tokens = config.units(), config.tokens
    return tuple(
        BlockCost(
            unit.flops,
            unit.weight_bytes,
            unit.working_bytes * batch,
            "float32",
            _whole(shape.output, tokens),
            unit.work.shared_bytes,
            unit.work.own_bytes,
            step,
            unit.kept_bytes,
            config if isinstance(config, GptConfig | LlamaConfig) and shape.name.startswith("layer") else None,
        )
        for unit, shape, step in zip(profile(family).units, shapes, step_costs(family), strict=True)
    )


def _whole(shape: tuple[int, ...], tokens: int) -> tuple[int, ...]:
    """A shape with the number of tokens filled in that a profile assumes."""
    return tuple(tokens if size == -1 else size for size in shape)
