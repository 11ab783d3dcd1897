"""SmolLM2 out of its GGUF file: weights as plain float32 under transformers' names, and the tokeniser. No torch.

Rules: the file is read in the preparation outside, never on an emulated node. Its matrices are quantised (4 bits and an
offset, blocks of 32) and its rows of q and k are interleaved for another way of rotating: both are undone here.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nodes.models.decoders import LlamaConfig
from nodes.prepare.pretrained import smollm_file

Array = npt.NDArray[np.float32]
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # the kind of a token that no text contains


def weights(config: LlamaConfig) -> dict[str, Array]:
    """Raises NotInstalled."""
    from gguf import dequantize

    found = {}
    for tensor in _reader().tensors:
        array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if tensor.name.endswith("attn_q.weight"):
            array = halves(array, config.heads)
        elif tensor.name.endswith("attn_k.weight"):
            array = halves(array, config.groups)
        found[_name(tensor.name)] = np.ascontiguousarray(array)
    return found


def halves(rows: Array, heads: int) -> Array:
    """Rows (h d, inputs) of each head from the order 0, d/2, 1, d/2 + 1, ... to 0, 1, 2, ..."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def tokenise(text: str) -> list[int]:
    """The token ids of a text; nothing is put before or behind it. Raises NotInstalled."""
    ids: list[int] = _tokeniser().encode(text).ids
    return ids


def text(ids: list[int]) -> str:
    words: str = _tokeniser().decode(ids)
    return words


def _name(there: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    begin, _, rest = there.partition(".")
    if begin != "blk":
        return f"{OUTSIDE[begin]}.{rest}"
    layer, part, end = rest.split(".")
    return f"model.layers.{layer}.{INSIDE[part]}.{end}"


@lru_cache(maxsize=1)
def _reader() -> Any:
    from gguf import GGUFReader

    return GGUFReader(smollm_file())


@lru_cache(maxsize=1)
def _tokeniser() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    fields = _reader().fields
    words: list[str] = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([word for word, kind in zip(words, kinds, strict=True) if kind == CONTROL])
    return tokenizer
