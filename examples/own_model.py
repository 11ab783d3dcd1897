"""A model of one's own in two slices, in thirty lines: cut, saved, loaded again, and the same bits.

python examples/own_model.py
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


torch.manual_seed(0)
module, example = (
    nn.Sequential(nn.Linear(16, 64), *(Block(64) for _ in range(4)), nn.Linear(64, 10)),
    torch.randn(1, 16),
)
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
