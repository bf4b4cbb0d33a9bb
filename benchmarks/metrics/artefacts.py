"""Artefacts that spectral distances and PESQ miss: buzz, and energy lost or added above 4 kHz."""

import functools
import math

import numpy as np

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech

LOWEST_FREQUENCY = 3_000.0
"""Buzz is measured above this frequency, where decoders repeat patterns, in hertz."""
PERIODS = 40.0, 800.0
"""Smallest and largest distance of the lines of a comb, in hertz."""
HIGH_BAND = 4_000.0
"""Lower edge of the band whose energy is compared, in hertz."""

_WINDOW, _HOP = 3_200, 1_600  # 5 Hz per bin
_SMOOTHING = 201  # bins of 5 Hz: 1 kHz
_STEP = 5 / SAMPLE_RATE  # from one period to the next, relative: lines drift by less than 5 Hz over the band


def comb_excess(original: Speech, decoded: Speech) -> Value:
    """How far a comb of lines stands out above 3 kHz, compared with the original, in decibels.

    For every period from 40 to 800 Hz, the spectrum above 3 kHz is folded at the period. The level is that of the
    loudest 10 Hz relative to the median. The excess is the level minus that of the original at the same period; the
    largest one counts.
    """
    if len(original.waveform) < _WINDOW or not decoded.waveform.any() or not original.waveform.any():
        return math.nan, 1.0
    levels = [_comb_levels(x.waveform.numpy().astype(np.float64)) for x in (decoded, original)]
    return float((levels[0] - levels[1]).max()), 1.0


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


def _comb_levels(waveform: np.ndarray) -> np.ndarray:
    """Level of the loudest 10 Hz of each period, relative to the median, in decibels."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2
    band = power[:, round(LOWEST_FREQUENCY * _WINDOW / SAMPLE_RATE) : -1]
    band = band[band.any(1)]
    if not len(band):
        return np.zeros(len(_foldings()))
    spectrum = (band / band.mean(1, keepdims=True)).mean(0)  # each moment counts alike
    half = _SMOOTHING // 2
    padded = np.pad(np.log(spectrum + 1e-9), half, mode="reflect")
    spectrum = spectrum / np.exp(np.convolve(padded, np.ones(_SMOOTHING) / _SMOOTHING, "valid"))
    levels = []
    for places, counts in _foldings():
        folded = np.bincount(places, spectrum, len(counts)) / counts
        pairs = (folded + np.roll(folded, -1)) / 2  # 10 Hz
        levels.append(10 * np.log10(pairs.max() / np.median(pairs)))
    return np.array(levels)


@functools.cache
def _foldings() -> list[tuple[np.ndarray, np.ndarray]]:
    """For each period, the place of every bin within the period, in steps of 5 Hz, and how many bins share it."""
    resolution = SAMPLE_RATE / _WINDOW
    frequency = np.arange(round(LOWEST_FREQUENCY / resolution), _WINDOW // 2) * resolution
    foldings, period = [], PERIODS[0]
    while period <= PERIODS[1]:
        steps = max(2, round(period / resolution))
        places = np.floor((frequency % period) / period * steps).astype(np.intp)
        foldings.append((places, np.maximum(np.bincount(places, minlength=steps), 1)))
        period *= 1 + _STEP
    return foldings
