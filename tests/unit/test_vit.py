"""Our ViT against transformers' with the same weights."""

import pytest
import torch

from nodes.models.config import config_of
from nodes.models.encoders import VitConfig
from nodes.prepare import inputs, weights
from nodes.runtime.slicing import cut, one_thread


def reference(family: str, made: dict[str, torch.Tensor]) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    c = config_of(family)
    assert isinstance(c, VitConfig)
    config = transformers.ViTConfig(
        hidden_size=c.width,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        intermediate_size=c.hidden,
        image_size=c.image,
        patch_size=c.patch,
        num_labels=c.classes,
    )
    with torch.device("meta"):
        model = transformers.ViTForImageClassification(config)
    model.load_state_dict(made, strict=True, assign=True)
    return model.eval()


@pytest.mark.parametrize("family", ["vit_tiny", "vit_b16"])
def test_same_scores_as_transformers(family: str, request: pytest.FixtureRequest) -> None:
    one_thread()
    made = request.getfixturevalue("full_weights") if family == "vit_b16" else weights.make(family, seed=0)
    model, ours = reference(family, made), cut(family, made)
    for i in range(2):
        picture = torch.from_numpy(inputs.make(family, 0, i))
        pixels = ((picture.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
        with torch.inference_mode():
            expected = model(pixels).logits
        error = (ours(picture) - expected).abs().max().item()
        assert error < 5e-6, f"largest error {error:.2e} of scores about {expected.std().item():.2f} wide"


def test_answers_depend_on_the_picture_and_on_the_seed() -> None:
    one_thread()
    first, second = (torch.from_numpy(inputs.make("vit_tiny", 0, i)) for i in range(2))
    model, other = cut("vit_tiny", weights.make("vit_tiny", 0)), cut("vit_tiny", weights.make("vit_tiny", 1))
    assert not torch.equal(model(first), model(second))
    assert not torch.equal(model(first), other(first))
    assert torch.equal(model(first), model(first.clone()))


def test_a_picture_is_left_as_it_was() -> None:
    picture = torch.from_numpy(inputs.make("vit_tiny", 0, 0))
    before = picture.clone()
    cut("vit_tiny", weights.make("vit_tiny", 0))(picture)
    assert torch.equal(picture, before)
