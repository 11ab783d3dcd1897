"""What runs on the emulated nodes, and for others a model of their own in slices: `from nodes import slice_model`.

The names below are brought in when they are asked for: a node that computes nothing never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.ownslice import NotASlice, Slice
    from nodes.sdk import CannotCut, CutPoint, cut_points, slice_model

_FROM = {
    "CannotCut": "nodes.sdk",
    "CutPoint": "nodes.sdk",
    "NotASlice": "nodes.ownslice",
    "Slice": "nodes.ownslice",
    "cut_points": "nodes.sdk",
    "slice_model": "nodes.sdk",
}

__all__ = ["CannotCut", "CutPoint", "NotASlice", "Slice", "cut_points", "slice_model"]


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module 'nodes' has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)
