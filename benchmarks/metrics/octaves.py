"""Energy of the octaves of a waveform."""

import itertools
import math

import numpy as np

LOWEST_EDGE = 62.5
"""Lower edge of the lowest octave, in hertz. The highest of the seven octaves ends at 8 kHz."""
NUM_OCTAVES = 7

INAUDIBLE = -60.0
"""An octave further below the whole signal has no level, in decibels."""


def octave_levels(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Energies of the octaves from 62.5 Hz to 8 kHz.

    Args:
        waveform: ``(S,)``.
        sample_rate: in hertz, at least 16 kHz.

    Returns:
        Decibels, ``(7,)``; NaN for an octave that is more than 60 dB below the whole, and for silence.
    """
    if not waveform.any():
        return np.full(NUM_OCTAVES, math.nan)
    power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    edges = LOWEST_EDGE * 2.0 ** np.arange(NUM_OCTAVES + 1)
    bins = np.round(edges * len(waveform) / sample_rate).astype(int)
    energies = np.array([power[low:high].sum() for low, high in itertools.pairwise(bins)])
    audible = energies > power.sum() * 10 ** (INAUDIBLE / 10)
    return np.where(audible, 10 * np.log10(np.where(audible, energies, 1.0)), math.nan)
