"""The arithmetic of costs against what torch counts and what the tensors are."""

import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nodes import inputs
from nodes.models.config import CONFIGS, UnknownFamily, weight_shapes
from nodes.profile import profile
from nodes.slicing import cut, one_thread


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operators make and the most that was alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):  # inputs and weights are not made here
            if isinstance(leaf, torch.Tensor):
                self._seen.setdefault(leaf.untyped_storage().data_ptr(), 0)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in self._seen:
                self._follow(leaf.untyped_storage())
        return made

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        self._seen[address] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.now -= self._seen.pop(address)


FAMILIES = [
    *("vit_tiny", "vit_b16", "minilm_tiny", "bert_tiny", "mobilenet_tiny", "mobilenet_v2"),
    *("whisper_tiny", "gpt2_tiny", "llama_tiny"),
]


def blank(family: str) -> dict[str, torch.Tensor]:
    """Weights of the right shapes, at no cost."""
    return {name: torch.zeros(shape) for name, shape in weight_shapes(family).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_and_sizes_are_those_of_the_real_thing(family: str) -> None:
    one_thread()
    made = blank(family)
    x = torch.from_numpy(inputs.make(family, 0, 0))
    costs = profile(family, x.shape[1])  # the tokens; a picture has its own
    assert costs.input_bytes == x.nbytes
    for i, cost in enumerate(costs.units):
        piece = cut(family, made, i, i + 1)
        with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
            y = piece(x)
        assert counted.get_total_flops() == cost.flops, cost.name
        assert piece.weight_bytes == cost.weight_bytes, cost.name
        assert y.nbytes == cost.output_bytes, cost.name
        x = y


@pytest.mark.parametrize("family", FAMILIES)
def test_working_bytes_are_what_is_alive_at_once(family: str) -> None:
    one_thread()
    made = blank(family)
    x = torch.from_numpy(inputs.make(family, 0, 0)).clone()  # where torch puts it, no slice needs a copy
    for i, cost in enumerate(profile(family, x.shape[1]).units):
        piece = cut(family, made, i, i + 1)
        with LiveBytes() as live:
            y = piece(x)
        measured = live.peak + x.nbytes
        assert measured <= cost.working_bytes * 1.02, (cost.name, measured)
        assert measured >= cost.working_bytes * 0.6, (cost.name, measured)
        x = y


def test_the_full_model_has_its_known_size() -> None:
    costs = profile("vit_b16")
    assert [unit.name for unit in costs.units] == ["embed", *(f"layer{i}" for i in range(12)), "head"]
    assert sum(unit.weight_bytes for unit in costs.units) == 4 * 86_567_656
    assert 35.0e9 < sum(unit.flops for unit in costs.units) < 35.2e9  # 17.6 billion multiply-adds
    assert costs.input_bytes == 150_528
    assert [unit.output_bytes for unit in costs.units] == [197 * 768 * 4] * 13 + [4000]


def test_privacy_classes() -> None:
    for family in CONFIGS:
        costs = profile(family)
        assert costs.input_class == "raw"
        assert {unit.output_class for unit in costs.units[:-1]} == {"feature"}
    assert profile("vit_b16").units[-1].output_class == "public"
    assert profile("minilm").units[-1].output_class == "feature"


def test_unknown_family() -> None:
    with pytest.raises(UnknownFamily, match="no model family 'resnet'"):
        profile("resnet")


def test_torch_stays_out() -> None:
    code = "import sys, nodes.profile, nodes.tensorfile, nodes.inputs as i; nodes.profile.profile('vit_b16');"
    code += "i.make('vit_tiny', 0, 0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
