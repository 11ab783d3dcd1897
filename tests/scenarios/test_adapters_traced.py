"""Every adapter, small, traced by torch.export: what it computes is a chain, and crosses where the adapter says."""

import pytest
import torch
from torch import nn

from nodes.models import chain_of
from nodes.models.traced import Trace
from nodes.prepare import inputs
from nodes.runtime.slicing import Slice, cut, one_thread
from tests.unit.oracles import lively
from tests.unit.test_models_answers import TINY

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own


class Ours(nn.Module):
    """An adapter's chain as a module."""

    def __init__(self, family: str, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.units, self.names = chain_of(family).units, list(weights)
        self.held = nn.ParameterList(nn.Parameter(weights[name], requires_grad=False) for name in weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(self.names, self.held, strict=True))
        for unit in self.units:
            x = unit(weights, x)
        return x


@pytest.mark.parametrize("family", TINY)
def test_the_trace_of_an_adapter_crosses_what_the_adapter_does_bit_for_bit(family: str) -> None:
    one_thread()
    weights, x = lively(family), torch.from_numpy(inputs.make(family, 0, 0))
    trace = Trace.of(family, Ours(family, weights), x)
    chain, held, y, crossing = trace.chain(trace.everywhere()), trace.weights(), x, []
    for i in range(len(chain.units)):
        y = Slice(chain, i, i + 1, held)(y)
        crossing.append(y)
    for i, unit in enumerate(chain_of(family).units):
        x = cut(family, weights, i, i + 1)(x)
        assert any(x.shape == there.shape and torch.equal(x, there) for there in crossing), unit.name
