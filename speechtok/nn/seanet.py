"""The ``seanet`` family: SEANet (Tagliasacchi et al. 2020, arXiv 2009.02095) as EnCodec (Défossez et al. 2022, arXiv
2210.13438) and SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692) have it.

The width is the innermost axis, so that every convolution is one matrix product: one with a stride is one of two taps
over blocks of samples, and so is its transpose. Convolutions look into the future and mirror the signal at its ends, as
published; or they are causal, and what is before the signal, and completes its last frame, is silence. Their weights
have PyTorch's layout, weight norm folded in.
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
        nn.init.uniform_(self.weight, -((3 / inputs) ** 0.5), (3 / inputs) ** 0.5)  # signals keep their size
        nn.init.zeros_(self.bias)
        self._prepared: WeightCache[Product] = WeightCache()

    def product(self, x: Tensor) -> Tensor:
        """``x``: ``(..., K)``. Returns ``(..., N)``."""
        weight = self.weight  # with weight norm, it is computed anew each time
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return F.linear(x, *self.matrix(weight, self.bias))
        return self._prepared(lambda *weights: pack(*self.matrix(*weights)), weight, self.bias)(x)

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(N, K)`` and bias ``(N,)`` of the product."""
        raise NotImplementedError


class Conv(MatmulLayer):
    """Convolution over ``(B, T, D)``; gives ``ceil(T / stride)`` frames.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        kernel_size: taps; ``2 * stride`` if there is a stride.
        stride: frames of the input for one of the output.
        dilation: frames from one tap to the next.
        causal: an output sees no frame after the last of its own ``stride``.
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
        self.shifts_after = stride == 1 and outputs < kernel_size  # few numbers come out: shift these

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102, see MatmulLayer
        if self.shifts_after:  # a row for each tap, without bias
            return weight.transpose(1, 2).flatten(0, 1), torch.zeros_like(weight[:, 0]).flatten()
        return weight.transpose(1, 2).flatten(1), bias

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``."""
        right = self.right + -x.shape[1] % self.stride
        # a mirror at the beginning would show what comes later
        x = F.pad(x, (0, 0, self.left, right)) if self.causal else mirrored(x, self.left, right)
        if self.stride > 1:
            x = x.reshape(len(x), -1, self.stride * x.shape[2])
        frames = x.shape[1] - (self.taps - 1) * self.dilation
        shifts = range(0, self.taps * self.dilation, self.dilation)
        if self.shifts_after:
            y = self.product(x).view(*x.shape[:2], len(self.bias), self.taps)
            return torch.stack([y[:, s : s + frames, :, tap] for tap, s in enumerate(shifts)]).sum(0) + self.bias
        return self.product(torch.cat([x[:, s : s + frames] for s in shifts], 2) if self.taps > 1 else x)


