"""The ``seanet`` family: SEANet (Tagliasacchi et al. 2020, arXiv 2009.02095) in the variant of EnCodec (Défossez et al.
2022, arXiv 2210.13438) and SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692).

The width is the innermost axis, so that every convolution is one matrix product. A strided convolution has two taps
over blocks of samples, and so has its transpose. Convolutions are non-causal with reflection padding, as published, or
causal with zero padding. Weights have PyTorch's layout, with weight norm folded in.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.lstm import PIECE_STEPS, LSTMState, ResidualLSTM
from speechtok.nn.packed_linear import Product, pack
from speechtok.nn.weight_cache import WeightCache


class MatmulLayer(nn.Module):
    """Layer that computes one matrix product, with weights in another layout.

    Args:
        weight: shape of the weights.
        outputs: size of the bias.
        inputs: number of products that one output sums, which scales the initial weights.
    """

    def __init__(self, weight: Sequence[int], outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*weight))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.uniform_(self.weight, -((3 / inputs) ** 0.5), (3 / inputs) ** 0.5)  # keeps the variance
        nn.init.zeros_(self.bias)
        self._product: WeightCache[Product] = WeightCache()

    def product(self, x: Tensor) -> Tensor:
        """``x``: ``(..., K)``. Returns ``(..., N)``."""
        weight = self.weight  # with weight norm, each access computes it
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return F.linear(x, *self.matrix(weight, self.bias))
        return self._product(lambda *weights: pack(*self.matrix(*weights)), weight, self.bias)(x)

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Lay out weights ``(N, K)`` and bias ``(N,)`` for the product."""
        raise NotImplementedError


