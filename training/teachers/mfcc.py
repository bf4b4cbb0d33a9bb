"""Mel-frequency cepstral coefficients: targets of the first pretraining iteration, and a baseline for teachers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.teachers.log_mel import LogMel
from training.teachers.teacher import AVERAGE, Layer, Teacher


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients with first and second deltas, ``(B, S)`` to ``(B, T, 39)``.

    Args:
        sample_rate: in hertz.
        hop_length: samples per frame, even.
    """

    COEFFICIENTS = 13
    BANDS = 23

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate, hop_length, self.BANDS)
        band = torch.arange(self.BANDS) + 0.5
        cosines = torch.cos(math.pi / self.BANDS * band[:, None] * torch.arange(self.COEFFICIENTS))
        self.register_buffer("cosines", cosines * math.sqrt(2 / self.BANDS), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` to ``(B, T, 39)``."""
        cepstra = self.log_mel(waveform) @ self.cosines
        slope = deltas(cepstra)
        return torch.cat([cepstra, slope, deltas(slope)], 2)


def deltas(features: Tensor, reach: int = 2) -> Tensor:
    """Slope over time, by linear regression.

    Args:
        features: ``(B, T, D)``; the first and last frame are repeated beyond the edges.
        reach: frames on each side that the regression uses.

    Returns:
        ``(B, T, D)``, per frame.
    """
    padded = nn.functional.pad(features.transpose(1, 2), (reach, reach), mode="replicate").transpose(1, 2)
    frames = features.shape[1]
    slope = torch.zeros_like(features)
    for k in range(1, reach + 1):
        slope += k * (padded[:, reach + k : reach + k + frames] - padded[:, reach - k : reach - k + frames])
    return slope / (2 * sum(k * k for k in range(1, reach + 1)))


class MFCCTeacher(Teacher):
    """MFCCs and deltas as a teacher: one layer of width 39 at 100 Hz."""

    SAMPLE_RATE = 16_000
    HOP_LENGTH = 160

    def __init__(self, layer: Layer = AVERAGE) -> None:
        rate, hop = self.SAMPLE_RATE, self.HOP_LENGTH
        super().__init__(rate, 3 * MFCC.COEFFICIENTS, rate / hop, hop / 2 / rate, 1, layer)
        self.mfcc = MFCC(rate, hop)

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        return [self.mfcc(waveform)]
