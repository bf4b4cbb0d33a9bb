"""Levels and pitch of an utterance frame by frame, for labels of corpora and for prosody."""

import functools
from dataclasses import dataclass

import numpy as np

from speechtok.pitch import track_pitch

STEP = 0.02
"""Seconds from one frame to the next, unless the caller asks for another step."""

_SILENT = 1e-10

_REACH = 0.3
"""Seconds from a voiced frame within which sound is speech: consonants."""
_SHORTEST_PAUSE = 0.2
_ABOVE_NOISE, _BELOW_PEAK = 6.0, 40.0
"""Decibels above the noise, and below the loudest frames, at which speech begins."""
_LOWEST_LEVEL = -65.0
"""Decibels of full scale below which no frame is voiced."""


@dataclass(frozen=True)
class Frames:
    """An utterance frame by frame.

    Attributes:
        levels: decibels of full scale, ``(F,)``.
        pitch: in hertz, 0 where there is no voice, ``(F,)``.
        is_speech: ``(F,)``.
        noise: level that a tenth of the frames do not exceed, in decibels.
        step: seconds from one frame to the next.
    """

    levels: np.ndarray
    pitch: np.ndarray
    is_speech: np.ndarray
    noise: float
    step: float = STEP

    @functools.cached_property
    def segments(self) -> list[tuple[float, float]]:
        """Start and end of each stretch of speech, in seconds; pauses under 0.2 s do not count."""
        return find_segments(self.is_speech, self.step)


def analyse(waveform: np.ndarray, rate: int, step: float = STEP) -> Frames:
    """Analyse ``(S,)``. Frame ``t`` covers the time from ``t * step`` to ``(t + 1) * step``, in seconds."""
    count = max(1, int(np.ceil(round(len(waveform) / (step * rate), 6))))
    edges = np.round(np.arange(count + 1) * step * rate).astype(int)
    padded = np.zeros(max(edges[-1], len(waveform)), np.float32)
    padded[: len(waveform)] = waveform
    sums = np.add.reduceat(np.square(padded[: edges[-1]], dtype=np.float64), edges[:-1])
    levels = 10 * np.log10(sums / np.diff(edges) + _SILENT)
    noise = float(np.percentile(levels, 10))
    loud = float(np.percentile(levels, 95))
    pitch = track_pitch(padded, rate, count, step, levels < max(loud - _BELOW_PEAK, _LOWEST_LEVEL))
    # a single periodic frame is chance
    voiced = pitch > 0
    voiced &= count_near(voiced, 1) >= 2
    pitch[~voiced] = 0.0
    threshold = max(min(noise + _ABOVE_NOISE, loud - _ABOVE_NOISE), loud - _BELOW_PEAK)
    near = count_near(voiced, round(_REACH / step)) > 0
    is_speech = (near & (levels > threshold)) | voiced
    return Frames(levels, pitch, is_speech, noise, step)


def find_segments(is_speech: np.ndarray, step: float) -> list[tuple[float, float]]:
    """Start and end of each stretch of speech, in seconds; pauses under 0.2 s do not count."""
    shortest = max(1, round(_SHORTEST_PAUSE / step))
    return [(start * step, end * step) for start, end in runs(fill_gaps(is_speech, shortest))]


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
