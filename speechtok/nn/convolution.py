"""Causal convolutions over ``(B, T, D)``, with their past as an explicit state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalDepthwiseConv(nn.Module):
    """One filter per channel over the present frame and the ``kernel_size - 1`` frames before it.

    Written as a sum of shifted products: the width stays the innermost, contiguous axis, so that the linear layers
    around the convolution need no transposition, and a compiler fuses the sum into one loop.

    Args:
        dim: width ``D``.
        kernel_size: frames that one output frame sees, its own included.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel_size, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)

    def initial_state(self, batch_size: int) -> Tensor:
        """The past of a signal that has none: zeros, ``(B, kernel_size - 1, D)``."""
        kernel_size, dim = self.weight.shape
        return self.weight.new_zeros(batch_size, kernel_size - 1, dim)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x``: ``(B, T, D)``; ``state``: the frames before it. Returns ``(B, T, D)`` and the next state."""
        frames = x.shape[1]
        x = torch.cat([state.to(x.dtype), x], dim=1)
        y: Tensor = self.bias
        for k, weight in enumerate(self.weight.unbind(0)):
            y = y + x[:, k : k + frames] * weight
        return y, x[:, frames:]


class CausalConvNeXtBlock(nn.Module):
    """ConvNeXt block (Liu et al. 2022, arXiv 2201.03545), causal, with RMS norm and one residual branch.

    Args:
        dim: width ``D``.
        kernel_size: frames that the depthwise convolution sees.
        expansion: hidden width of the two linear layers, in multiples of ``dim``.
    """

    def __init__(self, dim: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        self.conv = CausalDepthwiseConv(dim, kernel_size)
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, expansion * dim)
        self.contract = nn.Linear(expansion * dim, dim)

    def initial_state(self, batch_size: int) -> Tensor:
        """See :meth:`CausalDepthwiseConv.initial_state`."""
        return self.conv.initial_state(batch_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x``: ``(B, T, D)``; ``state``: ``(B, kernel_size - 1, D)``. Returns ``(B, T, D)`` and the next state."""
        y, state = self.conv(x, state)
        y = self.contract(F.gelu(self.expand(self.norm(y))))
        return x + y, state
