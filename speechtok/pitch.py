"""Pitch of speech: candidates by autocorrelation, and the best path through them.

The candidates of a frame are peaks of the normalised autocorrelation; dynamic programming chooses among them for the
whole utterance, as in RAPT (Talkin 1995, A robust algorithm for pitch tracking) and Praat (Boersma 1993, Accurate
short-term analysis of the fundamental frequency).
"""

import numpy as np
import torch

from speechtok.resampling import resample

LOWEST, HIGHEST = 60.0, 500.0
"""Range of pitch, in hertz."""

_RATE = 8_000
"""Sample rate at which pitch is searched, in hertz."""
_WINDOW = 400
"""Samples of a frame at that rate: three periods of the lowest pitch."""
_SHORTEST, _LONGEST = int(_RATE / HIGHEST), int(np.ceil(_RATE / LOWEST))

_CANDIDATES = 6
_PERIODIC = 0.5
"""Normalised autocorrelation of a voiced frame."""
_OCTAVE = 0.04
"""A candidate has to be so much more periodic to win over one that is an octave higher."""
_JUMP = 0.01
"""Price of a change of the pitch by an octave, in normalised autocorrelation, times seconds between two frames."""
_CHANGE = 0.003
"""Price of a begin or an end of voicing, likewise."""

_IMPOSSIBLE = -9.0
_SILENT = 1e-10
_CHUNK = 1_000
"""Frames to correlate at a time: memory stays bounded for long recordings."""


def track_pitch(waveform: np.ndarray, rate: int, frames: int, step: float, quiet: np.ndarray) -> np.ndarray:
    """Pitch of each frame; frame ``t`` is centred at ``(t + 0.5) * step`` seconds.

    Args:
        waveform: float32 ``(S,)``.
        rate: its sample rate, in hertz.
        frames: number of frames ``F``.
        step: seconds from one frame to the next.
        quiet: frames that have no pitch, bool ``(F,)``.

    Returns:
        Hertz, float64 ``(F,)``: 0 where there is no voice.
    """
    low = resample(torch.from_numpy(waveform)[None], rate, _RATE)[0].numpy()
    starts = np.round((np.arange(frames) + 0.5) * step * _RATE - _WINDOW / 2).astype(int)
    padded = np.pad(low, (_WINDOW, 2 * _WINDOW))
    offsets = np.arange(_WINDOW)
    chunks = [
        _candidates(padded[some[:, None] + offsets].astype(np.float64))
        for some in np.split(starts + _WINDOW, range(_CHUNK, frames, _CHUNK))
    ]
    pitch, strength = (np.concatenate(part) for part in zip(*chunks, strict=True))
    return _best_path(pitch, strength, quiet, step)


def _candidates(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and strength of the candidates of each frame, both ``(F, K)``."""
    frames = frames - frames.mean(1, keepdims=True)
    size = 1 << (2 * _WINDOW - 1).bit_length()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, size)) ** 2, size)[:, : _LONGEST + 2]
    # energies of the two parts that overlap at each lag
    energy = np.cumsum(np.square(frames), 1)
    lags = np.arange(_LONGEST + 2)
    head = energy[:, _WINDOW - 1 - lags]
    tail = energy[:, -1:] - np.where(lags > 0, energy[:, np.maximum(lags - 1, 0)], 0.0)
    normal = correlation / np.sqrt(np.maximum(head * tail, 0.0) + _SILENT)
    before, here, after = (normal[:, _SHORTEST + i : _LONGEST + 1 + i] for i in (-1, 0, 1))
    # the peak of the parabola through three lags
    curve = before - 2 * here + after
    shift = np.where(curve < -1e-9, 0.5 * (before - after) / np.minimum(curve, -1e-9), 0.0).clip(-0.5, 0.5)
    pitch = _RATE / (np.arange(_SHORTEST, _LONGEST + 1) + shift)
    height = here - 0.25 * (before - after) * shift + _OCTAVE * np.log2(pitch / LOWEST)
    strength = np.where((here >= before) & (here > after), height, _IMPOSSIBLE)
    best = np.argpartition(-strength, _CANDIDATES - 1, axis=1)[:, :_CANDIDATES]
    return np.take_along_axis(pitch, best, 1), np.take_along_axis(strength, best, 1)


def _best_path(pitch: np.ndarray, strength: np.ndarray, quiet: np.ndarray, step: float) -> np.ndarray:
    """Pitch of each frame along the best path (Viterbi); choice 0 is "no voice"."""
    frames, candidates = pitch.shape
    choices = np.arange(candidates + 1)
    scores = np.concatenate([np.where(quiet, -_IMPOSSIBLE, _PERIODIC)[:, None], strength], axis=1)
    octaves = np.log2(pitch)
    jumps = _JUMP / step * np.abs(octaves[1:, :, None] - octaves[:-1, None, :])
    prices = np.full((candidates + 1, candidates + 1), _CHANGE / step)
    prices[0, 0] = 0.0
    origins = np.zeros((frames, candidates + 1), np.int64)
    total = scores[0]
    for t in range(1, frames):
        prices[1:, 1:] = jumps[t - 1]
        ways = total - prices
        origins[t] = ways.argmax(1)
        total = ways[choices, origins[t]] + scores[t]
    path = np.zeros(frames)
    choice = int(total.argmax())
    for t in range(frames - 1, -1, -1):
        if choice:
            path[t] = pitch[t, choice - 1]
        choice = origins[t, choice]
    return path
