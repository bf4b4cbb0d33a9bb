"""Reconstruction losses: how far a decoded waveform is from the original."""

import math

import torch
from torch import Tensor, nn

_FLOOR = 1e-5  # power of a mel band below which differences are inaudible: -50 dB under full-scale noise


def mel_filters(sample_rate: int, window_length: int, bands: int) -> Tensor:
    """Triangular filters, equally spaced on the mel scale (O'Shaughnessy 1987), ``(window_length // 2 + 1, bands)``."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.arange(window_length // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / window_length
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return torch.minimum(rising, falling).clamp_min(0).float()


class ReconstructionLoss(nn.Module):
    """Three distances, each a mean over the batch.

    ``waveform``: mean absolute difference over the mean absolute value of the original.
    ``spectrum``: squared difference of complex spectra with magnitudes compressed to the power 0.3, plus that of the
    compressed magnitudes alone (Braun and Tashev 2021, arXiv 2009.12286): phase counts, and quiet bins count.
    ``mel``: mean absolute difference of log-mel power spectra, in nepers, at several resolutions.

    Args:
        sample_rate: in hertz.
    """

    # Window lengths in milliseconds and mel bands; phase is compared where a window holds a pitch period.
    RESOLUTIONS = ((8.0, 10, False), (16.0, 20, True), (32.0, 40, True), (64.0, 80, True))

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.lengths: list[int] = []
        for milliseconds, bands, _ in self.RESOLUTIONS:
            length = 8 * round(milliseconds * sample_rate / 8_000)
            self.lengths.append(length)
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)
            self.register_buffer(f"mel_{length}", mel_filters(sample_rate, length, bands), persistent=False)

    def forward(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Both ``(B, S)``; returns the three distances by name."""
        mel, spectrum = decoded.new_zeros(()), decoded.new_zeros(())
        for length, (_, _, with_phase) in zip(self.lengths, self.RESOLUTIONS, strict=True):
            x, y = self._spectrum(decoded, length), self._spectrum(original, length)
            x_power, y_power = x.real.square() + x.imag.square(), y.real.square() + y.imag.square()
            filters = getattr(self, f"mel_{length}")
            x_mel, y_mel = torch.log(x_power @ filters + _FLOOR), torch.log(y_power @ filters + _FLOOR)
            mel = mel + (x_mel - y_mel).abs().mean() / (2 * len(self.lengths))
            if with_phase:
                x_scale, y_scale = (x_power + 1e-6) ** -0.35, (y_power + 1e-6) ** -0.35
                difference = (x.real * x_scale - y.real * y_scale).square() + (
                    x.imag * x_scale - y.imag * y_scale
                ).square()
                loudness = (x_power + 1e-6) ** 0.15 - (y_power + 1e-6) ** 0.15
                spectrum = spectrum + (difference + loudness.square()).mean()
        waveform = (decoded - original).abs().mean() / (original.abs().mean() + 1e-3)
        return {"waveform": waveform, "spectrum": spectrum, "mel": mel}

    def _spectrum(self, waveform: Tensor, length: int) -> Tensor:
        """``(B, frames, length // 2 + 1)``, scaled so that white noise keeps its power in every bin."""
        window = getattr(self, f"window_{length}")
        spectrum = torch.stft(waveform, length, length // 4, window=window, return_complex=True)
        return spectrum.transpose(1, 2) / (length * 3 / 8) ** 0.5
