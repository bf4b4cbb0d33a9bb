"""Pitch, energy, rate and pauses."""

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from speechtok.corpus.labels.label import Clip, Label
from speechtok.speech_frames import STEP, Frames, count_near

_MIN_VOICED = 5
"""Voiced frames below which there is no pitch."""
_SMOOTH = np.array([1, 2, 3, 2, 1]) / 9
_DIP = 2.0
"""Decibels between two syllables."""


class Prosody(Label):
    """How something is said.

    ``pitch`` is the median in hertz; ``pitch_range`` lies between the 5th and the 95th percentile, in semitones.
    ``energy_range`` is that of the level of speech, in decibels. ``rate`` counts syllable nuclei (peaks of the level in
    voiced speech) per second of speech. ``pauses`` counts silences from 0.2 s within the utterance, and
    ``pause_seconds`` is their sum.
    """

    columns: ClassVar[Mapping[str, str]] = {
        "pitch": "float32",
        "pitch_range": "float32",
        "energy_range": "float32",
        "rate": "float32",
        "pauses": "int32",
        "pause_seconds": "float32",
    }

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        frames = clip.frames
        if frames is None or not frames.is_speech.any():
            return {}
        result: dict[str, Any] = {}
        pitch = frames.pitch[frames.pitch > 0]
        if len(pitch) >= _MIN_VOICED:
            low, middle, high = np.percentile(pitch, [5, 50, 95])
            result |= {"pitch": float(middle), "pitch_range": float(12 * np.log2(high / low))}
        low, high = np.percentile(frames.levels[frames.is_speech], [5, 95])
        segments = frames.segments
        spoken = sum(end - start for start, end in segments)
        gaps = [following[0] - segment[1] for segment, following in itertools.pairwise(segments)]
        return {
            **result,
            "energy_range": float(high - low),
            "rate": count_syllables(frames) / max(spoken, STEP),
            "pauses": len(gaps),
            "pause_seconds": float(sum(gaps)),
        }


def count_syllables(frames: Frames) -> int:
    """Peaks of the smoothed level in voiced frames, with a dip of 2 dB before the next one."""
    levels = np.convolve(np.pad(frames.levels, 2, mode="edge"), _SMOOTH, "valid")
    voiced = count_near(frames.pitch > 0, 1) > 0
    count, low, high, rising = 0, np.inf, -np.inf, False
    for level, is_voiced, is_speech in zip(levels, voiced, frames.is_speech, strict=True):
        if not is_speech:
            low, high, rising = np.inf, -np.inf, False
            continue
        if rising and level < high - _DIP:
            rising, low = False, level
        elif not rising and is_voiced and (level > low + _DIP or low == np.inf):
            count, rising, high = count + 1, True, level
        low = min(low, level) if not rising else low
        high = max(high, level) if rising else high
    return count
