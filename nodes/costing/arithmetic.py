"""FLOPs and working bytes of each unit of a family, and FLOPs of the next tokens of a generation. Pure, no torch.

Rules: FLOPs are those of matrix products and convolutions, 2 per multiply-add; working bytes are the most that is
alive at once inside a unit, its input and output included. `costs` are of one pass over the whole input; `growth` of
a step that goes on from a cache.
"""

from dataclasses import dataclass

from nodes.models.config import Config
from nodes.models.decoders import GptConfig, LlamaConfig, WhisperConfig
from nodes.models.described import DescribedConfig
from nodes.models.encoders import BertConfig, MobileNetConfig, VitConfig

FLOAT_BYTES = 4
ITEM_BYTES = {"uint8": 1, "int64": 8, "float32": FLOAT_BYTES}
Costs = list[tuple[int, int]]  # FLOPs and working bytes of each unit


@dataclass(frozen=True, slots=True)
class Growth:
    """FLOPs of a step: once, of each next token, and of each pair of a next token and one that it may see."""

    once: int = 0
    token: int = 0
    pair: int = 0


def costs(config: Config, tokens: int) -> Costs:  # noqa: PLR0911 - one a family
    """`tokens`: of the text, where there is one."""
    match config:
        case VitConfig():
            return _vit(config)
        case MobileNetConfig():
            return _mobilenet(config)
        case BertConfig():
            return _bert(config, tokens)
        case WhisperConfig():
            return _whisper(config)
        case GptConfig():
            return _gpt(config, tokens)
        case LlamaConfig():
            return _llama(config, tokens)
        case DescribedConfig():
            return [(unit.flops, unit.working_bytes) for unit in config.made]


def _attention(tokens: int, seen: int, width: int) -> int:
    """Scores, and their mix of the values."""
    return 2 * 2 * tokens * seen * width


def _layer(tokens: int, width: int, hidden: int) -> tuple[int, int]:
    """Of attention among all tokens and a feed-forward part."""
    projections = 4 * 2 * tokens * width * width  # q, k, v, o
    feed_forward = 2 * 2 * tokens * width * hidden
    attending = 6 * tokens * width  # input, its norm, q, k, v and the mix
    feeding = 3 * tokens * width + 2 * tokens * hidden  # input, residual, its norm; what goes into the GELU and out
    flops = projections + _attention(tokens, tokens, width) + feed_forward
    return flops, FLOAT_BYTES * max(attending, feeding)


def _vit(c: VitConfig) -> Costs:
    patches, pixels = c.tokens - 1, 3 * c.image * c.image
    embed_flops = 2 * pixels * c.width  # each pixel value meets `width` weights once
    embed_working = pixels + FLOAT_BYTES * max(2 * pixels, pixels + (patches + c.tokens) * c.width)
    head_flops = 2 * c.width * c.classes
    head_working = FLOAT_BYTES * (c.tokens * c.width + c.width + c.classes)
    layers = [_layer(c.tokens, c.width, c.hidden)] * c.layers
    return [(embed_flops, embed_working), *layers, (head_flops, head_working)]


def _mobilenet(c: MobileNetConfig) -> Costs:
    pixels, area = 3 * c.image * c.image, c.sides[0] ** 2
    stem_flops = 2 * area * (27 * c.stem + 9 * c.stem + c.stem * c.channels[0])
    stem_working = pixels + FLOAT_BYTES * max(2 * pixels + 2 * area * c.stem, 3 * area * c.stem)
    blocks = [_block(c, i) for i in range(len(c.STRIDES))]
    last, side = c.channels[-1], c.sides[-1]
    features = (2 * side**2 * last * c.FEATURES, FLOAT_BYTES * side**2 * (last + 2 * c.FEATURES))
    head = (2 * c.FEATURES * c.classes, FLOAT_BYTES * (c.FEATURES + c.classes))
    return [(stem_flops, stem_working), *blocks, features, head]


def _block(c: MobileNetConfig, i: int) -> tuple[int, int]:
    inputs, outputs, side, after = c.channels[i], c.channels[i + 1], c.sides[i], c.sides[i + 1]
    inside = c.EXPANSION * inputs
    flops = 2 * (side**2 * inputs * inside + after**2 * 9 * inside + after**2 * inside * outputs)
    padded = (side + (2 if c.STRIDES[i] == 1 else 1)) ** 2
    wide = inside * max(2 * side**2, side**2 + padded + after**2)  # before and behind a norm; a border in between
    return flops, FLOAT_BYTES * (inputs * side**2 + wide)


