"""The ``seanet`` family: SEANet (Tagliasacchi et al. 2020, arXiv 2009.02095) as EnCodec (Défossez et al. 2022, arXiv
2210.13438) and SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692) have it.

The width is the innermost axis, so that every convolution is one matrix product: one with a stride is one of two taps
over blocks of samples, and so is its transpose. Convolutions look into the future and mirror the signal at its ends.
Their weights have PyTorch's layout, weight norm folded in.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.exact import Prepared
from speechtok.nn.lstm import ResidualLSTM
from speechtok.nn.packed import Product, pack


class Linear(nn.Module):
    """What is one matrix product with weights in some other layout.

    Args:
        weight: its shape.
        outputs: numbers of the bias.
        inputs: numbers that one output is a sum of.
    """

    def __init__(self, weight: Sequence[int], outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*weight))
        self.bias = nn.Parameter(torch.empty(outputs))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5)
        self._prepared: Prepared[Product] = Prepared()

    def product(self, x: Tensor) -> Tensor:
        """``x``: ``(..., K)``. Returns ``(..., N)``."""
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return F.linear(x, *self.matrix(self.weight, self.bias))
        return self._prepared(lambda *weights: pack(*self.matrix(*weights)), self.weight, self.bias)(x)

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(N, K)`` and bias ``(N,)`` of the product."""
        raise NotImplementedError


