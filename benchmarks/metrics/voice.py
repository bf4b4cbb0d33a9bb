"""Metrics of pitch, voicing and speaker."""

import math

import numpy as np

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import Speech

MIN_VOICED_FRAMES = 10
"""Frames of 10 ms, voiced in both waveforms, that a pitch correlation needs."""


def f0_correlation(original: Speech, decoded: Speech) -> Value:
    """Pearson correlation of log F0 over the frames that are voiced in both waveforms."""
    return _correlation(original.pitch, decoded.pitch)


def f0_correlation_pyin(original: Speech, decoded: Speech) -> Value:
    """As :func:`f0_correlation`, by pYIN."""
    return _correlation(original.pitch_pyin, decoded.pitch_pyin)


def voicing_f1(original: Speech, decoded: Speech) -> Value:
    """F1 score of the voicing decision per frame of 10 ms."""
    return _f1(original.pitch > 0, decoded.pitch > 0)


def voicing_f1_pyin(original: Speech, decoded: Speech) -> Value:
    """As :func:`voicing_f1`, by pYIN."""
    return _f1(original.pitch_pyin > 0, decoded.pitch_pyin > 0)


def _correlation(a: np.ndarray, b: np.ndarray) -> Value:
    both = (a > 0) & (b > 0)
    if both.sum() < MIN_VOICED_FRAMES:
        return math.nan, 1.0
    pair = np.log(a[both]), np.log(b[both])
    if min(np.ptp(log_f0) for log_f0 in pair) < 1e-9:  # a constant has no correlation
        return math.nan, 1.0
    return float(np.corrcoef(*pair)[0, 1]), 1.0


def _f1(a: np.ndarray, b: np.ndarray) -> Value:
    return (float(2 * (a & b).sum() / (a.sum() + b.sum())), 1.0) if a.any() else (math.nan, 1.0)


def speaker_similarity(original: Speech, decoded: Speech) -> Value:
    """Cosine similarity of the speaker embeddings."""
    a, b = original.speaker_embedding, decoded.speaker_embedding
    return (math.nan, 1.0) if a is None or b is None else (float(a @ b), 1.0)