class TransposedConv(MatmulLayer):
    """The transpose of a strided :class:`Conv`: ``T * stride`` frames.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        stride: frames of the output for one of the input; there are twice as many taps.
        causal: the output's frames see none of the input after their own.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, causal: bool = False) -> None:
        super().__init__((inputs, outputs, 2 * stride), outputs, 2 * inputs)
        self.stride = stride
        self.after = stride if causal else stride // 2  # frames that one of the input reaches past its own

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102, see MatmulLayer
        # a block of the output is the first half of the taps times its frame, and the second times the one before
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
        causal: see :class:`Conv`.
    """

    def __init__(self, dim: int, kernel_size: int, dilation: int, kind: str, causal: bool) -> None:
        super().__init__()
        self.enter = activation(kind, dim)
        self.narrow = Conv(dim, dim // 2, kernel_size, dilation=dilation, causal=causal)
        self.between = activation(kind, dim // 2)
        self.widen = Conv(dim // 2, dim, 1)
        self.shortcut = Conv(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``, and so is the result."""
        y: Tensor = self.shortcut(x) + self.widen(self.between(self.narrow(self.enter(x))))
        return y


class SEANetEncoder(nn.Module):
    """Waveform to latent.

    Args:
        filters: width at sample rate; every stride doubles it.
        strides: of the decoder, in its order; the encoder has them backwards.
        latent_dim: width ``D`` of the latent.
        residual_layers: residual blocks before each stride.
        residual_kernel_size: their taps.
        dilation_base: the dilation of each is that of the one before times this.
        kind: of activation.
        causal: see :class:`Conv`.
        lstm_layers: of the LSTM at frame rate; 0 for none.
        bidirectional: whether it runs backwards too.
    """

    def __init__(
        self,
        filters: int,
        strides: Sequence[int],
        latent_dim: int,
        residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        kind: str,
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
                layers.append(ResidualBlock(dim, residual_kernel_size, dilation_base**layer, kind, causal))
            layers += [activation(kind, dim), Conv(dim, 2 * dim, 2 * stride, stride, causal=causal)]
            dim *= 2
        self.front = nn.Sequential(*layers)
        self.halo = _halo(self.front, self.hop_length)
        self.lstm = ResidualLSTM(dim, lstm_layers, bidirectional) if lstm_layers else nn.Identity()
        dim *= 1 + (bidirectional and lstm_layers > 0)
        self.back = nn.Sequential(activation(kind, dim), Conv(dim, latent_dim, 7, causal=causal))

    def forward(self, waveform: Tensor) -> Tensor:
        """``waveform``: ``(B, S)``. Returns the latent ``(B, T, D)`` with ``T = ceil(S / hop_length)``."""
        latent: Tensor = self.back(self.lstm(self.front(waveform[..., None])))
        return latent

    def pieces(self, waveform: Tensor) -> Iterator[Tensor]:
        """What :meth:`forward` gives, end to end, without gradient: memory stays bounded if the LSTM has one direction.

        With two, its layers at frame rate are held whole.
        """
        samples = torch.split(waveform[..., None], PIECE_FRAMES * self.hop_length, 1)
        x = _by_pieces(self.front, samples, self.halo, self.hop_length, 1)
        return _by_pieces(self.back, _recurrent(self.lstm, x), 7, 1, 1)


class SEANetDecoder(nn.Module):
    """Latent to waveform: the encoder backwards. The arguments are those of :class:`SEANetEncoder`."""

    def __init__(
        self,
        filters: int,
        strides: Sequence[int],
        latent_dim: int,
        residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        kind: str,
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
            layers += [activation(kind, dim), TransposedConv(dim, dim // 2, stride, causal)]
            dim //= 2
            for layer in range(residual_layers):
                layers.append(ResidualBlock(dim, residual_kernel_size, dilation_base**layer, kind, causal))
        self.back = nn.Sequential(*layers, activation(kind, dim), Conv(dim, 1, 7, causal=causal))
        self.halo = _halo(self.back, self.hop_length)

    def forward(self, latent: Tensor) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns ``(B, T * hop_length)``."""
        waveform: Tensor = self.back(self.lstm(self.front(latent)))
        return waveform.squeeze(2)

    def pieces(self, latent: Iterable[Tensor]) -> Iterator[Tensor]:
        """``latent``: in pieces of whole frames. What :meth:`forward` gives, end to end, in bounded memory."""
        x = _recurrent(self.lstm, _by_pieces(self.front, latent, 7, 1, 1))
        return (piece.squeeze(2) for piece in _by_pieces(self.back, x, self.halo, 1, self.hop_length))


PIECE_FRAMES = 100
"""Frames that convolutions take at a time: memory stays bounded, and caches warm."""


def _by_pieces(net: nn.Module, x: Iterable[Tensor], halo: int, before: int, after: int) -> Iterator[Tensor]:
    """``net`` of a signal in pieces ``(B, frames * before, D)``, as pieces ``(B, frames * after, D)``.

    The last piece may end within a frame. What a frame becomes depends on ``halo`` frames on either side of it at most,
    so that those are known before it is given: pieces overlap, and what comes of the overlaps is dropped.
    """
    held: Tensor | None = None
    done = 0  # frames of what is held that were given, and are there for the sake of the next
    for piece in x:
        if held is not None:
            if held.shape[1] // before - done > halo:
                y = net(held)
                given = held.shape[1] // before - halo
                yield y[:, done * after : given * after]
                held, done = held[:, max(0, given - halo) * before :], min(given, halo)
            piece = torch.cat([held, piece], 1)
        held = piece
    if held is not None:
        yield net(held)[:, done * after :]


def _recurrent(lstm: nn.Module, x: Iterable[Tensor]) -> Iterator[Tensor]:
    """An LSTM, or none, over a signal in pieces ``(B, T, D)``: parallel over time, so over long pieces at a time."""
    if not isinstance(lstm, ResidualLSTM):
        yield from x
    elif lstm.directions == 2:
        yield from torch.split(lstm(torch.cat(list(x), 1)), PIECE_FRAMES, 1)
    else:
        state: list[LSTMState] | None = None
        for piece in _at_least(x, PIECE_STEPS):
            y, state = lstm.advance(piece, state or lstm.initial_state(len(piece)))
            yield from torch.split(y, PIECE_FRAMES, 1)


def _at_least(x: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """The same signal in pieces of ``frames`` frames, ``(B, frames, D)``, and what is left."""
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
    """Frames that the convolutions of ``net``, between sample rate and frame rate, reach to either side."""
    reach, convs = 0, [m for m in net.modules() if isinstance(m, (Conv, TransposedConv))]
    upwards = any(isinstance(m, TransposedConv) for m in convs)
    step = hop_length if upwards else 1  # samples from one frame of the signal to the next, at this place of the net
    for conv in convs:
        if isinstance(conv, TransposedConv):
            step //= conv.stride
            reach += max(conv.after, conv.stride - conv.after) * step
        else:
            reach += conv.left * step
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
