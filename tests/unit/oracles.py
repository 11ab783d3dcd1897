"""The models of transformers with our weights: what every adapter is measured by."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from nodes.models.config import config_of, weight_shapes
from nodes.models.decoders import GptConfig, LlamaConfig, WhisperConfig
from nodes.models.encoders import BertConfig, MobileNetConfig, VitConfig

SMALL = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "positions.weight", "wpe.weight")
Weights = Mapping[str, torch.Tensor]
transformers = pytest.importorskip("transformers")


def lively(family: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights none of which is 0 or 1 (in made ones, norms and biases are), and of a size that keeps signals alive."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in weight_shapes(family).items():
        drawn = torch.empty(shape).uniform_(-1, 1, generator=generator)
        if name.endswith(".running_var") or (name.endswith(".weight") and ("norm" in name.lower() or ".ln_" in name)):
            made[name] = drawn.mul_(0.3).add_(1)
        elif len(shape) == 1 or name.endswith(SMALL):
            made[name] = drawn.mul_(0.1)
        else:
            inputs = shape[0] if ".h." in name else int(np.prod(shape[1:]))
            made[name] = drawn.mul_((4.5 / inputs) ** 0.5)
    return made


def model_of(family: str, weights: Weights) -> torch.nn.Module:
    """The very tensors of `weights`, not copies."""
    c = config_of(family)
    kind, config, tied = _described(c)
    with torch.device("meta"):
        model = kind(config)
    state = dict(weights)
    if tied:
        state[tied[0]] = state[tied[1]]
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    if tied:
        model.tie_weights()
    if isinstance(c, LlamaConfig):  # its angles are no weights, nor are the indices of BERT
        model.model.rotary_emb = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    if isinstance(c, BertConfig):
        model.embeddings.position_ids = torch.arange(c.positions)[None]
        model.embeddings.token_type_ids = torch.zeros(1, c.positions, dtype=torch.int64)
    return model.eval()


def _described(c):
    t = transformers
    if isinstance(c, VitConfig):
        sizes = {"hidden_size": c.width, "num_hidden_layers": c.layers, "num_attention_heads": c.heads}
        sizes |= {"image_size": c.image, "patch_size": c.patch, "intermediate_size": c.hidden, "num_labels": c.classes}
        return t.ViTForImageClassification, t.ViTConfig(**sizes), None
    if isinstance(c, MobileNetConfig):
        config = t.MobileNetV2Config(image_size=c.image, depth_multiplier=c.width, num_labels=c.classes)
        return t.MobileNetV2ForImageClassification, config, None
    if isinstance(c, BertConfig):
        sizes = {"hidden_size": c.width, "num_hidden_layers": c.layers, "num_attention_heads": c.heads}
        sizes |= {"intermediate_size": c.hidden, "max_position_embeddings": c.positions, "vocab_size": c.vocabulary}
        config = t.BertConfig(**sizes)
        return lambda config: t.BertModel(config, add_pooling_layer=c.pooling == "first"), config, None
    if isinstance(c, GptConfig):
        config = t.GPT2Config(
            vocab_size=c.vocabulary,
            n_positions=c.positions,
            n_embd=c.width,
            n_layer=c.layers,
            n_head=c.heads,
            bos_token_id=0,
            eos_token_id=0,
        )
        return t.GPT2LMHeadModel, config, ("lm_head.weight", "transformer.wte.weight")
    if isinstance(c, LlamaConfig):
        config = t.LlamaConfig(
            vocab_size=c.vocabulary,
            hidden_size=c.width,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.groups,
            intermediate_size=c.hidden,
            max_position_embeddings=c.positions,
            rms_norm_eps=c.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
            tie_word_embeddings=True,
        )
        return t.LlamaForCausalLM, config, ("lm_head.weight", "model.embed_tokens.weight")
    assert isinstance(c, WhisperConfig)
    config = t.WhisperConfig(
        vocab_size=c.vocabulary,
        num_mel_bins=c.mels,
        d_model=c.width,
        encoder_layers=c.layers,
        decoder_layers=c.layers,
        encoder_attention_heads=c.heads,
        decoder_attention_heads=c.heads,
        encoder_ffn_dim=c.hidden,
        decoder_ffn_dim=c.hidden,
        max_source_positions=c.frames,
        max_target_positions=c.positions,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    return t.WhisperForConditionalGeneration, config, ("proj_out.weight", "model.decoder.embed_tokens.weight")


def answer_of(family: str, weights: Weights) -> Callable[[torch.Tensor], torch.Tensor]:
    """What transformers answers to an input of nodes.prepare.inputs: scores (of the last token), or the vector."""
    c, model = config_of(family), model_of(family, weights)

    def answer(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            if isinstance(c, VitConfig | MobileNetConfig):
                return model(((x.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)).logits
            if isinstance(c, WhisperConfig):
                return model(x, decoder_input_ids=torch.tensor([c.start])).logits[:, -1]
            if isinstance(c, BertConfig):
                out = model(x)
                mean = torch.nn.functional.normalize(out.last_hidden_state.mean(1), dim=1)
                return out.pooler_output if c.pooling == "first" else mean
            return model(x).logits[:, -1]

    return answer


def continuation_of(family: str, weights: Weights, x: torch.Tensor, count: int) -> list[int]:
    """The tokens that transformers' own greedy `generate` puts behind the input (Whisper: behind its start)."""
    c, model = config_of(family), model_of(family, weights)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=count, min_new_tokens=count, pad_token_id=0, use_cache=True,
        decoder_start_token_id=0 if isinstance(c, WhisperConfig) else None,
    )  # fmt: skip
    with torch.inference_mode():
        if isinstance(c, WhisperConfig):  # without the rules of its own about which tokens may follow
            start = torch.tensor([c.start])
            found = transformers.GenerationMixin.generate(model, x, decoder_input_ids=start)
            return found[0, len(c.start) :].tolist()
        return model.generate(x, attention_mask=torch.ones_like(x))[0, x.shape[1] :].tolist()


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, over the largest value."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
