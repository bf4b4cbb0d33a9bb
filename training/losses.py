"""Reconstruction losses: distances between decoded and original waveforms."""

import math

import torch
from torch import Tensor, nn

_FLOOR = 1e-5  # power of a mel band below which differences are inaudible: 50 dB below full-scale noise


def mel_filters(sample_rate: int, window_length: int, bands: int) -> Tensor:
    """Triangular mel filters (O'Shaughnessy 1987), ``(window_length // 2 + 1, bands)``."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.arange(window_length // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / window_length
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return torch.minimum(rising, falling).clamp_min(0).float()


class ReconstructionLoss(nn.Module):
    """Five distances by name. All but the first are means over the rows of the batch.

    - ``waveform``: mean absolute difference, relative to the mean absolute value of the original batch.
    - ``spectrum``: squared difference of complex spectra with magnitudes compressed to the power 0.3, plus the squared
      difference of the compressed magnitudes (Braun and Tashev 2021, arXiv 2009.12286). With a ``phase_limit``,
      ``waveform`` and ``spectrum`` ignore everything above that frequency, where codes of a few kilobits per second do
      not determine phases. The other losses still cover it.
    - ``mel``: mean absolute difference of log-mel power spectra at several resolutions, in nepers.
    - ``loudness``: perceived difference of loudness; see :class:`LoudnessLoss`.
    - ``intelligibility``: difference of band envelopes; see :class:`IntelligibilityLoss`.

    Args:
        sample_rate: in hertz.
        phase_limit: frequency in hertz above which ``waveform`` and ``spectrum`` compare nothing; 0 for no limit.
    """

    # window in milliseconds, mel bands, and whether phase is compared: only if a window holds a pitch period
    RESOLUTIONS = ((8.0, 10, False), (16.0, 20, True), (32.0, 40, True), (64.0, 80, True))

    def __init__(self, sample_rate: int, phase_limit: float = 0.0) -> None:
        super().__init__()
        self.low_pass = LowPass(sample_rate, phase_limit) if phase_limit else nn.Identity()
        self.lengths: list[int] = []
        for milliseconds, bands, _ in self.RESOLUTIONS:
            length = 8 * round(milliseconds * sample_rate / 8_000)
            self.lengths.append(length)
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)
            self.register_buffer(f"mel_{length}", mel_filters(sample_rate, length, bands), persistent=False)
        self.loudness = LoudnessLoss(sample_rate)
        self.intelligibility = IntelligibilityLoss(sample_rate)

    def forward(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Distances by name between two waveforms, ``(B, S)`` each."""
        mel, spectrum = decoded.new_zeros(()), decoded.new_zeros(())
        low_decoded, low_original = self.low_pass(decoded), self.low_pass(original)
        for length, (_, _, with_phase) in zip(self.lengths, self.RESOLUTIONS, strict=True):
            x, y = self._spectrum(decoded, length), self._spectrum(original, length)
            x_power, y_power = x.real.square() + x.imag.square(), y.real.square() + y.imag.square()
            filters = getattr(self, f"mel_{length}")
            x_mel, y_mel = torch.log(x_power @ filters + _FLOOR), torch.log(y_power @ filters + _FLOOR)
            mel = mel + (x_mel - y_mel).abs().mean() / (2 * len(self.lengths))
            if with_phase:
                if low_decoded is not decoded:
                    x, y = self._spectrum(low_decoded, length), self._spectrum(low_original, length)
                    x_power, y_power = x.real.square() + x.imag.square(), y.real.square() + y.imag.square()
                x_scale, y_scale = (x_power + 1e-6) ** -0.35, (y_power + 1e-6) ** -0.35
                difference = (x.real * x_scale - y.real * y_scale).square() + (
                    x.imag * x_scale - y.imag * y_scale
                ).square()
                loudness = (x_power + 1e-6) ** 0.15 - (y_power + 1e-6) ** 0.15
                spectrum = spectrum + (difference + loudness.square()).mean()
        waveform = (low_decoded - low_original).abs().mean() / (original.abs().mean() + 1e-3)
        return {
            "waveform": waveform,
            "spectrum": spectrum,
            "mel": mel,
            "loudness": self.loudness(decoded, original),
            "intelligibility": self.intelligibility(decoded, original),
        }

    def _spectrum(self, waveform: Tensor, length: int) -> Tensor:
        """Spectrum ``(B, frames, length // 2 + 1)``, scaled so that white noise keeps its power in each bin."""
        window = getattr(self, f"window_{length}")
        spectrum = torch.stft(waveform, length, length // 4, window=window, return_complex=True)
        return spectrum.transpose(1, 2) / (length * 3 / 8) ** 0.5


class LowPass(nn.Module):
    """Zero-phase FFT low-pass filter with a transition band of 1 kHz; the amplitude is halved at ``limit``.

    Args:
        sample_rate: in hertz.
        limit: centre of the transition band, in hertz.
    """

    SLOPE = 1_000.0

    def __init__(self, sample_rate: int, limit: float) -> None:
        super().__init__()
        self.sample_rate, self.limit = sample_rate, limit

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, S)``. Returns the same shape."""
        spectrum = torch.fft.rfft(x)
        frequency = torch.arange(spectrum.shape[-1], device=x.device) * (self.sample_rate / x.shape[-1])
        gain = ((self.limit + self.SLOPE / 2 - frequency) / self.SLOPE).clamp(0, 1)
        return torch.fft.irfft(spectrum * gain, x.shape[-1])


class LoudnessLoss(nn.Module):
    """Perceived difference of loudness, in points of PESQ's opinion scale, after its perceptual model.

    The model is that of ITU-T P.862, section 10.2. Power in bands of equal width on the Bark scale (Traunmüller 1990),
    relative to the threshold of hearing (Terhardt 1979), becomes loudness by Zwicker's law with the exponents of P.862.
    Differences below a quarter of the quieter signal are masked. Added sound counts more than lost sound. The model's
    time alignment, equalization of gain and spectrum, and emphasis of the worst moments are left out.

    Args:
        sample_rate: in hertz.
    """

    BANDS = 42
    LISTENING_LEVEL = 10**7.9  # power of speech at the ear, relative to 0 dB SPL
    MIN_POWER = 10**-4.5  # mean square below which a crop counts as silence and is not raised to that level

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.length = 8 * round(32.0 * sample_rate / 8_000)
        frequency = torch.arange(self.length // 2 + 1, dtype=torch.float64) * sample_rate / self.length
        low, high = _bark(torch.tensor([60.0, min(7_800.0, sample_rate / 2)], dtype=torch.float64)).tolist()
        width = (high - low) / self.BANDS
        centre = low + width * (torch.arange(self.BANDS, dtype=torch.float64) + 0.5)
        kilohertz = 1.96 * (centre + 0.53) / (26.28 - centre)
        decibels = 3.64 * kilohertz**-0.8 - 6.5 * torch.exp(-0.6 * (kilohertz - 3.3) ** 2) + 1e-3 * kilohertz**4
        constants = {
            "window": torch.hann_window(self.length, dtype=torch.float64),
            "filters": (1 - (_bark(frequency)[:, None] - centre).abs() / width).clamp_min(0),
            "threshold": 10 ** (decibels / 10),
            "exponent": 0.23 * (6 / (centre + 2)).clamp(1, 2) ** 0.15,
            "speech": ((frequency > 300) & (frequency < 3_250)) / (self.length**2 * 3 / 16),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, decoded: Tensor, original: Tensor) -> Tensor:
        """Mean disturbance of all frames and rows, in points of PESQ's opinion scale; a scalar.

        Args:
            decoded: ``(B, S)``, with at least one window of 32 ms.
            original: ``(B, S)``.
        """
        x_power, y_power = self._power(decoded), self._power(original)
        level = self.LISTENING_LEVEL / (y_power @ self.speech).mean(1).clamp_min(self.MIN_POWER)
        scale = level[:, None, None] / (self.length**2 * 3 / 16)
        x_bands, y_bands = (power * scale @ self.filters for power in (x_power, y_power))
        x, y = self._loudness(x_bands), self._loudness(y_bands)
        audible = ((x - y).abs() - 0.25 * torch.minimum(x, y)).clamp_min(0)
        added = ((x_bands.detach() + 50) / (y_bands + 50)) ** 1.2
        added = torch.where(added < 3, 0.0, added.clamp_max(12))
        weight = ((y_bands.sum(2) + 1e5) / 1e7) ** -0.04
        disturbance = (audible.square().mean(2) + 1e-6).sqrt() - 1e-3
        points = 0.1 * disturbance + 0.0309 * (audible * added).mean(2)
        return (points * weight).mean()

    def _power(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform, self.length, self.length // 2, window=self.window, center=False, return_complex=True
        ).transpose(1, 2)
        return spectrum.real.square() + spectrum.imag.square()

    def _loudness(self, bands: Tensor) -> Tensor:
        relative = (0.5 + 0.5 * bands / self.threshold) ** self.exponent - 1
        return (self.threshold / 0.5) ** self.exponent * relative.clamp_min(0)


class IntelligibilityLoss(nn.Module):
    """1 minus the correlation of band envelopes over 0.4 s, after STOI (Taal et al. 2011).

    Envelopes are amplitudes in 15 third-octave bands from 150 Hz, in frames of 26 ms, silent frames excluded. In each
    segment, levels are equalized, and then bands that are far too loud are clipped.

    Args:
        sample_rate: in hertz.
    """

    BANDS = 15
    FRAMES = 30  # frames in a segment
    STEP = 5  # frames between starts of segments; STOI has 1, at 5 times the cost
    SILENCE = 1e-4  # power of silent frames, relative to the loudest frame of the row
    CLIP = 1 + 10**0.75  # largest amplitude, relative to the original

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.length = 8 * round(25.6 * sample_rate / 8_000)
        frequency = torch.arange(self.length + 1, dtype=torch.float64)[:, None] * sample_rate / (2 * self.length)
        centre = 150 * 2 ** (torch.arange(self.BANDS, dtype=torch.float64) / 3)
        bands = (frequency >= centre * 2 ** (-1 / 6)) & (frequency < centre * 2 ** (1 / 6))
        self.register_buffer("window", torch.hann_window(self.length), persistent=False)
        self.register_buffer("bands", bands.float() / (self.length * 3 / 8), persistent=False)

    def forward(self, decoded: Tensor, original: Tensor) -> Tensor:
        """Mean over rows, segments and bands, for two waveforms, ``(B, S)`` each. Silent rows count as 0."""
        x, y = self._power(decoded), self._power(original)
        loudness = y.sum(2)
        silent = loudness <= self.SILENCE * loudness.amax(1, keepdim=True)
        order = silent.to(torch.uint8).argsort(dim=1, stable=True)[..., None]  # silent frames come last
        frames = min(self.FRAMES, y.shape[1])
        x, y = (
            (power @ self.bands + 1e-9).sqrt().take_along_dim(order, 1).unfold(1, frames, self.STEP) for power in (x, y)
        )  # (B, segments, bands, frames)
        last = torch.arange(y.shape[1], device=y.device) * self.STEP + frames
        counts = last <= (~silent).sum(1, keepdim=True)
        level = (y.square().sum(3, keepdim=True) / (x.detach().square().sum(3, keepdim=True))).sqrt()
        x = torch.minimum(x * level, y * self.CLIP)
        x, y = x - x.mean(3, keepdim=True), y - y.mean(3, keepdim=True)
        norms = (x.square().sum(3) * y.square().sum(3) + 1e-12).sqrt()
        correlation = ((x * y).sum(3) / norms).mean(2)
        return (((1 - correlation) * counts).sum(1) / counts.sum(1).clamp_min(1)).mean()

    def _power(self, waveform: Tensor) -> Tensor:
        """``(B, frames, length + 1)``."""
        spectrum = torch.stft(
            waveform, 2 * self.length, self.length // 2, self.length, self.window, return_complex=True
        ).transpose(1, 2)
        return spectrum.real.square() + spectrum.imag.square()


def _bark(hertz: Tensor) -> Tensor:
    return 26.81 * hertz / (1_960 + hertz) - 0.53
