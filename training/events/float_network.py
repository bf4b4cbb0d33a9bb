"""The turn detector's network in floating point: the same up to rounding, and twice as fast to train."""

import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.nn.convolution import CausalConvNeXtBlock, CausalDepthwiseConv
from speechtok.nn.exact import ExactLinear
from speechtok.nn.turns import TurnNetwork


def float_scores(network: TurnNetwork, latent: Tensor) -> Tensor:
    """Scores ``(B, T, 3)`` of whole scenes, from latents ``(B, T, D)``; nothing is rounded to levels."""
    x = _linear(network.project, latent)
    for block in network.blocks.blocks:
        assert isinstance(block, CausalConvNeXtBlock)
        hidden = F.hardswish(_linear(block.expand, _convolve(block.conv, x)))
        x = x + _linear(block.contract, hidden)
    return _linear(network.head, _linear(network.split, x))


def _linear(linear: ExactLinear, x: Tensor) -> Tensor:
    if linear.normed:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-12)
    return F.linear(x, linear.weight, linear.bias)


def _convolve(conv: CausalDepthwiseConv, x: Tensor) -> Tensor:
    """By Fourier transforms, which do not get slower with the length of the kernel."""
    frames, kernel_size = x.shape[1], len(conv.weight)
    length = fast_length(frames + kernel_size - 1)
    signal = torch.fft.rfft(x.transpose(1, 2).contiguous(), length)
    kernel = torch.fft.rfft(conv.weight.t().contiguous(), length)
    return torch.fft.irfft(signal * kernel, length)[..., :frames].transpose(1, 2) + conv.bias


def fast_length(length: int) -> int:
    """The next length that is a product of small primes, for which Fourier transforms are fast."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
