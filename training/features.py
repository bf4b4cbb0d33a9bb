"""Spectral features at any frame rate, and the rule that lays one frame grid over another."""

import math

import torch
from torch import Tensor, nn

from training.losses import mel_filters


class LogMel(nn.Module):
    """Log-mel power spectra, ``(B, S)`` to ``(B, T, bands)``; frame ``t`` is centred on the samples it stands for.

    Frame ``t`` stands for samples ``t * hop_length`` to ``(t + 1) * hop_length``; ``T`` is ``ceil(S / hop_length)``.
    What a window sees before the first sample and after the last is silence.

    Args:
        sample_rate: in hertz.
        hop_length: samples a frame, even.
        bands: of the mel scale.
    """

    WINDOW_SECONDS = 0.025
    FLOOR = 1e-8  # power; 16-bit rounding noise is louder

    def __init__(self, sample_rate: int, hop_length: int, bands: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.window_length = 2 * round(sample_rate * self.WINDOW_SECONDS / 2)
        self.fft_length = 2 ** math.ceil(math.log2(self.window_length))
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, self.fft_length, bands), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` to ``(B, T, bands)``."""
        frames = -(-waveform.shape[1] // self.hop_length)
        before = (self.fft_length - self.hop_length) // 2
        after = (frames - 1) * self.hop_length + self.fft_length - before - waveform.shape[1]
        padded = nn.functional.pad(waveform, (before, max(0, after)))
        spectrum = torch.stft(
            padded,
            self.fft_length,
            self.hop_length,
            self.window_length,
            self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.abs().square().transpose(1, 2) / self.window.square().sum()
        return (power @ self.filters).clamp_min(self.FLOOR).log()[:, :frames]


def deltas(features: Tensor, reach: int = 2) -> Tensor:
    """Slope of ``(B, T, D)`` over ``reach`` frames to either side, by regression; the edges repeat."""
    padded = nn.functional.pad(features.transpose(1, 2), (reach, reach), mode="replicate").transpose(1, 2)
    frames = features.shape[1]
    slope = torch.zeros_like(features)
    for k in range(1, reach + 1):
        slope += k * (padded[:, reach + k : reach + k + frames] - padded[:, reach - k : reach - k + frames])
    return slope / (2 * sum(k * k for k in range(1, reach + 1)))


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients with first and second deltas, ``(B, S)`` to ``(B, T, 39)``.

    Args:
        sample_rate: in hertz.
        hop_length: samples a frame, even.
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


def align(features: Tensor, frame_rate: float, offset: float, times: Tensor) -> Tensor:
    """Features at ``times``, on the straight line between their two neighbours in time.

    Args:
        features: ``(B, T, D)``, frame ``t`` centred ``offset + t / frame_rate`` seconds after the first sample.
        frame_rate: in hertz.
        offset: centre of the first frame, in seconds.
        times: ``(T',)``, in seconds. Before the first centre and after the last, the nearest frame is taken.

    Returns:
        ``(B, T', D)``, of the type of ``features``.
    """
    last = features.shape[1] - 1
    position = ((times.double() - offset) * frame_rate).clamp(0, last)
    left = position.floor().long()
    share = (position - left).to(features.dtype).to(features.device)[:, None]
    left = left.to(features.device)
    right = (left + 1).clamp_max(last)
    return torch.lerp(features[:, left], features[:, right], share)


def frame_centres(frames: int, hop_length: float, sample_rate: int, start: float = 0) -> Tensor:
    """Seconds at the middle of each of ``frames`` frames of ``hop_length`` samples from sample ``start``, float64."""
    return (start + (torch.arange(frames, dtype=torch.float64) + 0.5) * hop_length) / sample_rate
