"""Synthetic voices with a known pitch, tilt and level."""

import numpy as np

RATE = 16_000


def make_voice(pitch, seconds: float = 1.0, tilt: float = -9.0, rate: int = RATE, low: float = 0.0) -> np.ndarray:
    """Harmonics of a pitch, float32 ``(S,)``.

    Args:
        pitch: hertz, or a function of the time in seconds.
        seconds: duration.
        tilt: decibels per octave.
        rate: sample rate, in hertz.
        low: the lowest frequency that is not cut off, in hertz.
    """
    t = np.arange(round(seconds * rate)) / rate
    hertz = np.full(len(t), float(pitch)) if np.isscalar(pitch) else pitch(t)
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    audio = np.zeros(len(t))
    for k in range(1, int(0.48 * rate / hertz.min())):
        heard = (k * hertz < 0.48 * rate) & (k * hertz > low)
        audio += heard * 10 ** (tilt / 20 * np.log2(k)) * np.sin(k * phase + 0.7 * k * k)
    return (0.3 * audio / np.abs(audio).max()).astype(np.float32)


def make_noise(seconds: float, level: float = -20.0, seed: int = 0) -> np.ndarray:
    """White noise at ``level`` decibels of full scale, float32 ``(S,)``."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (10 ** (level / 20) * samples).clip(-1, 1).astype(np.float32)
