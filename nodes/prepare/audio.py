"""Sound that phones record: something like speech, the same for the same seed, and its spectrogram. No torch.

Rules: sound `index` of a seed depends on nothing else. The spectrogram is Whisper's: 25 ms windows every 10 ms,
mel bands, the logarithm cut off 80 dB below the loudest.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

RATE_HZ = 16_000
WINDOW, HOP = 400, 160  # samples
SYLLABLE = RATE_HZ // 5
HARMONICS = 12
FLOOR = 1e-10
LINEAR_HZ, LINEAR_STEP_HZ = 1000.0, 200 / 3  # mels are linear below, logarithmic above
LOG_STEP = np.log(6.4) / 27


def sound(seed: int, index: int, samples: int) -> npt.NDArray[np.float32]:
    """(samples,) of about -1..1: syllables of a gliding voice with two formants each, a pause now and then, hiss."""
    random = np.random.default_rng([seed, 4, index])
    count = -(-samples // SYLLABLE)
    pitch = np.interp(
        np.arange(count * SYLLABLE) / SYLLABLE, np.arange(count + 1), random.uniform(90, 240, size=count + 1)
    )
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    formants = random.uniform((300, 900), (900, 2800), size=(count, 2)).repeat(SYLLABLE // HOP, axis=0)
    voice = np.zeros(count * SYLLABLE)
    for n in range(1, HARMONICS + 1):
        near = np.exp(-(((n * pitch[::HOP])[:, None] - formants) ** 2) / 2e5).sum(axis=1)
        voice += near.repeat(HOP) * np.sin(n * phase)
    spoken = (random.random(count) < 0.8).repeat(SYLLABLE)
    envelope = np.tile(np.sin(np.pi * np.arange(SYLLABLE) / SYLLABLE), count)
    heard: npt.NDArray[np.float64] = 0.1 * voice * envelope * spoken + 0.001 * random.standard_normal(count * SYLLABLE)
    return heard[:samples].astype(np.float32)


def spectrogram(samples: npt.NDArray[np.float32], mels: int) -> npt.NDArray[np.float32]:
    """(n,) -> (mels, n / HOP) of about -1..1."""
    padded = np.pad(samples.astype(np.float64), WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(samples) // HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2  # (frames, WINDOW / 2 + 1)
    level = np.log10(np.maximum(bands(mels) @ power.T, FLOOR))
    level = (np.maximum(level, level.max() - 8.0) + 4.0) / 4.0
    return np.ascontiguousarray(level, dtype=np.float32)


@lru_cache
def bands(mels: int) -> npt.NDArray[np.float64]:
    """(mels, WINDOW / 2 + 1): triangles of equal area between neighbours on the mel scale, 0 to 8 kHz."""
    corners = _hertz(np.linspace(0.0, _mel(RATE_HZ / 2), mels + 2))
    frequencies = np.linspace(0.0, RATE_HZ / 2, WINDOW // 2 + 1)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - low) / (peak - low), (high - frequencies) / (high - peak)
    triangles: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * 2 / (high - low)
    return triangles


def _mel(hertz: float) -> float:
    """Of a frequency above LINEAR_HZ."""
    return float(LINEAR_HZ / LINEAR_STEP_HZ + np.log(hertz / LINEAR_HZ) / LOG_STEP)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    bend = LINEAR_HZ / LINEAR_STEP_HZ
    above = LINEAR_HZ * np.exp(LOG_STEP * (np.maximum(mel, bend) - bend))
    hertz: npt.NDArray[np.float64] = np.where(mel < bend, LINEAR_STEP_HZ * mel, above)
    return hertz
