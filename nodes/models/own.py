"""A model of somebody's own, from its description: operators of torch's own by their names, no code of others."""

from base64 import b64decode

import torch

from nodes.models.chain import Chain, Step, assemble
from nodes.models.described import DescribedConfig, DescribedUnit
from nodes.models.program import program_of


def chain(config: DescribedConfig) -> Chain:
    """Raises BadProgram."""
    return assemble(config, [_step(unit) for unit in config.made])


def _step(unit: DescribedUnit) -> Step:
    fixed = {name: _constant(*said) for name, said in unit.fixed.items()}
    return program_of(unit.program, fixed)


def _constant(dtype: str, shape: list[int], raw: str) -> torch.Tensor:
    kind: torch.dtype = getattr(torch, dtype)
    return torch.frombuffer(bytearray(b64decode(raw)), dtype=torch.uint8).view(kind).reshape(shape)
