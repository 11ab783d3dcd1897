"""The model families by name: which there are, and the weights of each; models of one's own are declared. No torch."""

from collections.abc import Mapping

from nodes.models.decoders import GptConfig, LlamaConfig, WhisperConfig
from nodes.models.described import DescribedConfig, described_config
from nodes.models.encoders import BertConfig, MobileNetConfig, VitConfig
from nodes.models.shapes import Shape

Config = VitConfig | MobileNetConfig | BertConfig | WhisperConfig | GptConfig | LlamaConfig | DescribedConfig
WHISPER_START = (50258, 50259, 50359, 50363)  # start of transcript, English, transcribe, no timestamps

CONFIGS: Mapping[str, Config] = {
    config.family: config
    for config in (
        VitConfig("vit_b16", image=224, patch=16, width=768, layers=12, heads=12, classes=1000),
        VitConfig("vit_tiny", image=32, patch=8, width=64, layers=4, heads=4, classes=10),
        MobileNetConfig("mobilenet_v2", image=224, classes=1001),
        MobileNetConfig("mobilenet_tiny", image=64, classes=10, width=0.25),
        BertConfig("bert_large", 30522, positions=512, width=1024, layers=24, heads=16, hidden=4096, pooling="first"),
        BertConfig("bert_tiny", 128, positions=64, width=64, layers=3, heads=4, hidden=256, pooling="first"),
        BertConfig(
            "minilm", 30522, positions=512, width=384, layers=6, heads=12, hidden=1536, pooling="mean", pretrained=True
        ),
        BertConfig("minilm_tiny", 128, positions=64, width=64, layers=3, heads=4, hidden=256, pooling="mean"),
        WhisperConfig(
            "whisper_base",
            80,
            frames=1500,
            positions=448,
            vocabulary=51865,
            width=512,
            layers=6,
            heads=8,
            start=WHISPER_START,
        ),
        WhisperConfig(
            "whisper_tiny",
            16,
            frames=50,
            positions=96,
            vocabulary=256,
            width=64,
            layers=2,
            heads=4,
            start=(1, 2, 3),
            spread=0.1,
        ),
        GptConfig("gpt2", 50257, positions=1024, width=768, layers=12, heads=12),
        GptConfig("gpt2_tiny", 256, positions=256, width=64, layers=3, heads=4, spread=0.1),
        LlamaConfig(
            "smollm2", 49152, positions=8192, width=576, layers=30, heads=9, groups=3, hidden=1536, pretrained=True
        ),
        LlamaConfig("llama_tiny", 256, positions=256, width=96, layers=3, heads=6, groups=3, hidden=256, spread=0.1),
    )
}


_declared: dict[str, Config] = {}  # named by all that they are, so that to declare one again changes nothing


def declare(description: str) -> Config:
    """Makes a model of one's own known to this process, as a family (nodes.models.described)."""
    config = described_config(description)
    return _declared.setdefault(config.family, config)


class UnknownFamily(ValueError):
    """No such model family; the message names those there are."""

    def __init__(self, family: str) -> None:
        super().__init__(f"no model family {family!r}: there are {', '.join(sorted(CONFIGS))}")


def config_of(family: str) -> Config:
    """Raises UnknownFamily."""
    config = CONFIGS.get(family) or _declared.get(family)
    if config is None:
        raise UnknownFamily(family)
    return config


def weight_shapes(family: str, first: int = 0, last: int | None = None) -> dict[str, Shape]:
    """Name and shape (all float32) of each weight of the units first..last-1, of all units when not told."""
    return {name: shape for unit in config_of(family).units()[first:last] for name, shape in unit.weights.items()}
