"""Discriminators, which learn to tell decoded from original audio, and the losses of adversarial training."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Output = tuple[Tensor, list[Tensor]]
"""Scores of a waveform, of any shape, and the feature maps of the layers before."""

_SLOPE = 0.1  # of the leaky ReLU below zero
_GAIN = 10.0  # brings speech at its usual level to about unit variance
_FLOOR = 0.1  # added to the mean of feature maps, so that nearly silent audio counts little


class PeriodDiscriminator(nn.Module):
    """Convolves over every ``period``-th sample (Kong et al. 2020, HiFi-GAN, arXiv 2010.05646).

    Args:
        period: in samples.
        channels: channels of the widest layer; the first layer has an eighth of them.
    """

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(max(1, channels // share) for share in (8, 4, 2, 1))]
        self.layers = nn.ModuleList(
            _convolution(narrow, wide, (5, 1), (3, 1), (2, 0)) for narrow, wide in itertools.pairwise(widths)
        )
        self.score = _convolution(channels, 1, (3, 1), (1, 1), (1, 0))

    def forward(self, waveform: Tensor) -> Output:
        """``waveform``: ``(B, S)``."""
        x = F.pad(waveform * _GAIN, (0, -waveform.shape[1] % self.period))
        return _forward(self.layers, self.score, rearrange(x, "b (s p) -> b 1 s p", p=self.period))


class SpectrumDiscriminator(nn.Module):
    """Convolves over the complex spectrogram at one resolution (Défossez et al. 2022, EnCodec, arXiv 2210.13438).

    Args:
        window_length: samples in a window; the hop is a quarter of it.
        channels: channels of each layer.
    """

    window: Tensor

    def __init__(self, window_length: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)
        widths = [2, *[channels] * 4]
        self.layers = nn.ModuleList(_convolution(a, b, (3, 9), (1, 2), (1, 4)) for a, b in itertools.pairwise(widths))
        self.score = _convolution(channels, 1, (3, 3), (1, 1), (1, 1))

    def forward(self, waveform: Tensor) -> Output:
        """``waveform``: ``(B, S)``."""
        length = len(self.window)
        x = torch.stft(waveform.float(), length, length // 4, window=self.window, return_complex=True, normalized=True)
        return _forward(self.layers, self.score, rearrange(torch.view_as_real(x), "b f t c -> b c t f"))


class Discriminators(nn.Module):
    """Independent period and spectrogram discriminators.

    Args:
        periods: period of each :class:`PeriodDiscriminator`, in samples.
        window_lengths: window of each :class:`SpectrumDiscriminator`, in samples.
        period_channels: channels of the period discriminators.
        spectrum_channels: channels of the spectrogram discriminators.
    """

    def __init__(
        self, periods: Sequence[int], window_lengths: Sequence[int], period_channels: int, spectrum_channels: int
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, period_channels) for period in periods),
                *(SpectrumDiscriminator(length, spectrum_channels) for length in window_lengths),
            ]
        )

    def forward(self, waveform: Tensor) -> list[Output]:
        """``waveform``: ``(B, S)``."""
        return [part(waveform) for part in self.parts]


def discriminator_loss(original: list[Output], decoded: list[Output]) -> Tensor:
    """Hinge loss (Lim and Ye 2017, arXiv 1705.02894): originals should score above 1, decoded audio below -1."""
    losses = [
        F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        for (real, _), (fake, _) in zip(original, decoded, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(decoded: list[Output]) -> Tensor:
    """Loss of the decoder: the negative mean score of its audio."""
    return torch.stack([-score.mean() for score, _ in decoded]).mean()


def feature_matching_loss(original: list[Output], decoded: list[Output]) -> Tensor:
    """Mean distance between the feature maps of decoded and original audio, relative to those of the original.

    Feature matching as in EnCodec (arXiv 2210.13438, equation 2), except that each row has its own scale, so that the
    loss of a batch is the mean over its parts. Original audio gets no gradient.
    """
    distances = [
        ((y - x.detach()).abs().flatten(1).mean(1) / (x.detach().abs().flatten(1).mean(1) + _FLOOR)).mean()
        for (_, real), (_, fake) in zip(original, decoded, strict=True)
        for x, y in zip(real, fake, strict=True)
    ]
    return torch.stack(distances).mean()


def _convolution(
    channels: int, out_channels: int, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> nn.Module:
    convolution = nn.Conv2d(channels, out_channels, size, stride, padding)
    nn.init.kaiming_normal_(convolution.weight, _SLOPE)  # keeps the variance from layer to layer
    nn.init.zeros_(convolution.bias)
    return weight_norm(convolution)


def _forward(layers: nn.ModuleList, score: nn.Module, x: Tensor) -> Output:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), _SLOPE)
        features.append(x)
    return score(x), features
