"""Prosody of an utterance: pitch, level, spectral balance and pauses, on the frames of a tokenizer."""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from speechtok.audio import as_waveform, check_sample_rate
from speechtok.errors import AudioError, InputError, quoted
from speechtok.resampling import resample, resampled_length
from speechtok.speech_frames import STEP, analyse, find_segments

if TYPE_CHECKING:
    from speechtok.tokenizer import Tokenizer

_RATE = 16_000
"""Sample rate at which everything is measured, in hertz: the result does not depend on the tokenizer."""
_HOP_LENGTH = 320
_WINDOW = 512
"""Samples of a spectrum, around the centre of a frame."""
_BANDS = (60.0, 1_000.0, 3_000.0, 7_500.0)
"""Edges of the bands, in hertz: voice, the formants that effort raises, and the treble."""
_FLOOR = 1e-10
_CHUNK = 1_000

_MIN_VOICED, _MIN_VOICED_FOR_RANGE = 0.1, 0.4
"""Seconds of voice below which there is no median of the pitch, and no range."""
_RANGE = (20, 80)
"""Percentiles of the pitch: its range survives octave errors and creaky voice, as in eGeMAPS (Eyben et al. 2016)."""
_PITCH_REFERENCE = 100.0


@dataclass(frozen=True, eq=False)
class Prosody:
    """How an utterance is said, frame by frame; ``prosody[10:60]`` is that of some of the frames.

    The summaries are NaN where there is too little voice to measure them, as in silence and noise.

    Attributes:
        frame_rate: frames per second.
        pitch: in hertz, 0 where there is no voice, ``(T,)``.
        is_speech: voice, and consonants near it, bool ``(T,)``.
        level: decibels of full scale, ``(T,)``.
        bands: power below 1 kHz, from 1 to 3 kHz, and from 3 to 7.5 kHz, in decibels, ``(T, 3)``. The last one is NaN
            if the sample rate was too low for it.
    """

    frame_rate: float
    pitch: Tensor
    is_speech: Tensor
    level: Tensor
    bands: Tensor

    @classmethod
    def of(cls, waveform: Any, sample_rate: int, tokenizer: "Tokenizer | None" = None) -> "Prosody":
        """Measure an utterance.

        Args:
            waveform: tensor or array, ``(S,)`` or ``(1, S)``, as for ``tokenizer.encode``.
            sample_rate: of ``waveform``, in hertz.
            tokenizer: speech tokenizer whose frames are measured: frame ``t`` is that of the codes ``[..., t]``.
                Without one, there are 50 frames a second.

        Raises:
            AudioError: the waveform or its rate cannot be used.
        """
        x, sample_rate = as_waveform(waveform, rows=1), check_sample_rate(sample_rate)
        if not x.shape[1]:
            raise AudioError(f"waveform has shape {tuple(x.shape)} and is empty; expected at least one sample")
        rate, hop = (_RATE, _HOP_LENGTH) if tokenizer is None else (tokenizer.sample_rate, tokenizer.hop_length)
        frames = -(-resampled_length(x.shape[1], sample_rate, rate) // hop)
        # long frames are measured in several parts
        parts = math.ceil(round(hop / (rate * STEP), 6))
        step = hop / (rate * parts)
        samples = np.zeros(int(frames * parts * step * _RATE + 1e-6), np.float32)
        signal = resample(x.cpu(), sample_rate, _RATE)[0].numpy()[: len(samples)]
        samples[: len(signal)] = signal
        found = analyse(samples, _RATE, step)
        bands = _band_power(samples, frames * parts, step)
        if sample_rate < 2 * _BANDS[-1]:
            bands[:, -1] = np.nan
        return cls(
            rate / hop,
            torch.from_numpy(_pool_pitch(found.pitch.reshape(frames, parts))).float(),
            torch.from_numpy(2 * found.is_speech.reshape(frames, parts).sum(1) >= parts),
            _decibels(10 ** (found.levels.reshape(frames, parts) / 10)),
            _decibels(bands.reshape(frames, parts, -1)),
        )

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, frames: slice) -> "Prosody":
        if not isinstance(frames, slice) or frames.step not in (None, 1):
            raise InputError(f"the index is {quoted(frames)}; expected a slice of frames, such as prosody[10:60]")
        return Prosody(
            self.frame_rate, self.pitch[frames], self.is_speech[frames], self.level[frames], self.bands[frames]
        )

    @property
    def voiced(self) -> Tensor:
        """Frames with a pitch, bool ``(T,)``."""
        return self.pitch > 0

    @property
    def tilt(self) -> Tensor:
        """Power from 1 to 3 kHz over the power below, in decibels, ``(T,)``; NaN where there is no voice."""
        return (self.bands[:, 1] - self.bands[:, 0]).where(self.voiced, math.nan)

    @property
    def treble(self) -> Tensor:
        """Power from 3 to 7.5 kHz over that from 1 to 3 kHz, in decibels, ``(T,)``; NaN where there is no voice."""
        return (self.bands[:, 2] - self.bands[:, 1]).where(self.voiced, math.nan)

    def contour(self) -> Tensor:
        """Pitch contour, float32 ``(T, 2)``; see :func:`pitch_contour`."""
        return pitch_contour(self.pitch)

    @functools.cached_property
    def median_pitch(self) -> float:
        """Median of the pitch, in semitones above 100 Hz."""
        return self._median(12 * torch.log2(self.pitch.double() / _PITCH_REFERENCE))

    @functools.cached_property
    def pitch_range(self) -> float:
        """Semitones between the 20th and the 80th percentile of the pitch."""
        pitch = self.pitch[self.voiced].double()
        if len(pitch) < max(2, _MIN_VOICED_FOR_RANGE * self.frame_rate):
            return math.nan
        low, high = np.percentile(12 * np.log2(pitch.numpy()), _RANGE)
        return float(high - low)

    @functools.cached_property
    def energy(self) -> float:
        """Vocal effort: median of :attr:`tilt`, in decibels.

        The glottis closes faster in a loud voice, which raises its formants over its lowest harmonics. The level says
        little about it across recordings: it follows the gain of the microphone.
        """
        return self._median(self.tilt)

    @functools.cached_property
    def brightness(self) -> float:
        """Median of :attr:`treble`, in decibels."""
        return self._median(self.treble)

    @functools.cached_property
    def mean_level(self) -> float:
        """Mean level of the frames with speech, in decibels of full scale."""
        return float(self.level[self.is_speech].mean()) if self.is_speech.any() else math.nan

    @functools.cached_property
    def pauses(self) -> list[tuple[float, float]]:
        """Start and end of each silence of at least 0.2 s within the utterance, in seconds."""
        segments = find_segments(self.is_speech.numpy(), 1 / self.frame_rate)
        return [(before[1], after[0]) for before, after in itertools.pairwise(segments)]

    def _median(self, values: Tensor) -> float:
        """Median of the voiced frames; NaN if there are too few."""
        enough = int(self.voiced.sum()) >= max(2, _MIN_VOICED * self.frame_rate)
        return float(values[self.voiced].double().quantile(0.5)) if enough else math.nan


