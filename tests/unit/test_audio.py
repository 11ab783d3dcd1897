"""Sound: the same for the same seed, and its spectrogram that of transformers."""

import numpy as np
import pytest

from nodes.prepare.audio import RATE_HZ, sound, spectrogram


@pytest.mark.parametrize(("mels", "seconds"), [(80, 30), (16, 1)])
def test_spectrogram_is_that_of_whispers_processor(mels: int, seconds: int) -> None:
    transformers = pytest.importorskip("transformers")
    heard = sound(0, 1, seconds * RATE_HZ)
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels, chunk_length=seconds)
    theirs = extractor(heard, sampling_rate=RATE_HZ, return_tensors="np").input_features[0]
    ours = spectrogram(heard, mels)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (mels, 100 * seconds)
    assert np.abs(ours - theirs).max() < 1e-4
    assert ours.std() > 0.1  # neither silence nor noise


def test_sounds_are_of_their_seed_and_index() -> None:
    first = sound(3, 0, RATE_HZ)
    assert (sound(3, 0, RATE_HZ) == first).all()
    assert np.abs(first).max() < 1.0
    for other in (sound(3, 1, RATE_HZ), sound(4, 0, RATE_HZ)):
        assert np.abs(other - first).max() > 0.01
