"""Where the weights of a family lie, made or not. No torch."""

from pathlib import Path

from nodes.models.config import config_of
from nodes.models.decoders import LlamaConfig
from nodes.models.encoders import BertConfig

VERSION = 1  # of what is written; a change of names, order or distribution needs a new one


def packaged(family: str) -> bool:
    """Whether an installed package has them; else they are made from a seed. Raises UnknownFamily."""
    config = config_of(family)
    return isinstance(config, BertConfig | LlamaConfig) and config.pretrained


def weights_path(family: str, seed: int, cache_dir: Path) -> Path:
    """Raises UnknownFamily."""
    made_from = "" if packaged(family) else f"-seed{seed}"
    return cache_dir / f"{family}-v{VERSION}{made_from}.safetensors"