class Conv(Linear):
    """Convolution over ``(B, T, D)`` that mirrors the signal at its ends; gives ``ceil(T / stride)`` frames.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        kernel_size: taps; ``2 * stride`` if there is a stride.
        stride: frames of the input for one of the output.
        dilation: frames from one tap to the next.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__((outputs, inputs, kernel_size), outputs, inputs * kernel_size)
        self.stride, self.dilation = stride, dilation
        self.padding = (kernel_size - 1) * dilation - (stride - 1)
        self.taps = kernel_size // stride
        self.shifts_after = stride == 1 and outputs < kernel_size  # few numbers come out: shift these

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102, see Linear
        if self.shifts_after:  # a row for each tap, without bias
            return weight.transpose(1, 2).flatten(0, 1), torch.zeros_like(weight[:, 0]).flatten()
        return weight.transpose(1, 2).flatten(1), bias

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        right = self.padding // 2
        x = mirrored(x, self.padding - right, right + -x.shape[1] % self.stride)
        if self.stride > 1:
            x = x.reshape(len(x), -1, self.stride * x.shape[2])
        frames = x.shape[1] - (self.taps - 1) * self.dilation
        shifts = range(0, self.taps * self.dilation, self.dilation)
        if self.shifts_after:
            y = self.product(x).view(*x.shape[:2], len(self.bias), self.taps)
            return torch.stack([y[:, s : s + frames, :, tap] for tap, s in enumerate(shifts)]).sum(0) + self.bias
        return self.product(torch.cat([x[:, s : s + frames] for s in shifts], 2) if self.taps > 1 else x)


class TransposedConv(Linear):
    """The transpose of a strided :class:`Conv`: ``T * stride`` frames.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        stride: frames of the output for one of the input; there are twice as many taps.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__((inputs, outputs, 2 * stride), outputs, 2 * inputs)
        self.stride = stride

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102, see Linear
        # a block of the output is the first half of the taps times its frame, and the second times the one before
        inputs, outputs, _ = weight.shape
        halves = weight.view(inputs, outputs, 2, self.stride).permute(3, 1, 2, 0)
        return halves.reshape(self.stride * outputs, -1), bias.repeat(self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        x = F.pad(x, (0, 0, 1, 1))
        y = self.product(torch.cat([x[:, 1:], x[:, :-1]], 2))
        y = y.view(len(y), y.shape[1] * self.stride, -1)
        return y[:, self.stride - self.stride // 2 : y.shape[1] - self.stride // 2]


class ELU(nn.Module):
    """Exponential linear unit (Clevert et al. 2015, arXiv 1511.07289)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.elu(x)


class Snake(nn.Module):
    """``x + sin(a x)² / a`` with an ``a`` for each of the ``dim`` channels (Liu et al. 2020, arXiv 2006.08195)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        alpha = self.alpha.float()
        return x + (alpha * x).sin().square() / (alpha + 1e-9)


def activation(kind: str, dim: int) -> nn.Module:
    """The activation ``kind``, ``"elu"`` or ``"snake"``, for ``dim`` channels."""
    return Snake(dim) if kind == "snake" else ELU()


class ResidualBlock(nn.Module):
    """A convolution to half the width and one back, beside a shortcut with weights of its own.

    Args:
        dim: width ``D``.
        kernel_size: taps of the first convolution.
        dilation: its dilation.
        kind: of activation.
    """

    def __init__(self, dim: int, kernel_size: int, dilation: int, kind: str) -> None:
        super().__init__()
        self.enter = activation(kind, dim)
        self.narrow = Conv(dim, dim // 2, kernel_size, dilation=dilation)
        self.between = activation(kind, dim // 2)
        self.widen = Conv(dim // 2, dim, 1)
        self.shortcut = Conv(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``, and so is the result."""
        y: Tensor = self.shortcut(x) + self.widen(self.between(self.narrow(self.enter(x))))
        return y


class Encoder(nn.Module):
    """Waveform to latent.

    Args:
        filters: width at sample rate; every stride doubles it.
        strides: of the decoder, in its order; the encoder has them backwards.
        latent_dim: width ``D`` of the latent.
        residual_layers: residual blocks before each stride.
        residual_kernel_size: their taps.
        dilation_base: the dilation of each is that of the one before times this.
        lstm_layers: of the LSTM at frame rate; 0 for none.
        bidirectional: whether it runs backwards too.
        kind: of activation.
    """

    def __init__(
        self,
        filters: int,
        strides: Sequence[int],
        latent_dim: int,
        residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        lstm_layers: int,
        bidirectional: bool,
        kind: str,
    ) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        dim = filters
        layers: list[nn.Module] = [Conv(1, dim, 7)]
        for stride in reversed(strides):
            for layer in range(residual_layers):
                layers.append(ResidualBlock(dim, residual_kernel_size, dilation_base**layer, kind))
            layers += [activation(kind, dim), Conv(dim, 2 * dim, 2 * stride, stride)]
            dim *= 2
        self.front = nn.Sequential(*layers)
        self.halo = _halo(self.front, self.hop_length)
        self.lstm = ResidualLSTM(dim, lstm_layers, bidirectional) if lstm_layers else nn.Identity()
        dim *= 1 + (bidirectional and lstm_layers > 0)
        self.back = nn.Sequential(activation(kind, dim), Conv(dim, latent_dim, 7))

    def forward(self, waveform: Tensor) -> Tensor:
        """``waveform``: ``(B, S)``. Returns the latent ``(B, T, D)`` with ``T = ceil(S / hop_length)``."""
        frames = -(-waveform.shape[1] // self.hop_length)
        x = self.lstm(_by_pieces(self.front, waveform[..., None], frames, self.halo, self.hop_length, 1))
        return _by_pieces(self.back, x, frames, 7, 1, 1)


class Decoder(nn.Module):
    """Latent to waveform: the encoder backwards. The arguments are those of :class:`Encoder`."""

    def __init__(
        self,
        filters: int,
        strides: Sequence[int],
        latent_dim: int,
        residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        lstm_layers: int,
        bidirectional: bool,
        kind: str,
    ) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        dim = filters * 2 ** len(strides)
        self.front = Conv(latent_dim, dim, 7)
        self.lstm = ResidualLSTM(dim, lstm_layers, bidirectional) if lstm_layers else nn.Identity()
        layers: list[nn.Module] = []
        for stride in strides:
            layers += [activation(kind, dim), TransposedConv(dim, dim // 2, stride)]
            dim //= 2
            for layer in range(residual_layers):
                layers.append(ResidualBlock(dim, residual_kernel_size, dilation_base**layer, kind))
        self.back = nn.Sequential(*layers, activation(kind, dim), Conv(dim, 1, 7))
        self.halo = _halo(self.back, self.hop_length)

    def forward(self, latent: Tensor) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns ``(B, T * hop_length)``."""
        frames = latent.shape[1]
        x = self.lstm(_by_pieces(self.front, latent, frames, 7, 1, 1))
        return _by_pieces(self.back, x, frames, self.halo, 1, self.hop_length).squeeze(2)


_PIECE_FRAMES = 100
"""Frames that convolutions take at a time: memory stays bounded, and caches warm."""


def _by_pieces(net: nn.Module, x: Tensor, frames: int, halo: int, before: int, after: int) -> Tensor:
    """``net`` of ``x``, ``frames`` frames of ``before`` steps each, which become ``after`` steps each.

    Every piece has ``halo`` frames more on both sides, as far as its net reaches; what comes of them is dropped.
    """
    if torch.is_grad_enabled():
        y: Tensor = net(x)
        return y
    result: Tensor | None = None
    pieces = max(1, frames // _PIECE_FRAMES)
    for piece in range(pieces):  # the last is the longest: the end of a signal is mirrored in it
        start, end = piece * _PIECE_FRAMES, (piece + 1) * _PIECE_FRAMES if piece + 1 < pieces else frames
        first = max(0, start - halo)
        y = net(x[:, first * before : (end + halo) * before])
        if pieces == 1:
            return y
        if result is None:
            result = y.new_empty(len(y), frames * after, y.shape[2])
        result[:, start * after : end * after] = y[:, (start - first) * after : (end - first) * after]
    assert result is not None
    return result


def _halo(net: nn.Module, hop_length: int) -> int:
    """Frames that the convolutions of ``net``, between sample rate and frame rate, reach to either side."""
    reach, convs = 0, [m for m in net.modules() if isinstance(m, (Conv, TransposedConv))]
    upwards = any(isinstance(m, TransposedConv) for m in convs)
    step = hop_length if upwards else 1  # samples from one frame of the signal to the next, at this place of the net
    for conv in convs:
        if isinstance(conv, TransposedConv):
            step //= conv.stride
            reach += (conv.stride - conv.stride // 2) * step
        else:
            reach += (conv.padding - conv.padding // 2) * step
            step *= conv.stride
    return -(-reach // hop_length)


def mirrored(x: Tensor, left: int, right: int) -> Tensor:
    """``x``, ``(B, T, D)``, with ``left`` and ``right`` frames more, mirrored at the first and the last.

    A signal too short for that is first made longer with zeros, of which as many are cut off again.
    """
    short = max(0, max(left, right) + 1 - x.shape[1])
    if short:
        x = F.pad(x, (0, 0, 0, short))
    if left or right:
        x = torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, x.shape[1] - right - 1 : -1].flip(1)], 1)
    return x[:, : x.shape[1] - short] if short else x
