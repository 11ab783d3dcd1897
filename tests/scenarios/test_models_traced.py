"""Chains found by tracing: of a module of one's own, and of transformers' models, which cross-check the adapters."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from nodes.models import chain_of
from nodes.models.config import config_of
from nodes.models.decoders import WhisperConfig
from nodes.models.encoders import BertConfig, MobileNetConfig, VitConfig
from nodes.models.traced import CannotTrace, Trace, traced
from nodes.prepare import inputs
from nodes.runtime.slicing import Slice, cut, one_thread
from tests.unit.oracles import lively, model_of, relative_error
from tests.unit.test_models_answers import TINY

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


class Residual(nn.Module):
    """Two blocks with a skip each, a mask that does not depend on the input, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(8) < 6
        for inner in self.inner:
            x = x + inner(x * mask)
        return self.head(x)


class Transformers(nn.Module):
    """A model of transformers as one tensor in, one tensor out."""

    def __init__(self, family: str, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.config, self.model = config_of(family), model_of(family, weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c = self.config
        if isinstance(c, VitConfig | MobileNetConfig):
            return self.model(x).logits
        if isinstance(c, BertConfig) and c.pooling == "first":
            return self.model(x).pooler_output
        if isinstance(c, BertConfig):
            return nn.functional.normalize(self.model(x).last_hidden_state.mean(1), dim=1)
        start: Any = {"decoder_input_ids": torch.tensor([c.start])} if isinstance(c, WhisperConfig) else {}
        return self.model(x, use_cache=False, **start).logits[:, -1]


def test_a_module_of_ones_own_becomes_a_chain() -> None:
    torch.manual_seed(0)
    module, x = Residual(), torch.randn(1, 8)
    chain, weights = traced("mine", module, x)
    assert [set(unit.weights) for unit in chain.units] == [
        {f"inner.{i}.{j}.{kind}" for j in (0, 2) for kind in ("weight", "bias")} for i in range(2)
    ] + [{"head.weight", "head.bias"}]
    assert [unit.output_shape for unit in chain.units] == [(1, 8), (1, 8), (1, 3)]
    for a, b in itertools.combinations_with_replacement(range(1, 3), 2):
        y = x
        for first, last in itertools.pairwise(sorted({0, a, b, 3})):
            y = Slice(chain, first, last, weights)(y)
        assert torch.equal(y, module(x))


@pytest.mark.parametrize("family", TINY)
def test_every_cut_of_an_adapter_is_found_in_the_trace_of_transformers(family: str) -> None:
    weights, x = lively(family), torch.from_numpy(inputs.make(family, 0, 0))
    pictures = isinstance(config_of(family), VitConfig | MobileNetConfig)
    y = ((x.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).contiguous() if pictures else x
    trace = Trace.of(family, Transformers(family, weights), y)
    held, ways = trace.weights(), {}
    for name, ends in (("units", trace.places()), ("everywhere", trace.everywhere())):
        chain, z, ways[name] = trace.chain(ends), y, []
        for i in range(len(chain.units)):
            z = Slice(chain, i, i + 1, held)(z)
            ways[name].append(z)
    assert torch.equal(ways["units"][-1], ways["everywhere"][-1])
    assert len(ways["units"]) > 3
    pairs = [(values[0], values[1]) for values in side_by_side(trace, held, y)] if "whisper" in family else []
    for i, unit in enumerate(chain_of(family).units):
        x = cut(family, weights, i, i + 1)(x)
        parts = x.split(list(unit.shape.parts.values()), dim=1) if unit.shape.parts else (x,)
        if len(parts) == 1 or unit.name == "start":  # whose first tokens are the same for every input
            assert any(alike(parts[0], there) for there in ways["everywhere"]), unit.name
        else:  # two tensors cross, which are alive at once in the trace, too
            assert any(alike(parts[0], a) and alike(parts[1], b) for a, b in pairs), unit.name


def alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and relative_error(ours, theirs) < 1e-5


def side_by_side(trace: Trace, held: dict[str, torch.Tensor], x: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """The values of every two tensors that are alive alone together, the first made first."""
    at = {node: i for i, node in enumerate(trace.nodes)}
    for alive in trace.alive():
        if len(alive) == 2 and set(alive) <= at.keys():
            yield [trace.unit(0, trace.entry, 0, at[node])(held, x) for node in alive]


def test_what_cannot_be_traced() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    class Deaf(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(3) * 2

    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    for module, why in (
        (Two(), "mine: 1 inputs and 2 outputs"),
        (Deaf(), "does not depend on its input"),
        (Branching(), r"torch\.export cannot trace it"),
    ):
        with pytest.raises(CannotTrace, match=why):
            traced("mine", module, torch.ones(1, 3))
