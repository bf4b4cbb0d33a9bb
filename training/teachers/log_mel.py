"""Log-mel spectrogram on the frame grid of a tokenizer."""

import math

import torch
from torch import Tensor, nn

from training.losses import mel_filters


class LogMel(nn.Module):
    """Log-mel power spectrogram, ``(B, S)`` to ``(B, T, bands)``.

    Frame ``t`` covers samples ``t * hop_length`` to ``(t + 1) * hop_length``, and its window is centred on them; ``T``
    is ``ceil(S / hop_length)``. The waveform is padded with silence on both sides.

    Args:
        sample_rate: in hertz.
        hop_length: samples per frame, even.
        bands: number of mel bands.
    """

    WINDOW_SECONDS = 0.025
    FLOOR = 1e-8  # power, below the rounding noise of 16-bit audio

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
