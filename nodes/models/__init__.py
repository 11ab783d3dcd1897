"""The model families: each an adapter of its own, imported only when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

from nodes.models.config import VitConfig, config_of

if TYPE_CHECKING:
    from nodes.models.chain import Chain


def chain_of(family: str) -> "Chain":
    """The chain of units of a family (nodes.models.config.CONFIGS); imports torch. Raises UnknownFamily."""
    config = config_of(family)
    adapter = "nodes.models.vit" if isinstance(config, VitConfig) else "nodes.models.minilm"
    chain: Chain = import_module(adapter).chain(config)
    return chain
