"""Noise in frequency bands, equal to the bit everywhere: whole numbers that depend on the position alone.

Above some 2 kHz, a few kilobits per second do not determine the waveform. A decoder that writes a waveform there
anyway repeats one pattern at the rate of its patches, which is heard as a buzz. Noise has no pattern: only its gain in
each band is predicted, as in harmonic plus noise models of speech (Stylianou 2001, doi 10.1109/89.890068).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import ConfigError
from speechtok.nn.exact import is_compiling
from speechtok.nn.weight_cache import WeightCache

PERIOD = 800
"""Patches after which the noise repeats; 4 s by default."""
GAIN_SCALE = 2.0**-21
"""Factor of the squared outputs of the head, which are the gains. A power of two, so that it rounds nothing."""
TAPS = 255
"""Length of the band-pass filters, in samples."""
LOWEST_FREQUENCY = 2_000.0
"""Lower edge of the first band, in hertz."""

_MAX_VALUE = 2**24
"""float32 holds whole numbers up to this."""
_TAP_SCALE = 2.0**14


def random_signs(count: int) -> Tensor:
    """Signs of positions 0 to ``count - 1``, float64 ``(count,)``: the lowest bit of a 32-bit integer hash.

    The hash multiplies the position plus one by ``0x9E3779B9``, then alternates ``x ^= x >> n`` for ``n`` of 16, 15, 15
    with multiplications by ``0x21F0AAAD`` and ``0x735A2D97``, all modulo 2**32. A set bit means 1, otherwise -1.
    """
    x = torch.arange(1, count + 1, device="cpu") * 0x9E3779B9 & 0xFFFFFFFF
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97), (15, 1)):
        x = (x ^ x >> shift) * factor & 0xFFFFFFFF
    return ((x & 1) * 2 - 1).double()


def band_edges(num_bands: int, sample_rate: int) -> np.ndarray:
    """Edges of the bands in hertz, ``(bands + 1,)``: equally spaced on the scale of ``log(frequency + 300 Hz)``."""
    edges = np.linspace(math.log(LOWEST_FREQUENCY + 300), math.log(sample_rate / 2 + 300), num_bands + 1)
    return np.exp(edges) - 300


def band_filters(num_bands: int, sample_rate: int) -> Tensor:
    """Band-pass filters from :data:`LOWEST_FREQUENCY` to half the sample rate, whole numbers ``(bands, TAPS)``.

    Windowed-sinc filters between :func:`band_edges`. They sum to a high-pass filter, so that equal gains give white
    noise above the lowest edge.
    """
    position = np.arange(TAPS) - TAPS // 2
    cutoffs = 2 * band_edges(num_bands, sample_rate) / sample_rate
    low_passes = [cutoff * np.sinc(cutoff * position) * np.hamming(TAPS) for cutoff in cutoffs]
    low_passes[-1] = (position == 0).astype(np.float64)  # nothing is cut off at the top
    return torch.from_numpy(np.rint(np.diff(np.stack(low_passes), axis=0) * _TAP_SCALE)).float()


class BandNoise(nn.Module):
    """Adds noise to the windowed pieces of waveform that a decoder's head writes.

    The noise of a band is a periodic sequence of random signs, filtered with whole-number coefficients. All sums are
    whole numbers, so every machine computes the same noise. A piece takes the stretch at its own position: with equal
    gains, overlapping pieces add up to the uninterrupted noise.

    Args:
        num_bands: frequency bands.
        patch_length: samples from one piece to the next; a piece has twice as many.
        sample_rate: in hertz; the filters depend on it.

    Raises:
        ConfigError: half the sample rate is not above the lowest band.
    """

    filters: Tensor

    def __init__(self, num_bands: int, patch_length: int, sample_rate: int) -> None:
        super().__init__()
        if sample_rate <= 2.5 * LOWEST_FREQUENCY:
            raise ConfigError(
                f"noise_bands is {num_bands} at a sample_rate of {sample_rate}; expected noise_bands 0, as the noise "
                f"begins at {LOWEST_FREQUENCY:g} Hz"
            )
        self.patch_length = patch_length
        self.register_buffer("filters", band_filters(num_bands, sample_rate))
        self._table: WeightCache[Tensor] = WeightCache()

    def initial_position(self, batch_size: int) -> Tensor:
        """Position of the first patch: zeros, float32 ``(B, 1)``. Positions stay below :data:`PERIOD`."""
        return torch.zeros(batch_size, 1, dtype=torch.float32, device=self.filters.device)

    def table(self) -> Tensor:
        """The noise of each band, patch by patch: whole numbers, float32 ``(bands, PERIOD, patch_length)``.

        Raises:
            ConfigError: the filters are not whole numbers, or too large.
        """
        return self._make_table(self.filters) if is_compiling() else self._table(self._make_table, self.filters)

    def _make_table(self, filters: Tensor) -> Tensor:
        taps = filters.cpu().double()
        whole = is_compiling() or torch.equal(taps, taps.round())
        if not whole or (not is_compiling() and float(taps.abs().sum(1).max()) > _MAX_VALUE):
            raise ConfigError(
                "the filters of the noise are not whole numbers, or their sizes add up to more than 2**24; save the "
                "tokenizer again"
            )
        signs = random_signs(PERIOD * self.patch_length)
        periodic = torch.cat([signs[1 - taps.shape[1] :], signs]) if taps.shape[1] > 1 else signs
        noise = F.conv1d(periodic[None, None], taps[:, None])[0]
        return noise.float().view(len(taps), PERIOD, self.patch_length).to(filters.device)

    def forward(self, pieces: Tensor, roots: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Add noise.

        Args:
            pieces: ``(B, P, 2 * patch_length)``, the pieces of ``P`` patches.
            roots: ``(B, P, bands)``; their squares times :data:`GAIN_SCALE` are the gains.
            position: of the first patch, ``(B, 1)``.

        Returns:
            The pieces with noise, and the position after them.
        """
        count = pieces.shape[1]
        first = (position.long() + torch.arange(count, device=position.device)) % PERIOD
        second = (first + 1) % PERIOD
        gains = roots.square() * GAIN_SCALE
        for band, gain in zip(self.table(), gains.unbind(2), strict=True):  # in this order: the bits depend on it
            pieces = pieces + gain[..., None] * torch.cat([band[first], band[second]], 2)
        return pieces, (position + count) % PERIOD
