"""Loudness, noise and clipping."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from speechtok.corpus.labels.label import Clip, Label

_MIN_RUN = 3
"""Equal samples at the peak that are clipped: a sine has at most two."""
_NEAR_PEAK = 0.999
_MIN_PEAK = 0.1
"""Quieter recordings are not searched for clipping."""


class Level(Label):
    """Level of the speech, signal-to-noise ratio, and clipping.

    ``level`` is the RMS in decibels of full scale. ``snr`` compares the frames of speech with the quietest tenth of all
    frames, in decibels; a recording without a pause looks noisier than it is. ``clipped`` is the share of samples in
    flat tops of the recording as it was before resampling.
    """

    columns: ClassVar[Mapping[str, str]] = {"level": "float32", "snr": "float32", "clipped": "float32"}

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        frames = clip.frames
        if frames is None or clip.waveform is None or clip.original is None:
            return {}
        power = float(np.square(clip.waveform, dtype=np.float64).mean())
        result: dict[str, Any] = {"level": _decibels(power), "clipped": clipped_share(clip.original), "snr": None}
        if frames.is_speech.any():
            speech = float((10 ** (frames.levels[frames.is_speech] / 10)).mean())
            noise = 10 ** (frames.noise / 10)
            result["snr"] = _decibels(max(speech - noise, 1e-10) / max(noise, 1e-10))
        return result


def clipped_share(waveform: np.ndarray) -> float:
    """Share of the samples that lie in flat tops, 0 to 1."""
    size = np.abs(waveform)
    peak = float(size.max(initial=0.0))
    if peak < _MIN_PEAK:
        return 0.0
    flat = size >= _NEAR_PEAK * peak
    if int(flat.sum()) < _MIN_RUN:
        return 0.0
    flat &= np.pad(np.abs(np.diff(waveform)) < 1e-3 * peak, (1, 0)) | np.pad(
        np.abs(np.diff(waveform)) < 1e-3 * peak, (0, 1)
    )
    edges = np.flatnonzero(np.diff(np.pad(flat.astype(np.int8), 1))).reshape(-1, 2)
    lengths = edges[:, 1] - edges[:, 0]
    return float(lengths[lengths >= _MIN_RUN].sum() / len(waveform))


def _decibels(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-10)))
