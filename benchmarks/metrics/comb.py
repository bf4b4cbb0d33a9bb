"""Combs: lines at equal distances in a spectrum, which are heard as a buzz."""

import functools
from collections.abc import Iterator

import numpy as np
import scipy.sparse

LOWEST_FREQUENCY = 3_000.0
"""Combs are measured above this frequency, where decoders repeat patterns, in hertz."""
PERIODS = 40.0, 800.0
"""Smallest and largest distance of the lines of a comb, in hertz."""

_INAUDIBLE = 1e-6  # power at a frequency, relative to the mean of all: 60 dB less, as what a low-pass filter leaves
_RESOLUTION = 5.0  # hertz per bin
_SMOOTHING = 201  # bins: 1 kHz
_STEP = 10 / 16_000  # from one period to the next, relative: lines drift by less than 10 Hz over the band


def comb_levels(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels of combs of all periods from 40 to 800 Hz.

    The spectrum above 3 kHz, averaged over time and relative to its envelope, is folded at each period.

    Args:
        waveform: ``(S,)``, at least 0.2 s.
        sample_rate: in hertz.

    Returns:
        For each period, the level of the loudest 10 Hz relative to the median, in decibels.
    """
    window = round(sample_rate / _RESOLUTION)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), window)[:: window // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    band = power[:, round(LOWEST_FREQUENCY / _RESOLUTION) : -1]
    band = (band + _INAUDIBLE * power.mean(1, keepdims=True))[power.any(1)]
    spectrum = (band / band.mean(1, keepdims=True)).mean(0) if len(band) else np.ones(band.shape[1])
    padded = np.pad(np.log(spectrum + 1e-9), _SMOOTHING // 2, mode="reflect")
    spectrum = spectrum / np.exp(np.convolve(padded, np.ones(_SMOOTHING) / _SMOOTHING, "valid"))
    levels = []
    for steps, folding in _foldings(sample_rate):
        folded = (folding @ spectrum).reshape(-1, steps)
        pairs = (folded + np.roll(folded, -1, axis=1)) / 2  # 10 Hz
        levels.append(10 * np.log10(pairs.max(1) / np.median(pairs, 1)))
    return np.concatenate(levels)


@functools.cache
def _foldings(sample_rate: int) -> list[tuple[int, scipy.sparse.csr_array]]:
    """Matrices that average the bins at each place within a period; periods with as many places share one."""
    bins = round((sample_rate / 2 - LOWEST_FREQUENCY) / _RESOLUTION)
    frequency = LOWEST_FREQUENCY + np.arange(bins) * _RESOLUTION
    groups: dict[int, list[np.ndarray]] = {}
    for period in _periods():
        steps = round(period / _RESOLUTION)
        groups.setdefault(steps, []).append(np.floor((frequency % period) / period * steps).astype(np.intp))
    foldings = []
    for steps, places in groups.items():
        rows = np.concatenate([place + index * steps for index, place in enumerate(places)])
        weights = 1 / np.maximum(np.bincount(rows, minlength=steps * len(places)), 1)
        columns = np.tile(np.arange(bins), len(places))
        matrix = scipy.sparse.coo_array((weights[rows], (rows, columns)), (steps * len(places), bins))
        foldings.append((steps, matrix.tocsr()))
    return foldings


def _periods() -> Iterator[float]:
    period, last = PERIODS
    while period <= last:
        yield period
        period *= 1 + _STEP