def pitch_contour(pitch: Any) -> Tensor:
    """Pitch of each frame relative to the median, as a voice model takes it.

    Args:
        pitch: in hertz, ``(T,)``; 0 or NaN where there is no voice.

    Returns:
        float32 ``(T, 2)``: semitones above the median of the voiced frames, 0 where there is no voice; and 1 for a
        voiced frame, else 0.

    Raises:
        InputError: ``pitch`` has another shape or is not a number of hertz.
    """
    try:
        hertz = torch.as_tensor(pitch).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"pitch is {quoted(pitch)}; expected hertz, (T,), 0 where there is no voice") from error
    hertz = hertz.where(~hertz.isnan(), 0.0)
    if hertz.ndim != 1 or hertz.isinf().any() or (hertz < 0).any():
        raise InputError(
            f"pitch has shape {tuple(hertz.shape)} and values such as {quoted(hertz.flatten()[:3].tolist())}; expected "
            "hertz, (T,), 0 where there is no voice"
        )
    voiced = hertz > 0
    semitones = 12 * torch.log2(hertz.where(voiced, 1.0))
    if voiced.any():
        semitones = semitones - semitones[voiced].quantile(0.5)
    return torch.stack([semitones.where(voiced, 0.0), voiced.double()], dim=1).float()


def check_contour(contour: Any, frames: int) -> Tensor:
    """Return a pitch contour as float32 ``(T, 2)``, or raise :class:`~speechtok.errors.InputError`.

    Args:
        contour: result of :func:`pitch_contour` or :meth:`Prosody.contour`.
        frames: frames ``T`` that it must have.
    """
    try:
        values = torch.as_tensor(contour).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"contour is {quoted(contour)}; expected the result of pitch_contour") from error
    if values.shape != (frames, 2):
        raise InputError(
            f"contour has shape {tuple(values.shape)}; expected ({frames}, 2), semitones and voicing of each frame: "
            "pass pitch_contour(hertz)"
        )
    if not torch.isfinite(values).all() or not ((values[:, 1] == 0) | (values[:, 1] == 1)).all():
        raise InputError(
            "contour has values that are not finite, or voicing other than 0 and 1; pass pitch_contour(hertz)"
        )
    return values


def _band_power(samples: np.ndarray, frames: int, step: float) -> np.ndarray:
    """Mean power of each band around the centre of each frame, ``(F, 3)``."""
    window = np.hanning(_WINDOW + 2)[1:-1].astype(np.float32)
    edges = np.searchsorted(np.fft.rfftfreq(_WINDOW, 1 / _RATE), _BANDS)
    starts = np.round((np.arange(frames) + 0.5) * step * _RATE).astype(int)
    padded = np.pad(samples, _WINDOW // 2 + round(step * _RATE))[round(step * _RATE) :]
    scale = 2 / (_WINDOW * float(np.square(window).sum()))
    bands = []
    for some in np.split(starts, range(_CHUNK, frames, _CHUNK)):
        spectrum = np.fft.rfft(padded[some[:, None] + np.arange(_WINDOW)] * window)
        power = np.square(np.abs(spectrum))[:, edges[0] : edges[-1]]
        bands.append(scale * np.add.reduceat(power, edges[:-1] - edges[0], axis=1))
    return np.concatenate(bands)


def _pool_pitch(pitch: np.ndarray) -> np.ndarray:
    """Geometric mean of the voiced parts of each frame ``(T, P)``; 0 where fewer than half of them are voiced."""
    voiced = pitch > 0
    count = voiced.sum(1)
    logs = np.log(np.where(voiced, pitch, 1.0)).sum(1) / np.maximum(count, 1)
    return np.where(2 * count >= pitch.shape[1], np.where(count > 0, np.exp(logs), 0.0), 0.0)


def _decibels(power: np.ndarray) -> Tensor:
    """Mean over the parts of each frame, ``(T, P, …)`` to ``(T, …)``, in decibels."""
    return torch.from_numpy(10 * np.log10(power.mean(1) + _FLOOR)).float()
