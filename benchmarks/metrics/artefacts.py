"""Artefacts that spectral distances and PESQ miss: buzz, and energy lost or added above 4 kHz."""

import math

import numpy as np

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech

MIN_SECONDS = 0.2
"""Shorter waveforms have no value of :func:`comb_excess`."""
HIGH_BAND = 4_000.0
"""Lower edge of the band whose energy is compared, in hertz."""


def comb_excess(original: Speech, decoded: Speech) -> Value:
    """How far a comb stands out above 3 kHz, compared with the original, in decibels.

    The excess at a period is the level of the decoded waveform minus that of the original
    (:func:`benchmarks.metrics.comb.comb_levels`); the largest one of all periods from 40 to 800 Hz counts.
    """
    pair = original.waveform, decoded.waveform
    if any(len(x) < MIN_SECONDS * SAMPLE_RATE or not x.any() for x in pair):
        return math.nan, 1.0
    return float((decoded.comb_levels - original.comb_levels).max()), 1.0


def high_band_difference(original: Speech, decoded: Speech) -> Value:
    """Absolute difference of the energies above 4 kHz, in decibels."""
    if not original.waveform.any() or not decoded.waveform.any():
        return math.nan, 1.0
    energies = []
    for x in (original, decoded):
        spectrum = np.abs(np.fft.rfft(x.waveform.numpy().astype(np.float64))) ** 2
        energies.append(spectrum[round(len(spectrum) * HIGH_BAND / (SAMPLE_RATE / 2)) :].sum())
    if min(energies) <= 0:
        return math.nan, 1.0
    return abs(10 * math.log10(energies[1] / energies[0])), 1.0
