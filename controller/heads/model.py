"""The decision problem of arXiv 2505.02533, for one layer (as there) and for many: what is placed, and what is known.

A layer has h attention heads (each with its K/V cache), one output projection and one feed-forward network (FFN): one
block, as in the paper, or `columns` blocks of its columns, all alike. A layer ends where its FFN is if that is on one
device; else each device sends its sum of columns back to the projection, where the layer ends.
Inside this package a placement is a `Plan`, an integer array (layers, heads + columns + 2): the device of each head,
of each block of columns, then of the projection, then the end. What leaves the package is a `HeadPlacement`, with
names. Times are seconds, sizes bytes, rates bytes per second, all float64; work is counted as the paper counts it, one
multiply-add a FLOP.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Plan = npt.NDArray[np.intp]  # (layers, heads + columns + 2)

UNREACHABLE_S = 1e9  # stands for a device that is down or a link that does not exist


@dataclass(frozen=True, slots=True)
class HeadModel:
    """A decoder-only Transformer; the paper has layers = 1."""

    name: str
    layers: int
    heads: int  # h
    width: int  # D
    number_bytes: int  # b
    prompt_tokens: int  # L0
    ffn_factor: float = 8.0  # FLOP of the FFN a token: factor * D^2
    columns: int = 0  # blocks the FFN's columns are placed in; 0: the FFN is one block

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.width, self.number_bytes) < 1 or min(self.prompt_tokens, self.columns) < 0:
            raise ValueError(f"{self.name}: layers, heads, width and number_bytes are at least 1")
        if self.width % self.heads:
            raise ValueError(f"{self.name}: width {self.width} is no multiple of {self.heads} heads")

    @property
    def head_width(self) -> int:
        """d = D / h"""
        return self.width // self.heads

    @property
    def blocks(self) -> int:
        """Of a layer, its end among them."""
        return self.heads + self.columns + 2


@dataclass(frozen=True, slots=True)
class Device:
    """What of a device never changes: its capacities (C_max and the memory it was built with)."""

    name: str
    flops_per_s: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the controller knows of one interval: section III-B of the paper, and the delay of the links."""

    memory_bytes: Floats  # (N,) M_j, what background tasks leave
    flops_per_s: Floats  # (N,) C_j, what background tasks leave; 0 = down
    rate_bytes_per_s: Floats  # (N, N) R_jk, 0 = no link; diagonal ignored
    delay_s: Floats  # (N, N) one-way propagation; the paper has none
    source: int  # where the input starts
    token: int = 0  # tokens generated before this interval, lambda * tau


@dataclass(frozen=True, slots=True)
class LayerPlacement:
    heads: tuple[str, ...]
    proj: str
    ffn: str  # all of it, or where the layer ends
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadPlacement:
    """The node of each head, projection and FFN of each layer: what a head-level executor is to be given."""

    layers: tuple[LayerPlacement, ...]


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No placement was found; `proven` when there is none."""

    reason: str
    proven: bool = False


def named(plan: Plan, names: Sequence[str], columns: int = 0) -> HeadPlacement:
    def layer(row: Ints) -> LayerPlacement:
        *blocks, proj, ffn = (names[n] for n in row.tolist())
        heads = len(blocks) - columns
        return LayerPlacement(tuple(blocks[:heads]), proj, ffn, tuple(blocks[heads:]))

    return HeadPlacement(tuple(layer(row) for row in plan))


def numbered(placement: HeadPlacement, names: Sequence[str]) -> Plan:
    index = {name: n for n, name in enumerate(names)}
    rows = [[index[n] for n in (*layer.heads, *layer.columns, layer.proj, layer.ffn)] for layer in placement.layers]
    return np.array(rows, dtype=np.intp)


def kind(plan: Plan) -> str:
    """`whole`: all on one device; `pipeline`: each layer on one; `split`: no layer on one; `hybrid`: some."""
    alone = (plan == plan[:, :1]).all(axis=1)
    if alone.all():
        return "whole" if (plan == plan[0, 0]).all() else "pipeline"
    return "hybrid" if alone.any() else "split"
