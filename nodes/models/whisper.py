"""Whisper in plain torch functions, after Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision".

Read top-down: spectrogram -> encoder -> start of the text -> decoder -> scores of the next word. Shapes are in
comments for Whisper base: B = 1 half minute of sound, S = 1500 positions heard, D = 512 wide, h = 8 heads of d = 64, T
tokens: the 4 that a text begins with, or the next ones. `w` holds the weights under the names of transformers'
WhisperForConditionalGeneration; the scores use the decoder's table of words. Float32 throughout.

A decoder layer needs both what was heard and the tokens: at first both cross in one tensor, (B, S + T, D), what was
heard before the tokens. With a cache, a layer keeps its keys and values of what was heard, (B, h, S, d) each; after
that only (B, T, D) of the next tokens cross.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F

from nodes.models.cache import Cache
from nodes.models.chain import Chain, Weights, assemble
from nodes.models.decoders import WhisperConfig
from nodes.models.layers import attend, heads, joined, linear, norm, words

DECODER = "model.decoder."


def chain(config: WhisperConfig) -> Chain:
    encoder = [partial(encoder_layer, config, f"model.encoder.layers.{i}.") for i in range(config.layers)]
    decoder = [partial(decoder_layer, config, i) for i in range(config.layers)]
    return assemble(config, [embed, *encoder, partial(start, config), *decoder, partial(head, config)])


def embed(w: Weights, sound: torch.Tensor) -> torch.Tensor:
    """(B, 80, 2 S) -> (B, S, D)."""
    at = "model.encoder."
    x = F.gelu(F.conv1d(sound, w[at + "conv1.weight"], w[at + "conv1.bias"], padding=1))  # (B, D, 2 S)
    x = F.gelu(F.conv1d(x, w[at + "conv2.weight"], w[at + "conv2.bias"], stride=2, padding=1))  # (B, D, S)
    return x.transpose(1, 2).contiguous().add_(w[at + "embed_positions.weight"])


def encoder_layer(c: WhisperConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, S, D) -> (B, S, D)."""
    return mlp(c, at, w, hearing(c, at + "self_attn", w, x).add_(x))


def hearing(c: WhisperConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """Of all that is heard to all of it: (B, S, D) -> (B, S, D)."""
    x = norm(at + "_layer_norm", w, x, c.norm_eps)
    q, k, v = projected(c, at, w, x)
    return linear(at + ".out_proj", w, joined(F.scaled_dot_product_attention(q, k, v)))


def start(c: WhisperConfig, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """What was heard (B, S, D) -> it and the first tokens (B, S + T, D); later the next, int64 (B, T) -> (B, T, D)."""
    if x.dtype == torch.int64:
        return embed_tokens(c, w, x, cache)
    heard = norm("model.encoder.layer_norm", w, x, c.norm_eps)
    return torch.cat((heard, embed_tokens(c, w, torch.tensor([c.start]), cache)), dim=1)


def embed_tokens(c: WhisperConfig, w: Weights, ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    before = cache.length if cache else 0
    x = words(w[DECODER + "embed_tokens.weight"], c.positions, ids, before)
    if cache:
        cache.advance(ids.shape[1])
    return x.add_(w[DECODER + "embed_positions.weight"][before : before + ids.shape[1]])


def decoder_layer(c: WhisperConfig, i: int, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """(B, S + T, D) -> the same, the last layer (B, T, D); later (B, T, D) -> (B, T, D)."""
    at = f"{DECODER}layers.{i}."
    heard, x = (None, x) if cache and cache.length else (x[:, : c.frames], x[:, c.frames :])
    kept = what_was_heard(c, at + "encoder_attn", w, heard, cache)
    x = attention(c, at + "self_attn", w, x, cache).add_(x)
    x = listening(c, at + "encoder_attn", w, x, kept).add_(x)
    x = mlp(c, at, w, x)
    return torch.cat((heard, x), dim=1) if heard is not None and i + 1 < c.layers else x


def what_was_heard(
    c: WhisperConfig, at: str, w: Weights, heard: torch.Tensor | None, cache: Cache | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (B, h, S, d): of (B, S, D) when it comes, then out of the cache."""
    if heard is None:
        assert cache
        return cache.kept("heard_keys"), cache.kept("heard_values")
    k, v = (heads(linear(f"{at}.{name}", w, heard), c.heads) for name in ("k_proj", "v_proj"))
    if cache:
        cache.keep(heard_keys=k, heard_values=v)
    return k, v


def attention(c: WhisperConfig, at: str, w: Weights, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """Of tokens to those before them: (B, T, D) -> (B, T, D)."""
    x = norm(at + "_layer_norm", w, x, c.norm_eps)
    q, k, v = projected(c, at, w, x)
    if cache:
        k, v = cache.append(k, v)  # (B, h, n, d)
    return linear(at + ".out_proj", w, joined(attend(q, k, v)))


def listening(
    c: WhisperConfig, at: str, w: Weights, x: torch.Tensor, heard: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Of tokens to what was heard, its keys and values: (B, T, D) -> (B, T, D)."""
    k, v = heard
    q = heads(linear(at + ".q_proj", w, norm(at + "_layer_norm", w, x, c.norm_eps)), c.heads)
    return linear(at + ".out_proj", w, joined(F.scaled_dot_product_attention(q, k, v)))


def projected(c: WhisperConfig, at: str, w: Weights, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """(B, T, D) -> queries, keys and values, (B, h, T, d) each."""
    return (heads(linear(f"{at}.{name}", w, x), c.heads) for name in ("q_proj", "k_proj", "v_proj"))


def mlp(c: WhisperConfig, at: str, w: Weights, x: torch.Tensor) -> torch.Tensor:
    y = F.gelu(linear(at + "fc1", w, norm(at + "final_layer_norm", w, x, c.norm_eps)))  # 4 D wide
    return linear(at + "fc2", w, y).add_(x)


def head(c: WhisperConfig, w: Weights, x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) -> scores of what follows the last token (B, 51865)."""
    return F.linear(norm(DECODER + "layer_norm", w, x[:, -1], c.norm_eps), w[DECODER + "embed_tokens.weight"])
