"""Exports to ONNX with one table of operators for all of them. torch makes it anew for each: half of their time."""

import functools
from collections.abc import Iterator

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry


@pytest.fixture(scope="module")
def one_table() -> Iterator[None]:
    """An export only reads it, unless it is given operators of one's own, and none is here."""
    make = ONNXRegistry.from_torchlib
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(make)))
        yield
