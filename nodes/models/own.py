"""A model of somebody's own, from its description: operators of torch's own by their names, no code of others."""

from base64 import b64decode

import numpy as np

from nodes.models.chain import Chain, Step, assemble
from nodes.models.described import DescribedConfig, DescribedUnit
from nodes.models.program import constant, program_of


def chain(config: DescribedConfig) -> Chain:
    """Raises BadProgram."""
    return assemble(config, [_step(unit) for unit in config.made])


def _step(unit: DescribedUnit) -> Step:
    fixed = {
        name: constant(dtype, shape, np.frombuffer(b64decode(raw), np.uint8))
        for name, (dtype, shape, raw) in unit.fixed.items()
    }
    return program_of(unit.program, fixed)
