"""MobileNetV2 in plain torch functions, after Sandler et al., "Inverted Residuals and Linear Bottlenecks" (2018).

Read top-down: picture -> stem -> blocks -> features -> class scores. Shapes are in comments for width 1 and 224
pixels: B = 1 picture. `w` holds the weights under the names of transformers' MobileNetV2ForImageClassification; as
there, borders are padded the way TensorFlow does. A block is one unit, its skip never crosses a cut. Float32.
"""

from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.chain import Chain, Weights, assemble
from nodes.models.encoders import MobileNetConfig
from nodes.models.layers import linear


def chain(config: MobileNetConfig) -> Chain:
    blocks = [partial(block, config, f"mobilenet_v2.layer.{i}.", s) for i, s in enumerate(config.STRIDES)]
    return assemble(config, [partial(stem, config), *blocks, partial(features, config), head])


def stem(c: MobileNetConfig, w: Weights, picture: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 224, 224, 3) -> (B, 16, 112, 112)."""
    at = "mobilenet_v2.conv_stem."
    x = picture.to(torch.float32).mul_(1 / 127.5).sub_(1.0)  # 0..255 -> -1..1, as its processor does
    x = x.permute(0, 3, 1, 2).contiguous()  # how a tensor lies decides how a convolution rounds
    x = F.relu6(convolution(c, at + "first_conv", w, x, stride=2), inplace=True)  # (B, 32, 112, 112)
    x = F.relu6(convolution(c, at + "conv_3x3", w, x, groups=x.shape[1]), inplace=True)
    return convolution(c, at + "reduce_1x1", w, x)


def block(c: MobileNetConfig, at: str, stride: int, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C', H / stride, W / stride); 6 C channels inside."""
    y = F.relu6(convolution(c, at + "expand_1x1", w, x), inplace=True)
    y = F.relu6(convolution(c, at + "conv_3x3", w, y, stride=stride, groups=y.shape[1]), inplace=True)
    y = convolution(c, at + "reduce_1x1", w, y)
    return y.add_(x) if y.shape == x.shape and stride == 1 else y


def features(c: MobileNetConfig, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, 320, 7, 7) -> (B, 1280), the mean over the picture."""
    return F.relu6(convolution(c, "mobilenet_v2.conv_1x1", w, x), inplace=True).mean(dim=(2, 3))


def head(w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, 1280) -> class scores (B, 1001)."""
    return linear("classifier", w, x)


def convolution(
    c: MobileNetConfig, name: str, w: Weights, x: torch.Tensor, *, stride: int = 1, groups: int = 1
) -> torch.Tensor:
    """With the batch norm behind it, by the means and variances of its training."""
    kernel, at = w[name + ".convolution.weight"], name + ".normalization."
    if kernel.shape[-1] > 1:
        x = F.pad(x, border(x.shape[3], kernel.shape[3], stride) + border(x.shape[2], kernel.shape[2], stride))
    x = F.conv2d(x, kernel, stride=stride, groups=groups)
    mean, variance = w[at + "running_mean"], w[at + "running_var"]
    return F.batch_norm(x, mean, variance, w[at + "weight"], w[at + "bias"], eps=c.norm_eps)


def border(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind, so that ceil(size / stride) come out; the odd one is behind."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2
