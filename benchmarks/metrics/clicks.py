"""Clicks at the edges of frames: discontinuities that repeat with the frame rate of a codec."""

import numpy as np
from scipy.ndimage import uniform_filter1d

PERIODS = 10.0, 40 / 3, 20.0, 40.0, 80.0
"""Frame lengths of codecs, in milliseconds: 100, 75, 50, 25 and 12.5 frames a second."""

_BIN = 5  # samples at 16 kHz: 0.3 ms
_CONTEXT = 320  # samples whose energy a sample is compared with: 20 ms
_LIMIT = 30.0  # largest energy of a sample, relative to its context: one crack is no repeated click


def click_levels(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels of clicks that repeat with each of :data:`PERIODS`.

    Second differences emphasise discontinuities. Their energy, relative to the 20 ms around, is folded at the period.

    Args:
        waveform: ``(S,)``, at least 0.2 s at 16 kHz.
        sample_rate: in hertz.

    Returns:
        For each period, the level of the loudest 0.3 ms of a frame relative to the median, in decibels.
    """
    energy = np.diff(waveform.astype(np.float64), 2) ** 2
    context = uniform_filter1d(energy, _CONTEXT)
    loud = context > 1e-4 * context.max()  # digital silence has no context
    relative = np.where(loud, np.minimum(energy / np.where(loud, context, 1.0), _LIMIT), 0.0)
    levels = []
    for period in PERIODS:
        samples = period * sample_rate / 1000
        count = round(samples / _BIN)
        places = np.floor(np.arange(len(relative)) % samples / samples * count).astype(np.intp)
        present = np.maximum(np.bincount(places, loud, count), 1)
        folded = np.bincount(places, relative, count) / present
        levels.append(10 * np.log10(max(folded.max(), 1e-9) / max(float(np.median(folded)), 1e-9)))
    return np.array(levels)
