"""Artefacts that spectral distances and PESQ miss: buzz, clicks, and energy that is lost or added."""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.metrics.metric import Value
from benchmarks.metrics.octaves import LOWEST_EDGE, NUM_OCTAVES
from benchmarks.metrics.speech import SAMPLE_RATE, Speech

MIN_SECONDS = 0.2
"""Shorter waveforms have no value of :func:`comb_excess` and :func:`click_excess`."""


def comb_excess(original: Speech, decoded: Speech) -> Value:
    """How far a comb stands out above 3 kHz, compared with the original, in decibels.

    The excess at a period is the level of the decoded waveform minus that of the original
    (:func:`benchmarks.metrics.comb.comb_levels`); the largest one of all periods from 40 to 800 Hz counts.
    """
    if not _measurable(original, decoded):
        return math.nan, 1.0
    return float((decoded.comb_levels - original.comb_levels).max()), 1.0


def click_excess(original: Speech, decoded: Speech) -> Value:
    """How far clicks at frame edges stand out, compared with the original, in decibels; the worst frame length counts.

    See :func:`benchmarks.metrics.clicks.click_levels`.
    """
    if not _measurable(original, decoded):
        return math.nan, 1.0
    return float((decoded.click_levels - original.click_levels).max()), 1.0


def _measurable(*pair: Speech) -> bool:
    return all(len(x.waveform) >= MIN_SECONDS * SAMPLE_RATE and bool(x.waveform.any()) for x in pair)


def octave_change(index: int) -> Callable[[Speech, Speech], Value]:
    """The metric of one octave: its energy in the decoded waveform minus that in the original, in decibels."""

    def measure(original: Speech, decoded: Speech) -> Value:
        return float(decoded.octave_levels[index] - original.octave_levels[index]), 1.0

    return measure


def octave_title(index: int) -> str:
    """Column heading of an octave."""
    low = LOWEST_EDGE * 2**index
    return f"{low:g}–{2 * low:g} Hz, dB"


def octave_distance(original: Speech, decoded: Speech) -> Value:
    """Mean absolute change of the octaves that both waveforms have, in decibels."""
    changes = np.abs(decoded.octave_levels - original.octave_levels)
    return (float(np.nanmean(changes)), 1.0) if np.isfinite(changes).any() else (math.nan, 1.0)


def high_band_difference(original: Speech, decoded: Speech) -> Value:
    """Absolute change of the energy above 4 kHz, in decibels."""
    return abs(octave_change(NUM_OCTAVES - 1)(original, decoded)[0]), 1.0


def level_change(original: Speech, decoded: Speech) -> Value:
    """Energy of the decoded waveform relative to that of the original, in decibels."""
    energies = [float(x.waveform.double().pow(2).sum()) for x in (original, decoded)]
    return (10 * math.log10(energies[1] / energies[0]), 1.0) if min(energies) > 0 else (math.nan, 1.0)
