"""What AMP4EC's formula says that the units of a family cost (paper 001, equations 1, 2 and 12). Pure.

A convolution costs kh kw Cin Cout, a matrix Nin Nout, anything else its number of parameters. The formula knows
neither the size of the picture nor groups: a depthwise convolution, one input to each output, is charged as a full one.
"""

from math import prod

from nodes.models.config import config_of


def formula_costs(family: str) -> tuple[int, ...]:
    """One number for each unit, without a unit of measure. Raises UnknownFamily."""
    return tuple(
        sum(_cost(shape) for name, shape in unit.weights.items() if "running_" not in name)  # means, no parameters
        for unit in config_of(family).units()
    )


def _cost(shape: tuple[int, ...]) -> int:
    if len(shape) == 4:
        outputs, inputs, height, width = shape
        depthwise = inputs == 1 and outputs > 1
        return height * width * outputs * (outputs if depthwise else inputs)
    return prod(shape)
