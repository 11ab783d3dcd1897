"""The sizes of the families that give one answer in one pass: ViT, MobileNetV2, BERT. No torch."""

from dataclasses import dataclass
from typing import Literal

from nodes.models.shapes import OutputClass, Shape, UnitShape, linear, norm


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
    spread: float = 0.02
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
        head = {**norm("vit.layernorm", width), **linear("classifier", width, self.classes)}
        return (
            UnitShape("embed", embed, through),
            *(UnitShape(f"layer{i}", self._layer(f"vit.layers.{i}."), through) for i in range(self.layers)),
            UnitShape("head", head, (1, self.classes)),
        )

    def _layer(self, at: str) -> dict[str, Shape]:
        weights = norm(at + "layernorm_before", self.width)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights |= linear(f"{at}attention.{name}", self.width, self.width)
        weights |= norm(at + "layernorm_after", self.width)
        weights |= linear(at + "mlp.fc1", self.width, self.hidden)
        return weights | linear(at + "mlp.fc2", self.hidden, self.width)


@dataclass(frozen=True, slots=True)
class MobileNetConfig:
    """A convolutional network of inverted residuals; weight names are those of MobileNetV2ForImageClassification.

    A unit is a whole residual block, so a cut never lies under a skip connection.
    """

    family: str
    image: int  # pixels a side
    classes: int
    width: float = 1.0  # of all channels
    norm_eps: float = 1e-3
    spread: float = 0.02  # of the classifier; convolutions have their own, see weights.make
    tokens: int = 1
    input_dtype: str = "uint8"
    answer_class: OutputClass = "public"

    CHANNELS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
    STRIDES = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
    EXPANSION = 6
    FEATURES = 1280

    @property
    def input_shape(self) -> Shape:
        return (1, self.image, self.image, 3)

    @property
    def stem(self) -> int:
        return self._scaled(32)

    @property
    def channels(self) -> tuple[int, ...]:
        """Behind the stem and behind each block."""
        return tuple(self._scaled(count) for count in self.CHANNELS)

    @property
    def sides(self) -> tuple[int, ...]:
        """Pixels a side, behind the stem and behind each block."""
        sides = [-(-self.image // 2)]
        for stride in self.STRIDES:
            sides.append(-(-sides[-1] // stride))
        return tuple(sides)

    def units(self) -> tuple[UnitShape, ...]:
        at, channels, maps = "mobilenet_v2.", self.channels, self._maps()
        stem = _convolution(at + "conv_stem.first_conv", 3, self.stem, 3)
        stem |= _convolution(at + "conv_stem.conv_3x3", 1, self.stem, 3)
        stem |= _convolution(at + "conv_stem.reduce_1x1", self.stem, channels[0], 1)
        return (
            UnitShape("stem", stem, maps[0]),
            *(UnitShape(f"block{i}", self._block(i), maps[i + 1]) for i in range(len(self.STRIDES))),
            UnitShape("features", _convolution(at + "conv_1x1", channels[-1], self.FEATURES, 1), (1, self.FEATURES)),
            UnitShape("head", linear("classifier", self.FEATURES, self.classes), (1, self.classes)),
        )

    def _maps(self) -> list[Shape]:
        return [(1, count, side, side) for count, side in zip(self.channels, self.sides, strict=True)]

    def _block(self, i: int) -> dict[str, Shape]:
        at, inside = f"mobilenet_v2.layer.{i}.", self.EXPANSION * self.channels[i]
        weights = _convolution(at + "expand_1x1", self.channels[i], inside, 1)
        weights |= _convolution(at + "conv_3x3", 1, inside, 3)
        return weights | _convolution(at + "reduce_1x1", inside, self.channels[i + 1], 1)

    def _scaled(self, count: int) -> int:
        """To a multiple of 8, never more than a tenth below what was asked."""
        asked = round(count * self.width)
        near = max(8, (asked + 4) // 8 * 8)
        return near if near >= 0.9 * asked else near + 8


def _convolution(name: str, inputs: int, outputs: int, side: int) -> dict[str, Shape]:
    """A convolution without bias, and the batch norm behind it."""
    weights: dict[str, Shape] = {f"{name}.convolution.weight": (outputs, inputs, side, side)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        weights[f"{name}.normalization.{part}"] = (outputs,)
    return weights


@dataclass(frozen=True, slots=True)
class BertConfig:
    """An encoder of sentences; weight names are those of transformers' BertModel.

    `pooling`: `mean` of the tokens, brought to length 1 (MiniLM), or `first`: BERT's own pooler over CLS.
    """

    family: str
    vocabulary: int
    positions: int  # the longest sentence, in tokens
    width: int
    layers: int
    heads: int
    hidden: int
    pooling: Literal["mean", "first"]
    pretrained: bool = False  # the weights of the installed package, else made from a seed
    spread: float = 0.02
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
            **norm("embeddings.LayerNorm", width),
        }
        pool = linear("pooler.dense", width, width) if self.pooling == "first" else {}
        return (
            UnitShape("embed", embed, through),
            *(UnitShape(f"layer{i}", self._layer(f"encoder.layer.{i}."), through) for i in range(self.layers)),
            UnitShape("pool", pool, (1, width)),
        )

    def _layer(self, at: str) -> dict[str, Shape]:
        weights: dict[str, Shape] = {}
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            weights |= linear(f"{at}attention.{name}", self.width, self.width)
        weights |= norm(at + "attention.output.LayerNorm", self.width)
        weights |= linear(at + "intermediate.dense", self.width, self.hidden)
        weights |= linear(at + "output.dense", self.hidden, self.width)
        return weights | norm(at + "output.LayerNorm", self.width)