def _bert(c: BertConfig, tokens: int) -> Costs:
    embed_working = ITEM_BYTES["int64"] * tokens + FLOAT_BYTES * 2 * tokens * c.width
    pool_flops = 2 * c.width * c.width if c.pooling == "first" else 0
    pool_working = FLOAT_BYTES * (tokens + 2) * c.width
    layers = [_layer(tokens, c.width, c.hidden)] * c.layers
    return [(0, embed_working), *layers, (pool_flops, pool_working)]


def _gpt(c: GptConfig, tokens: int) -> Costs:
    flops, _ = _layer(tokens, c.width, c.hidden)
    attending = 6 * tokens * c.width
    feeding = 3 * tokens * c.width + 2 * tokens * c.hidden
    embed = (0, ITEM_BYTES["int64"] * tokens + FLOAT_BYTES * tokens * c.width)
    layer = (flops, FLOAT_BYTES * max(attending, feeding))
    return [embed, *[layer] * c.layers, _head(tokens, c.width, c.vocabulary)]


def _llama(c: LlamaConfig, tokens: int) -> Costs:
    kv = c.groups * c.head_width
    projections = 2 * 2 * tokens * c.width * (c.width + kv)  # q and o, k and v
    flops = projections + _attention(tokens, tokens, c.width) + 3 * 2 * tokens * c.width * c.hidden
    attending = 4 * tokens * c.width + 2 * tokens * kv
    feeding = 3 * tokens * c.width + 2 * tokens * c.hidden  # the gate and what passes it
    embed = (0, ITEM_BYTES["int64"] * tokens + FLOAT_BYTES * tokens * c.width)
    layer = (flops, FLOAT_BYTES * max(attending, feeding))
    return [embed, *[layer] * c.layers, _head(tokens, c.width, c.vocabulary)]


def _head(tokens: int, width: int, vocabulary: int) -> tuple[int, int]:
    """The scores of what follows the last token."""
    return 2 * width * vocabulary, FLOAT_BYTES * (tokens * width + width + vocabulary)


def _whisper(c: WhisperConfig) -> Costs:
    heard, tokens, width = c.frames, c.tokens, c.width
    embed_flops = 2 * 3 * width * (2 * heard * c.mels + heard * width)
    embed_working = FLOAT_BYTES * 2 * heard * (c.mels + 2 * width)  # the first convolution, and what its GELU gives
    encoder = [_layer(heard, width, c.hidden)] * c.layers
    start = (0, FLOAT_BYTES * width * (3 * heard + 2 * tokens))
    own, _ = _layer(tokens, width, c.hidden)
    listening = 2 * 2 * width * width * (heard + tokens) + _attention(tokens, heard, width)  # k, v and q, o
    kept = width * (3 * heard + tokens)  # what comes in, keys and values of what was heard
    decoder = (own + listening, FLOAT_BYTES * (kept + 5 * tokens * width + width * (heard + tokens)))
    last = (own + listening, FLOAT_BYTES * (kept + tokens * (3 * width + 2 * c.hidden)))
    layers = [decoder] * (c.layers - 1)
    return [(embed_flops, embed_working), *encoder, start, *layers, last, _head(tokens, width, c.vocabulary)]


def growth(config: Config) -> list[Growth | None]:
    """Of each unit; None for one that has no part in generating.

    A token is counted with all that have been seen, those of its own step included: a mask saves no product.
    """
    match config:
        case GptConfig():
            layer = _growing(4 * config.width, config.width, 2 * config.hidden)
            units = [Growth(), *[layer] * config.layers]
        case LlamaConfig():
            kv = config.groups * config.head_width
            layer = _growing(2 * (config.width + kv), config.width, 3 * config.hidden)
            units = [Growth(), *[layer] * config.layers]
        case WhisperConfig():
            heard = 2 * config.width + 2 * config.frames  # q and o; the scores of what was heard, and their mix
            layer = _growing(4 * config.width + heard, config.width, 2 * config.hidden)
            units = [Growth(), *[layer] * config.layers]
        case _:
            return [None] * len(config.units())
    return [*[None] * config.enters, *units, Growth(once=2 * config.width * config.vocabulary)]


def _growing(attending: int, width: int, feeding: int) -> Growth:
    """Of a layer: multiply-adds of a token by width; of a pair the score and its part of the mix."""
    return Growth(token=2 * width * (attending + feeding), pair=2 * 2 * width)
