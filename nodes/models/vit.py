"""ViT in plain torch functions, after Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020).

Read top-down: picture -> patches -> layers -> class scores. Shapes are in comments for ViT-B/16:
B = 1 picture, N = 197 tokens (14 x 14 patches and CLS), D = 768 wide, h = 12 heads of d = 64.
`w` holds the weights under the names of transformers' ViTForImageClassification. Float32 throughout.
"""

from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.chain import Chain, Weights, assemble
from nodes.models.encoders import VitConfig
from nodes.models.layers import heads, joined, linear, norm


def chain(config: VitConfig) -> Chain:
    layers = [partial(layer, config, f"vit.layers.{i}.") for i in range(config.layers)]
    return assemble(config, [partial(embed, config), *layers, partial(head, config)])


def embed(c: VitConfig, w: Weights, picture: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 224, 224, 3) -> (B, N, D)."""
    at, side = "vit.embeddings.", c.image // c.patch
    x = picture.to(torch.float32).mul_(1 / 127.5).sub_(1.0)  # 0..255 -> -1..1, as ViT's processor does
    x = x.view(1, side, c.patch, side, c.patch, 3)
    x = x.permute(0, 1, 3, 5, 2, 4).reshape(1, side * side, -1)  # (B, 196, 3 * 16 * 16)
    # a convolution whose stride is its kernel is one matrix product
    kernel = w[at + "patch_embeddings.projection.weight"].view(c.width, -1)  # (D, 3 * 16 * 16)
    x = F.linear(x, kernel, w[at + "patch_embeddings.projection.bias"])  # (B, 196, D)
    x = torch.cat((w[at + "cls_token"], x), dim=1)  # (B, N, D)
    return x.add_(w[at + "position_embeddings"])


def layer(c: VitConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, N, D) -> (B, N, D)."""
    x = attention(c, at + "attention.", w, norm(at + "layernorm_before", w, x, c.norm_eps)).add_(x)
    return mlp(at + "mlp.", w, norm(at + "layernorm_after", w, x, c.norm_eps)).add_(x)


def attention(c: VitConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (heads(linear(at + name, w, x), c.heads) for name in ("q_proj", "k_proj", "v_proj"))
    y = F.scaled_dot_product_attention(q, k, v)  # (B, h, N, d); all tokens see all
    return linear(at + "o_proj", w, joined(y))


def mlp(at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    return linear(at + "fc2", w, F.gelu(linear(at + "fc1", w, x)))  # 4 D wide inside


def head(c: VitConfig, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, N, D) -> class scores (B, 1000)."""
    return linear("classifier", w, norm("vit.layernorm", w, x[:, 0], c.norm_eps))  # CLS alone
