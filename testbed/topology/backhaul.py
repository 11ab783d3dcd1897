"""How base stations are joined to one another and to the core: a ring, a tree or a grid of switches. Pure."""

from collections.abc import Iterator
from itertools import pairwise
from math import isqrt
from typing import Literal

Shape = Literal["ring", "tree", "grid"]
CORE = "core"
FAN_OUT = 8  # base stations of an aggregation switch, in a tree


def nodes(shape: Shape, base_stations: int) -> list[str]:
    """The names of all switches."""
    above = [f"agg{number + 1}" for number in range(_aggregations(base_stations))] if shape == "tree" else []
    return [*(f"bs{number + 1}" for number in range(base_stations)), *above, CORE]


def hops(shape: Shape, base_stations: int) -> Iterator[tuple[str, str]]:
    """The links between switches."""
    if shape == "ring":
        around = [CORE, *(f"bs{number + 1}" for number in range(base_stations))]
        yield from pairwise(around)
        if base_stations > 1:
            yield around[-1], CORE
    elif shape == "tree":
        yield from ((f"bs{number + 1}", f"agg{number // FAN_OUT + 1}") for number in range(base_stations))
        yield from ((f"agg{number + 1}", CORE) for number in range(_aggregations(base_stations)))
    else:
        yield from _grid(base_stations)


def _aggregations(base_stations: int) -> int:
    return -(-base_stations // FAN_OUT)


def _grid(base_stations: int) -> Iterator[tuple[str, str]]:
    """Rows as long as the root of the number; each station joined to its right and lower one, the core mid-way."""
    width = max(1, isqrt(base_stations))
    for number in range(base_stations):
        if (number + 1) % width and number + 1 < base_stations:
            yield f"bs{number + 1}", f"bs{number + 2}"
        if number + width < base_stations:
            yield f"bs{number + 1}", f"bs{number + width + 1}"
    yield f"bs{base_stations // 2 + 1}", CORE
