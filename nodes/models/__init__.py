"""The model families: each an adapter of its own, imported only when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

from nodes.models.config import config_of
from nodes.models.decoders import GptConfig, LlamaConfig, WhisperConfig
from nodes.models.described import DescribedConfig
from nodes.models.encoders import BertConfig, MobileNetConfig, VitConfig

if TYPE_CHECKING:
    from nodes.models.chain import Chain

ADAPTERS = {
    VitConfig: "vit",
    MobileNetConfig: "mobilenet",
    BertConfig: "bert",
    WhisperConfig: "whisper",
    GptConfig: "gpt2",
    LlamaConfig: "llama",
    DescribedConfig: "own",
}


def chain_of(family: str) -> "Chain":
    """The chain of units of a family (nodes.models.config.CONFIGS); imports torch. Raises UnknownFamily."""
    config = config_of(family)
    chain: Chain = import_module(f"nodes.models.{ADAPTERS[type(config)]}").chain(config)
    return chain
