"""Losses for decoders with noise: distances between distributions of spectra instead of between waveforms."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOOR = 1e-8
"""Power added to each bin, relative to full-scale white noise."""


class EnergyDistance(nn.Module):
    """Two distances by name, from two decodings with different noise.

    - ``energy_distance``: the spectral energy distance ``d(y1, x) + d(y2, x) - d(y1, y2)`` (Gritsenko et al. 2020,
      arXiv 2008.01160), where ``d`` is the mean absolute difference of magnitudes plus the root mean squared difference
      of their logarithms in a frame, at several resolutions. It is smallest in expectation where the decodings have the
      distribution of the originals: noise is not punished for being other noise.
    - ``band_energy``: mean absolute difference of the log energies of 500 Hz bands from 0.5 to 2 kHz and above 3 kHz,
      over 128 ms. Losses of waveforms favour less energy than speech has where they cannot predict it, and the
      logarithm of single bins underestimates noise. From 2 to 3 kHz, more energy would be more noise, which is heard.

    Args:
        sample_rate: in hertz.
    """

    WINDOWS = (8.0, 16.0, 32.0, 64.0, 128.0)  # milliseconds
    BAND_WINDOW = 32.0
    BAND_WIDTH = 500.0  # hertz
    LOWEST_BAND, GAP = 500.0, (2_000.0, 3_000.0)

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.lengths = [8 * round(milliseconds * sample_rate / 8_000) for milliseconds in self.WINDOWS]
        self.band_length = 8 * round(self.BAND_WINDOW * sample_rate / 8_000)
        for length in {*self.lengths, self.band_length}:
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)

    def forward(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Distances by name.

        Args:
            decoded: two decodings of each utterance, ``(2, B, S)``.
            original: ``(B, S)``.
        """
        distance, bands = original.new_zeros(()), original.new_zeros(())
        for length in self.lengths:
            first, second = (self._magnitudes(x, length) for x in decoded)
            target = self._magnitudes(original, length)
            distance = distance + (
                self._difference(first, target, length)
                + self._difference(second, target, length)
                - self._difference(first, second, length)
            ) / len(self.lengths)
        target = self._band_energies(original)
        for x in decoded:
            bands = bands + (self._band_energies(x) - target).abs().mean() / len(decoded)
        return {"energy_distance": distance, "band_energy": bands}

    def _magnitudes(self, x: Tensor, length: int) -> Tensor:
        """``(B, bins, frames)``, scaled so that white noise keeps its power in each bin."""
        window = getattr(self, f"window_{length}")
        spectrum = torch.stft(x, length, length // 4, window=window, return_complex=True) / (length * 3 / 8) ** 0.5
        return (spectrum.real.square() + spectrum.imag.square() + _FLOOR).sqrt()

    @staticmethod
    def _difference(x: Tensor, y: Tensor, length: int) -> Tensor:
        linear = (x - y).abs().mean()
        logarithmic = (x.log() - y.log()).square().mean(1).add(_FLOOR).sqrt().mean()
        return 4 * linear + math.sqrt(length / 2) / 48 * logarithmic  # the paper weighs logarithms by this root

    def _band_energies(self, x: Tensor) -> Tensor:
        """Log mean powers ``(B, bands, times)``."""
        power = self._magnitudes(x, self.band_length).square()
        width = round(self.BAND_WIDTH * self.band_length / self.sample_rate)
        count = (power.shape[1] - 1) // width
        edges = [index * self.BAND_WIDTH for index in range(count)]
        kept = [i for i, edge in enumerate(edges) if edge >= self.LOWEST_BAND and not self.GAP[0] <= edge < self.GAP[1]]
        bands = power[:, : count * width].unflatten(1, (count, width)).mean(2)[:, kept]
        frames = min(16, bands.shape[2])
        return (F.avg_pool1d(bands, frames, max(1, frames // 2)) + 1e-5).log()
