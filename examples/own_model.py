"""A model of one's own: cut into slices that give the same bits, and as the model of an experiment.

python examples/own_model.py                 the slices, by the SDK
testbed run examples/own_model.yaml          on emulated nodes; the experiment names the function `make` below
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

from nodes import Slice, cut_points, slice_model


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def make() -> tuple[nn.Module, list[torch.Tensor]]:
    """The module and its inputs, which the phones send in turn."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4096, 64), *(Block(64) for _ in range(4)), nn.Linear(64, 10))
    return module, [torch.randn(8, 4096) for _ in range(4)]


def main() -> None:
    module, (example, *_) = make()
    for point in cut_points(module, example):
        print(f"cut {point.number}: {point.flops} FLOPs before it, {point.size_bytes} bytes cross")
    with tempfile.TemporaryDirectory() as folder:
        for part in slice_model(module, example, parts=2):
            part.save(Path(folder, f"{part.index}.safetensors"))
            print(f"slice {part.index}: {part.flops} FLOPs, {part.weight_bytes} bytes of weights")
        x = example
        for file in sorted(Path(folder).iterdir()):
            x = Slice.load(file)(x)
    print("the same bits:", torch.equal(x, module(example)))


if __name__ == "__main__":
    main()
