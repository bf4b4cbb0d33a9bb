"""Levels and pitch of an utterance every 20 ms, which several labels use."""

import functools
from dataclasses import dataclass

import numpy as np

STEP = 0.02
"""Seconds from one frame to the next."""

_PITCH_RATE = 4_000
"""Pitch is searched at about this sample rate, in hertz."""
_PITCH_WINDOW = 0.05
LOWEST, HIGHEST = 60.0, 500.0
"""Range of pitch, in hertz."""

_PERIODIC = 0.5
"""Normalised autocorrelation of a voiced frame."""
_FIRST_PEAK = 0.9
"""The shortest period whose peak has this part of the highest one is taken."""

_SILENT = 1e-10

_REACH = 15
"""Frames from a voiced one within which sound is speech: consonants."""
_ABOVE_NOISE, _BELOW_PEAK = 6.0, 40.0
"""Decibels above the noise, and below the loudest frames, at which speech begins."""


@dataclass(frozen=True)
class Frames:
    """An utterance every 20 ms.

    Attributes:
        levels: decibels of full scale, ``(F,)``.
        pitch: in hertz, 0 where there is no voice, ``(F,)``.
        is_speech: ``(F,)``.
        noise: level that a tenth of the frames do not exceed, in decibels.
    """

    levels: np.ndarray
    pitch: np.ndarray
    is_speech: np.ndarray
    noise: float

    @functools.cached_property
    def segments(self) -> list[tuple[float, float]]:
        """Start and end of each stretch of speech, in seconds; pauses under 0.2 s do not count."""
        return [(start * STEP, end * STEP) for start, end in runs(fill_gaps(self.is_speech, 10))]


def analyse(waveform: np.ndarray, rate: int) -> Frames:
    """Analyse ``(S,)``."""
    size = max(1, round(STEP * rate))
    count = max(1, -(-len(waveform) // size))
    padded = np.zeros(count * size, np.float32)
    padded[: len(waveform)] = waveform
    power = np.square(padded.reshape(count, size)).mean(1, dtype=np.float64)
    levels = 10 * np.log10(power + _SILENT)
    pitch = _pitch(padded, rate, count)
    noise = float(np.percentile(levels, 10))
    loud = float(np.percentile(levels, 95))
    pitch[levels < max(loud - _BELOW_PEAK, -65.0)] = 0.0
    # a single periodic frame is chance
    voiced = pitch > 0
    voiced &= count_near(voiced, 1) >= 2
    pitch[~voiced] = 0.0
    threshold = max(min(noise + _ABOVE_NOISE, loud - _ABOVE_NOISE), loud - _BELOW_PEAK)
    near = count_near(voiced, _REACH) > 0
    is_speech = (near & (levels > threshold)) | voiced
    return Frames(levels, pitch, is_speech, noise)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of ``True``."""
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def count_near(mask: np.ndarray, reach: int) -> np.ndarray:
    """How many are ``True`` among each place and the ``reach`` places on either side."""
    sums = np.pad(np.cumsum(np.pad(mask.astype(np.int64), reach)), (1, 0))
    result: np.ndarray = sums[2 * reach + 1 :] - sums[: -2 * reach - 1]
    return result


def fill_gaps(mask: np.ndarray, longest: int) -> np.ndarray:
    """The mask with gaps of fewer than ``longest`` frames filled."""
    filled: np.ndarray = mask.copy()
    for start, end in runs(~mask):
        if start > 0 and end < len(mask) and end - start < longest:
            filled[start:end] = True
    return filled


def _pitch(waveform: np.ndarray, rate: int, count: int) -> np.ndarray:
    """Pitch of each frame by autocorrelation, 0 where it is not periodic."""
    factor = max(1, round(rate / _PITCH_RATE))
    low = waveform[: len(waveform) // factor * factor].reshape(-1, factor).mean(1)
    low_rate = rate / factor
    window = round(_PITCH_WINDOW * low_rate)
    step = STEP * low_rate
    starts = np.round((np.arange(count) + 0.5) * step - window / 2).astype(int)
    padded = np.pad(low, (window, 2 * window))
    size = 1 << (2 * window - 1).bit_length()
    shortest, longest = int(low_rate / HIGHEST), int(np.ceil(low_rate / LOWEST))
    pitch = np.zeros(count)
    for first in range(0, count, 1_000):  # bounded memory for long recordings
        some = starts[first : first + 1_000] + window
        frames = padded[some[:, None] + np.arange(window)]
        frames = frames - frames.mean(1, keepdims=True)
        spectrum = np.fft.rfft(frames, size)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[:, : longest + 2]
        # energies of the two parts that overlap at each lag
        energy = np.cumsum(np.square(frames), 1, dtype=np.float64)
        lags = np.arange(longest + 2)
        head = energy[:, window - 1 - lags]
        tail = energy[:, -1:] - np.where(lags > 0, energy[:, np.maximum(lags - 1, 0)], 0.0)
        normal = correlation / np.sqrt(head * tail + _SILENT)
        inner = normal[:, shortest : longest + 1]
        peaks = (inner >= normal[:, shortest - 1 : longest]) & (inner >= normal[:, shortest + 1 : longest + 2])
        height = np.where(peaks, inner, 0.0)
        best = height.max(1)
        lag = shortest + (height >= _FIRST_PEAK * best[:, None]).argmax(1)
        rows = np.arange(len(lag))
        before, here, after = normal[rows, lag - 1], normal[rows, lag], normal[rows, lag + 1]
        curve = before - 2 * here + after
        shift = np.where(np.abs(curve) > 1e-9, 0.5 * (before - after) / np.where(curve == 0, 1, curve), 0.0)
        pitch[first : first + 1_000] = np.where(best > _PERIODIC, low_rate / (lag + shift.clip(-0.5, 0.5)), 0.0)
    return pitch
