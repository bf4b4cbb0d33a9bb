"""Metrics of the waveform: PESQ, STOI, ESTOI and SI-SDR."""

import math

from torch import Tensor

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech
from speechtok import metrics

MAX_SI_SDR = 100.0
"""SI-SDR of a perfect copy, in decibels: infinity has no mean."""


def pesq(original: Speech, decoded: Speech) -> Value:
    """See :func:`speechtok.metrics.pesq_wb`."""
    return metrics.pesq_wb(original.waveform, decoded.waveform, SAMPLE_RATE), 1.0


def stoi(original: Speech, decoded: Speech) -> Value:
    """See :func:`speechtok.metrics.stoi`."""
    return decoded.intelligibility(original)[0], 1.0


def estoi(original: Speech, decoded: Speech) -> Value:
    """See :func:`speechtok.metrics.stoi` with ``extended``."""
    return decoded.intelligibility(original)[1], 1.0


def si_sdr(original: Speech, decoded: Speech) -> Value:
    """See :func:`scale_invariant_sdr`."""
    return scale_invariant_sdr(original.waveform, decoded.waveform), 1.0


def scale_invariant_sdr(original: Tensor, decoded: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio with means removed (Le Roux et al. 2019, arXiv 1811.02508, eq. 3).

    Args:
        original: ``(S,)``.
        decoded: ``(S,)``.

    Returns:
        Decibels, limited to :data:`MAX_SI_SDR` in both directions; NaN if the original is silent.
    """
    x, y = (z.double() - z.double().mean() for z in (original, decoded))
    energy = float(x @ x)
    if energy <= 1e-12 * len(x):
        return math.nan
    target = (float(y @ x) / energy) * x
    signal, distortion = float(target @ target), float((y - target) @ (y - target))
    if signal == 0.0 or distortion == 0.0:
        return MAX_SI_SDR if signal > distortion else -MAX_SI_SDR
    return min(max(10 * math.log10(signal / distortion), -MAX_SI_SDR), MAX_SI_SDR)
