"""What each model family is made of, without torch: sizes, units, the names and shapes of their weights.

Rules: a model is a chain of units, each takes one tensor and gives one tensor, so whatever the cut, one tensor
crosses it. The batch is always 1. -1 in a shape is the number of tokens, which a sentence brings with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Shape = tuple[int, ...]
OutputClass = Literal["raw", "feature", "public"]


@dataclass(frozen=True, slots=True)
class UnitShape:
    name: str
    weights: Mapping[str, Shape]
    output: Shape  # float32


@dataclass(frozen=True, slots=True)
class VitConfig:
    """A vision transformer; weight names are those of transformers' ViTForImageClassification."""

    family: str
    image: int  # pixels a side
    patch: int  # pixels a side
    width: int
    layers: int
    heads: int
    classes: int
    norm_eps: float = 1e-12
    input_dtype: str = "uint8"
    answer_class: OutputClass = "public"  # class scores: what the phone asked for, and no picture comes back from them

    @property
    def tokens(self) -> int:
        return (self.image // self.patch) ** 2 + 1  # the patches and CLS

    @property
    def hidden(self) -> int:
        return 4 * self.width

    @property
    def input_shape(self) -> Shape:
        return (1, self.image, self.image, 3)

    def units(self) -> tuple[UnitShape, ...]:
        width, through = self.width, (1, self.tokens, self.width)
        embed = {
            "vit.embeddings.cls_token": (1, 1, width),
            "vit.embeddings.position_embeddings": (1, self.tokens, width),
            "vit.embeddings.patch_embeddings.projection.weight": (width, 3, self.patch, self.patch),
            "vit.embeddings.patch_embeddings.projection.bias": (width,),
        }
        head = {**_norm("vit.layernorm", width), **_linear("classifier", width, self.classes)}
        return (
            UnitShape("embed", embed, through),
            *(UnitShape(f"layer{i}", self._layer(f"vit.layers.{i}."), through) for i in range(self.layers)),
            UnitShape("head", head, (1, self.classes)),
        )

    def _layer(self, at: str) -> dict[str, Shape]:
        weights = _norm(at + "layernorm_before", self.width)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights |= _linear(f"{at}attention.{name}", self.width, self.width)
        weights |= _norm(at + "layernorm_after", self.width)
        weights |= _linear(at + "mlp.fc1", self.width, self.hidden)
        return weights | _linear(at + "mlp.fc2", self.hidden, self.width)


@dataclass(frozen=True, slots=True)
class MiniLmConfig:
    """A BERT-like encoder of sentences; weight names are those of transformers' BertModel without its pooler."""

    family: str
    vocabulary: int
    positions: int  # the longest sentence, in tokens
    width: int
    layers: int
    heads: int
    hidden: int
    pretrained: bool  # the weights of the installed package, else made from a seed
    tokens: int = 16  # what a profile assumes of a sentence
    norm_eps: float = 1e-12
    input_dtype: str = "int64"
    answer_class: OutputClass = "feature"  # an embedding can be turned back into much of its sentence

    @property
    def input_shape(self) -> Shape:
        return (1, -1)

    def units(self) -> tuple[UnitShape, ...]:
        width, through = self.width, (1, -1, self.width)
        embed = {
            "embeddings.word_embeddings.weight": (self.vocabulary, width),
            "embeddings.position_embeddings.weight": (self.positions, width),
            "embeddings.token_type_embeddings.weight": (2, width),
            **_norm("embeddings.LayerNorm", width),
        }
        return (
            UnitShape("embed", embed, through),
            *(UnitShape(f"layer{i}", self._layer(f"encoder.layer.{i}."), through) for i in range(self.layers)),
            UnitShape("pool", {}, (1, width)),
        )

    def _layer(self, at: str) -> dict[str, Shape]:
        weights: dict[str, Shape] = {}
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            weights |= _linear(f"{at}attention.{name}", self.width, self.width)
        weights |= _norm(at + "attention.output.LayerNorm", self.width)
        weights |= _linear(at + "intermediate.dense", self.width, self.hidden)
        weights |= _linear(at + "output.dense", self.hidden, self.width)
        return weights | _norm(at + "output.LayerNorm", self.width)


Config = VitConfig | MiniLmConfig


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


CONFIGS: Mapping[str, Config] = {
    config.family: config
    for config in (
        VitConfig("vit_b16", image=224, patch=16, width=768, layers=12, heads=12, classes=1000),
        VitConfig("vit_tiny", image=32, patch=8, width=64, layers=4, heads=4, classes=10),
        MiniLmConfig("minilm", 30522, positions=512, width=384, layers=6, heads=12, hidden=1536, pretrained=True),
        MiniLmConfig("minilm_tiny", 128, positions=64, width=64, layers=3, heads=4, hidden=256, pretrained=False),
    )
}


class UnknownFamily(ValueError):
    """No such model family; the message names those there are."""

    def __init__(self, family: str) -> None:
        super().__init__(f"no model family {family!r}: there are {', '.join(sorted(CONFIGS))}")


def config_of(family: str) -> Config:
    """Raises UnknownFamily."""
    if family not in CONFIGS:
        raise UnknownFamily(family)
    return CONFIGS[family]


def weight_shapes(family: str, first: int = 0, last: int | None = None) -> dict[str, Shape]:
    """Name and shape (all float32) of each weight of the units first..last-1, of all units when not told."""
    return {name: shape for unit in config_of(family).units()[first:last] for name, shape in unit.weights.items()}
