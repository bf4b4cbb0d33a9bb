"""Spectral distances, by the auraloss library."""

import functools
import importlib
import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech

_MAX_PADDING = 1024
"""Samples that auraloss reflects at both ends; an utterance must be longer."""

_original: list[Speech] = []
"""The original of the comparison in progress: auraloss passes its waveform only."""


def stft_distance(original: Speech, decoded: Speech) -> Value:
    """Spectral convergence plus log-magnitude distance at three resolutions."""
    return _distance(original, decoded, 0), 1.0


def mel_distance(original: Speech, decoded: Speech) -> Value:
    """Mean absolute difference of log magnitudes in 80 mel bands, in decibels."""
    return _distance(original, decoded, 1) * 20 / math.log(10), 1.0


def _distance(original: Speech, decoded: Speech, which: int) -> float:
    if len(original.waveform) <= _MAX_PADDING or not original.waveform.any():
        return math.nan
    _original[:] = [original]
    with torch.no_grad():
        return float(_losses()[which](decoded.waveform[None, None], original.waveform[None, None]))


@functools.cache
def _losses() -> tuple[Any, Any]:
    freq: Any = importlib.import_module("auraloss.freq")
    stft = freq.MultiResolutionSTFTLoss(
        fft_sizes=[512, 1024, 2048], hop_sizes=[50, 120, 240], win_lengths=[240, 600, 1200]
    )
    mel = freq.MelSTFTLoss(SAMPLE_RATE, fft_size=1024, hop_size=256, win_length=1024, n_mels=80, w_sc=0.0)
    for loss in (*stft.stft_losses, mel):
        loss.stft = functools.partial(_magnitudes, loss)
    return stft, mel


def _magnitudes(loss: Any, waveform: Tensor) -> tuple[Tensor, None]:
    """Magnitudes as auraloss computes them, without the unused phases; those of the original are computed once."""
    speech = _original[0]
    kept = speech.magnitudes if waveform.data_ptr() == speech.waveform.data_ptr() else {}
    key = loss.fft_size, loss.hop_size
    if key not in kept:
        z = torch.stft(waveform, loss.fft_size, loss.hop_size, loss.win_length, loss.window, return_complex=True)
        kept[key] = torch.sqrt(torch.clamp(z.real**2 + z.imag**2, min=loss.eps))
    return kept[key], None
