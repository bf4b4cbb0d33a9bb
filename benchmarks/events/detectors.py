"""Detectors of speech, behind one interface: a waveform in, a probability for each frame of the tokenizer out.

All baselines come from their packages: silero-vad with the weights that it contains, and WebRTC's detector.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from speechtok import ConvNeXtTokenizer
from speechtok.errors import InputError

Detector = Callable[[np.ndarray], np.ndarray]
"""Waveform ``(S,)`` to probabilities ``(T,)`` of speech."""

_SILERO_WINDOW = 512
_WEBRTC_MODES = 0, 1, 2, 3


def own_detector(tokenizer: ConvNeXtTokenizer) -> Callable[[np.ndarray], np.ndarray]:
    """All probabilities of the turn detector, ``(3, T)``: speech, end of turn, overlap."""
    detector = tokenizer.turn_detector()

    def detect(waveform: np.ndarray) -> np.ndarray:
        found = detector.detect(tokenizer.encode(torch.from_numpy(waveform), tokenizer.sample_rate))
        return np.stack([row[0].numpy() for row in found])

    return detect


def silero(model: Any) -> Detector:
    """silero-vad: a probability for each of its windows of 32 ms; see :func:`at_frames`."""

    def detect(waveform: np.ndarray) -> np.ndarray:
        count = -(-len(waveform) // _SILERO_WINDOW)
        padded = torch.from_numpy(np.pad(waveform, (0, count * _SILERO_WINDOW - len(waveform))))
        model.reset_states()
        with torch.no_grad():
            return np.array([float(model(window, 16_000)) for window in padded.split(_SILERO_WINDOW)])

    return detect


def at_frames(windows: np.ndarray, samples: int, hop_length: int, causal: bool) -> np.ndarray:
    """Results of windows at the frames of a waveform.

    Args:
        windows: a result for each window of silero-vad.
        samples: of the waveform.
        hop_length: samples per frame.
        causal: whether a frame gets the result of the last window that is complete with it, as in a live stream; that
            of the window around its centre otherwise, which may hear up to 22 ms more.
    """
    ends = (np.arange(samples // hop_length) + 1) * hop_length
    index = ends // _SILERO_WINDOW - 1 if causal else (ends - hop_length // 2) // _SILERO_WINDOW
    return np.where(index < 0, 0.0, windows[index.clip(0)])


def load_silero() -> Any:
    """The model of the package silero-vad.

    Raises:
        InputError: the package is missing.
    """
    try:
        from silero_vad import load_silero_vad
    except ImportError as error:
        raise InputError(f"silero-vad cannot be imported ({error}); pip install silero-vad") from error
    return load_silero_vad()


def webrtc(hop_length: int, mode: int | None = None) -> Detector:
    """WebRTC's detector, which says yes or no.

    Args:
        hop_length: samples per frame.
        mode: its aggressiveness, 0 to 3; the share of the modes that say yes if not given, which makes a score.

    Raises:
        InputError: the package is missing.
    """
    try:
        import webrtcvad
    except ImportError as error:
        raise InputError(f"webrtcvad cannot be imported ({error}); pip install webrtcvad-wheels") from error

    def detect(waveform: np.ndarray) -> np.ndarray:
        pcm = (waveform.clip(-1, 1) * 32_767).astype("<i2")
        frames = pcm[: len(pcm) // hop_length * hop_length].reshape(-1, hop_length)
        votes = np.zeros(len(frames))
        modes = _WEBRTC_MODES if mode is None else (mode,)
        for aggressiveness in modes:
            detector = webrtcvad.Vad(aggressiveness)
            votes += [detector.is_speech(frame.tobytes(), 16_000) for frame in frames]
        return votes / len(modes)

    return detect
