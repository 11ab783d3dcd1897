"""What the phones send: camera-like frames, English sentences, sound; the same for the same seed. No torch.

Rules: input i of a seed depends on nothing else; frames of one seed show one scene as it moves on.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nodes.models.config import UnknownFamily, config_of
from nodes.models.decoders import GptConfig, LlamaConfig, WhisperConfig
from nodes.models.described import DescribedConfig
from nodes.models.encoders import BertConfig, MobileNetConfig, VitConfig
from nodes.prepare import smollm
from nodes.prepare.audio import HOP, sound, spectrogram

Input = npt.NDArray[np.uint8] | npt.NDArray[np.int64] | npt.NDArray[np.float32]

FRAMES_A_LOOP = 256  # after so many frames a moving rectangle is back where it began
NOISE = 6  # of 255
RECTANGLES = 5
BERT_VOCABULARY = 30522  # of MiniLM and of BERT without capitals
SPELT_BLANKS = 188  # where bytes 0..32 begin in GPT-2's vocabulary

# neighbours (0 and 1, 2 and 3, ...) are about the same thing
SENTENCES = (
    "The ambulance is four minutes away from the crossing at the old bridge.",
    "An emergency vehicle will reach the junction by the bridge in about four minutes.",
    "Two cyclists are waiting at the red light on the left side of the road.",
    "On the left, a pair of people on bicycles have stopped because the signal is red.",
    "The drone has lost sight of the truck behind the row of trees.",
    "Trees now hide the lorry that the drone was following.",
    "Please turn the heating in the meeting room down by two degrees.",
    "Could you make the conference room a little cooler?",
    "My suitcase did not arrive with the flight from Lisbon this morning.",
    "The airline has lost my luggage on the way from Portugal.",
    "A thin layer of ice covers the platform, so watch your step.",
    "Careful, the station floor is frozen and slippery.",
    "The goalkeeper saved the penalty in the last second of the match.",
    "Just before the final whistle the keeper stopped a spot kick.",
    "How much sugar do I need for a cake that serves twelve people?",
    "What quantity of sugar goes into a cake for a dozen guests?",
    "The robot arm on line three stops whenever the belt speeds up.",
    "Each time the conveyor runs faster, the third manipulator halts.",
    "Patients with a fever should drink more water than usual.",
    "If your temperature is high, take plenty of fluids.",
    "The museum opens an hour later on the first Sunday of every month.",
    "On one Sunday a month visitors may enter the museum only from eleven.",
    "Her new novel tells the story of a lighthouse keeper and his three daughters.",
    "The book she has just published is about a man who tends a lighthouse and raises his girls there.",
    "The antenna on the roof points a few degrees too far to the north.",
    "Someone should turn the rooftop aerial slightly southwards.",
    "Wheat prices rose again after a dry spring in most of the region.",
    "A lack of rain has made grain more expensive once more.",
    "The children built a castle of wet sand before the tide came in.",
    "By the sea, the kids raised a fortress of sand until the water took it.",
    "Which bus should I take from the harbour to the university hospital?",
    "How do I get by public transport from the port to the clinic of the university?",
)


def make(family: str, seed: int, index: int) -> Input:
    """Input `index` as the model takes it: uint8 (1, H, W, 3), int64 (1, T) or float32 (1, mels, frames).

    Raises UnknownFamily, NotInstalled.
    """
    config = config_of(family)
    if isinstance(config, DescribedConfig):  # a model of one's own brings its inputs
        raise UnknownFamily(family)
    if isinstance(config, VitConfig | MobileNetConfig):
        return frame(seed, index, config.image, config.image)[np.newaxis]
    if isinstance(config, WhisperConfig):
        return spectrogram(sound(seed, index, 2 * config.frames * HOP), config.mels)[np.newaxis]
    return np.array([_tokens(config, seed, index)], dtype=np.int64)


def text(family: str, words: str) -> Input:
    """A text as the model takes it, int64 (1, T). Raises UnknownFamily, NotInstalled; UnicodeError beside ASCII."""
    config = config_of(family)
    ids = smollm.tokenise(words) if isinstance(config, LlamaConfig) and config.pretrained else spelt(words)
    return np.array([ids], dtype=np.int64)


def frame(seed: int, index: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Frame `index` of a scene, uint8 (height, width, 3): a slope of light, moving rectangles, sensor noise."""
    scene = np.random.default_rng([seed, 0])
    corners = scene.integers(0, 256, size=(2, 2, 3))  # the colours of the four corners
    y = np.arange(height).reshape(-1, 1, 1) * 256 // height
    x = np.arange(width).reshape(1, -1, 1) * 256 // width
    upper = corners[0, 0] * (256 - x) + corners[0, 1] * x
    lower = corners[1, 0] * (256 - x) + corners[1, 1] * x
    picture = (upper * (256 - y) + lower * y) >> 16  # (H, W, 3) of 0..255
    for _ in range(RECTANGLES):
        top, left, down, right = scene.integers(0, 256, size=4)
        tall, wide = scene.integers(24, 96, size=2)
        # whole rounds in a loop, so that nothing jumps at its end
        top = (top + (down % 5 - 2) * index * 256 // FRAMES_A_LOOP) % 256
        left = (left + (right % 7 - 3) * index * 256 // FRAMES_A_LOOP) % 256
        inside = ((y - top) % 256 < tall) & ((x - left) % 256 < wide)
        picture = np.where(inside, scene.integers(0, 256, size=3), picture)
    noise = np.random.default_rng([seed, 1, index]).integers(-NOISE, NOISE + 1, size=picture.shape)
    seen: npt.NDArray[np.uint8] = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return seen


def sentence(seed: int, index: int) -> str:
    """Sentence `index`: all of them in an order of the seed's, then again."""
    order = np.random.default_rng([seed, 2]).permutation(len(SENTENCES))
    return SENTENCES[order[index % len(SENTENCES)]]


def tokenise(text: str) -> list[int]:
    """MiniLM's token ids of a text, CLS and SEP included."""
    ids: list[int] = _tokeniser()(text)
    return ids


@lru_cache(maxsize=1)
def _tokeniser() -> Callable[[str], list[int]]:
    # only the preparation outside tokenises, the emulated nodes get ids
    from tokenizers import Tokenizer

    from nodes.prepare.pretrained import minilm_folder

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: list(tokenizer.encode(text).ids)


def _tokens(config: BertConfig | GptConfig | LlamaConfig, seed: int, index: int) -> list[int]:
    if isinstance(config, GptConfig):
        return spelt(sentence(seed, index))
    if isinstance(config, LlamaConfig):
        text = sentence(seed, index)
        return smollm.tokenise(text) if config.pretrained else spelt(text)
    if config.vocabulary == BERT_VOCABULARY:
        return tokenise(sentence(seed, index))[: config.positions]
    random = np.random.default_rng([seed, 3, index])  # the small model speaks no language
    return [int(i) for i in random.integers(0, config.vocabulary, size=random.integers(8, 24))]


def spelt(text: str) -> list[int]:
    """A text of ASCII in GPT-2's tokens of one byte each: the first 256 of its vocabulary, printable ones first."""
    return [byte - ord("!") if byte > ord(" ") else byte + SPELT_BLANKS for byte in text.encode("ascii")]