class Conv(MatmulLayer):
    """Convolution over ``(B, T, D)`` with ``ceil(T / stride)`` output frames.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        kernel_size: number of taps; ``2 * stride`` if ``stride`` is greater than 1.
        stride: input frames per output frame.
        dilation: frames from one tap to the next.
        causal: an output frame depends on no input frame after its own ``stride`` frames.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, dilation: int = 1, causal: bool = False
    ) -> None:
        super().__init__((outputs, inputs, kernel_size), outputs, inputs * kernel_size)
        self.stride, self.dilation, self.causal = stride, dilation, causal
        padding = (kernel_size - 1) * dilation - (stride - 1)
        self.right = 0 if causal else padding // 2
        self.left = padding - self.right
        self.taps = kernel_size // stride
        self.shifts_after = stride == 1 and outputs < kernel_size  # shifting few outputs is cheaper than many inputs

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102, see MatmulLayer
        if self.shifts_after:  # one output per tap, without bias
            return weight.transpose(1, 2).flatten(0, 1), torch.zeros_like(weight[:, 0]).flatten()
        return weight.transpose(1, 2).flatten(1), bias

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        right = self.right + -x.shape[1] % self.stride
        # reflection at the start would make the first frames depend on later ones
        x = F.pad(x, (0, 0, self.left, right)) if self.causal else reflect_pad(x, self.left, right)
        if self.stride > 1:
            x = x.reshape(len(x), -1, self.stride * x.shape[2])
        frames = x.shape[1] - (self.taps - 1) * self.dilation
        shifts = range(0, self.taps * self.dilation, self.dilation)
        if self.shifts_after:
            y = self.product(x).view(*x.shape[:2], len(self.bias), self.taps)
            return torch.stack([y[:, s : s + frames, :, tap] for tap, s in enumerate(shifts)]).sum(0) + self.bias
        return self.product(torch.cat([x[:, s : s + frames] for s in shifts], 2) if self.taps > 1 else x)


class TransposedConv(MatmulLayer):
    """Transpose of a strided :class:`Conv`, with ``T * stride`` output frames.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        stride: output frames per input frame; the kernel has twice as many taps.
        causal: output frames depend on no input frame after their own.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, causal: bool = False) -> None:
        super().__init__((inputs, outputs, 2 * stride), outputs, 2 * inputs)
        self.stride = stride
        self.after = stride if causal else stride // 2  # output frames that an input frame affects after its own

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102, see MatmulLayer
        # a block of the output sums the first half of the taps times its frame and the second times the frame before
        inputs, outputs, _ = weight.shape
        halves = weight.view(inputs, outputs, 2, self.stride).permute(3, 1, 2, 0)
        return halves.reshape(self.stride * outputs, -1), bias.repeat(self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        x = F.pad(x, (0, 0, 1, 1))
        y = self.product(torch.cat([x[:, 1:], x[:, :-1]], 2))
        y = y.view(len(y), y.shape[1] * self.stride, -1)
        return y[:, self.stride - self.after : y.shape[1] - self.after]


class ELU(nn.Module):
    """Exponential linear unit (Clevert et al. 2015, arXiv 1511.07289)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.elu(x)


class Snake(nn.Module):
    """``x + sin(a x)² / a`` with a trained ``a`` for each of ``dim`` channels (Liu et al. 2020, arXiv 2006.08195)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        alpha = self.alpha.float()
        return x + (alpha * x).sin().square() / (alpha + 1e-9)


def make_activation(name: str, dim: int) -> nn.Module:
    """Make the activation ``name``, ``"elu"`` or ``"snake"``, for ``dim`` channels."""
    return Snake(dim) if name == "snake" else ELU()


class ResidualBlock(nn.Module):
    """Two convolutions, to half the width and back, added to a shortcut convolution.

    Args:
        dim: width ``D``.
        kernel_size: taps of the first convolution.
        dilation: dilation of the first convolution.
        activation: see :func:`make_activation`.
        causal: see :class:`Conv`.
    """

    def __init__(self, dim: int, kernel_size: int, dilation: int, activation: str, causal: bool) -> None:
        super().__init__()
        self.enter = make_activation(activation, dim)
        self.narrow = Conv(dim, dim // 2, kernel_size, dilation=dilation, causal=causal)
        self.between = make_activation(activation, dim // 2)
        self.widen = Conv(dim // 2, dim, 1)
        self.shortcut = Conv(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``. Returns ``(B, T, D)``."""
        y: Tensor = self.shortcut(x) + self.widen(self.between(self.narrow(self.enter(x))))
        return y


class SEANetEncoder(nn.Module):
    """Waveform to latent.

    Args:
        filters: width at the sample rate; each strided convolution doubles it.
        strides: strides in the order of the decoder; the encoder uses the reverse order.
        latent_dim: width ``D`` of the latent.
        residual_layers: residual blocks before each strided convolution.
        residual_kernel_size: kernel size of the residual blocks.
        dilation_base: factor of the dilation from one residual block to the next.
        activation: see :func:`make_activation`.
        causal: see :class:`Conv`.
        lstm_layers: layers of the LSTM at the frame rate; 0 for no LSTM.
        bidirectional: whether the LSTM also runs backwards.
    """

    def __init__(
        self,
        filters: int,
        strides: Sequence[int],
        latent_dim: int,
        residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        activation: str,
        causal: bool,
        lstm_layers: int,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        dim = filters
        layers: list[nn.Module] = [Conv(1, dim, 7, causal=causal)]
        for stride in reversed(strides):
            for layer in range(residual_layers):
                layers.append(ResidualBlock(dim, residual_kernel_size, dilation_base**layer, activation, causal))
            layers += [make_activation(activation, dim), Conv(dim, 2 * dim, 2 * stride, stride, causal=causal)]
            dim *= 2
        self.front = nn.Sequential(*layers)
        self.halo = _halo(self.front, self.hop_length)
        self.lstm = ResidualLSTM(dim, lstm_layers, bidirectional) if lstm_layers else nn.Identity()
        dim *= 1 + (bidirectional and lstm_layers > 0)
        self.back = nn.Sequential(make_activation(activation, dim), Conv(dim, latent_dim, 7, causal=causal))

    def forward(self, waveform: Tensor) -> Tensor:
        """``waveform``: ``(B, S)``. Returns the latent ``(B, T, D)`` with ``T = ceil(S / hop_length)``."""
        latent: Tensor = self.back(self.lstm(self.front(waveform[..., None])))
        return latent

    def pieces(self, waveform: Tensor) -> Iterator[Tensor]:
        """Compute :meth:`forward` in pieces, without gradient.

        Memory is bounded if the LSTM has one direction. With two, the whole signal at the frame rate is held.
        """
        samples = torch.split(waveform[..., None], PIECE_FRAMES * self.hop_length, 1)
        x = _run_in_pieces(self.front, samples, self.halo, self.hop_length, 1)
        return _run_in_pieces(self.back, _run_lstm(self.lstm, x), 7, 1, 1)


class SEANetDecoder(nn.Module):
    """Latent to waveform, with the layers of the encoder in reverse. For the arguments, see :class:`SEANetEncoder`."""

    def __init__(
        self,
        filters: int,
        strides: Sequence[int],
        latent_dim: int,
        residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        activation: str,
        causal: bool,
        lstm_layers: int,
    ) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        dim = filters * 2 ** len(strides)
        self.front = Conv(latent_dim, dim, 7, causal=causal)
        self.lstm = ResidualLSTM(dim, lstm_layers, False) if lstm_layers else nn.Identity()
        layers: list[nn.Module] = []
        for stride in strides:
            layers += [make_activation(activation, dim), TransposedConv(dim, dim // 2, stride, causal)]
            dim //= 2
            for layer in range(residual_layers):
                layers.append(ResidualBlock(dim, residual_kernel_size, dilation_base**layer, activation, causal))
        self.back = nn.Sequential(*layers, make_activation(activation, dim), Conv(dim, 1, 7, causal=causal))
        self.halo = _halo(self.back, self.hop_length)

    def forward(self, latent: Tensor) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns ``(B, T * hop_length)``."""
        waveform: Tensor = self.back(self.lstm(self.front(latent)))
        return waveform.squeeze(2)

    def pieces(self, latent: Iterable[Tensor]) -> Iterator[Tensor]:
        """Compute :meth:`forward` in pieces, in bounded memory. ``latent``: pieces ``(B, T, D)``."""
        x = _run_lstm(self.lstm, _run_in_pieces(self.front, latent, 7, 1, 1))
        return (piece.squeeze(2) for piece in _run_in_pieces(self.back, x, self.halo, 1, self.hop_length))


PIECE_FRAMES = 100
"""Frames per call of the convolutions: memory stays bounded, and caches stay warm."""


def _run_in_pieces(net: nn.Module, x: Iterable[Tensor], halo: int, before: int, after: int) -> Iterator[Tensor]:
    """Apply a network to a signal in pieces.

    Pieces overlap by the halo, and outputs that depend on frames outside of a piece are dropped.

    Args:
        net: the network.
        x: pieces ``(B, frames * before, D)``; the last one may end within a frame.
        halo: frames to either side that an output frame depends on.
        before: steps per frame of the input.
        after: steps per frame of the output.

    Yields:
        Pieces ``(B, frames * after, D)``.
    """
    held: Tensor | None = None
    done = 0  # frames held whose outputs were returned, kept as context of the next ones
    for piece in x:
        if held is not None:
            if held.shape[1] // before - done > halo:
                y = net(held)
                known = held.shape[1] // before - halo
                yield y[:, done * after : known * after]
                held, done = held[:, max(0, known - halo) * before :], min(known, halo)
            piece = torch.cat([held, piece], 1)
        held = piece
    if held is not None:
        yield net(held)[:, done * after :]


def _run_lstm(lstm: nn.Module, x: Iterable[Tensor]) -> Iterator[Tensor]:
    """Apply an LSTM, or an identity, to a signal in pieces ``(B, T, D)``.

    The LSTM runs in parallel over time, so it takes long pieces.
    """
    if not isinstance(lstm, ResidualLSTM):
        yield from x
    elif lstm.directions == 2:
        yield from torch.split(lstm(torch.cat(list(x), 1)), PIECE_FRAMES, 1)
    else:
        state: list[LSTMState] | None = None
        for piece in _regroup(x, PIECE_STEPS):
            y, state = lstm.advance(piece, state or lstm.initial_state(len(piece)))
            yield from torch.split(y, PIECE_FRAMES, 1)


def _regroup(x: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """Cut a signal in pieces ``(B, T, D)`` anew, into pieces of ``frames`` frames and a last, shorter one."""
    held: list[Tensor] = []
    for piece in x:
        held.append(piece)
        if sum(some.shape[1] for some in held) >= frames:
            whole = torch.cat(held, 1)
            yield whole[:, :frames]
            held = [whole[:, frames:]]
    if held and sum(some.shape[1] for some in held):
        yield torch.cat(held, 1)


def _halo(net: nn.Module, hop_length: int) -> int:
    """Frames to either side that an output of ``net``, between sample rate and frame rate, depends on."""
    reach, convs = 0, [m for m in net.modules() if isinstance(m, (Conv, TransposedConv))]
    upwards = any(isinstance(m, TransposedConv) for m in convs)
    step = hop_length if upwards else 1  # samples per step of the signal at this layer
    for conv in convs:
        if isinstance(conv, TransposedConv):
            step //= conv.stride
            reach += max(conv.after, conv.stride - conv.after) * step
        else:
            reach += conv.left * step
            step *= conv.stride
    return -(-reach // hop_length)


def reflect_pad(x: Tensor, left: int, right: int) -> Tensor:
    """Pad ``x``, ``(B, T, D)``, by reflection at its first and last frames.

    A signal that is too short for reflection is first padded with zeros, which are removed afterwards.
    """
    short = max(0, max(left, right) + 1 - x.shape[1])
    if short:
        x = F.pad(x, (0, 0, 0, short))
    if left or right:
        x = torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, x.shape[1] - right - 1 : -1].flip(1)], 1)
    return x[:, : x.shape[1] - short] if short else x
