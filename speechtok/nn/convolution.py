"""Causal convolutions over ``(B, T, D)``, with their past as an explicit state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.exact import ExactLinear


class CausalDepthwiseConv(nn.Module):
    """One filter per channel over the present frame and the ``kernel_size - 1`` frames before it.

    Written as sums of shifted products, in transposed form: the state is what the past adds to outputs to come. The
    width stays the innermost, contiguous axis, so that the linear layers around need no transposition.

    Args:
        dim: width ``D``.
        kernel_size: frames that one output frame sees, its own included. ``weight[0]`` is that of its own.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel_size, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)

    def initial_state(self, batch_size: int) -> Tensor:
        """What a past of zeros adds to the frames to come: zeros, ``(B, kernel_size - 1, D)``."""
        kernel_size, dim = self.weight.shape
        return torch.zeros(batch_size, kernel_size - 1, dim, dtype=torch.float32, device=self.weight.device)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Filter ``x``, ``(B, T, D)``.

        Args:
            x: the frames.
            state: what the frames before ``x`` add to the next ``kernel_size - 1`` outputs.

        Returns:
            ``(B, T, D)`` and the next state.
        """
        frames, weight = x.shape[1], self.weight.float()
        kernel_size = len(weight)
        # an output is the sum of its products from the oldest to the newest, however the frames come: the bits depend
        # on it
        y = F.pad(state, (0, 0, 0, frames))
        if frames < kernel_size:
            for t in range(frames):
                y[:, t : t + kernel_size].add_(x[:, t : t + 1] * weight)
        else:
            for lag in range(kernel_size - 1, -1, -1):
                y[:, lag : lag + frames].add_(x * weight[lag])
        return y[:, :frames] + self.bias.float(), y[:, frames:]


class CausalConvNeXtBlock(nn.Module):
    """ConvNeXt block (Liu et al. 2022, arXiv 2201.03545), causal and exact, with RMS norm and hard swish.

    Args:
        dim: width ``D``.
        kernel_size: frames that the depthwise convolution sees.
        expansion: hidden width of the two linear layers, in multiples of ``dim``.
    """

    def __init__(self, dim: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        self.conv = CausalDepthwiseConv(dim, kernel_size)
        self.expand = ExactLinear(dim, expansion * dim, normed=True)
        self.contract = ExactLinear(expansion * dim, dim, floor=0.375)  # hard swish is never less than -0.375

    def initial_state(self, batch_size: int) -> Tensor:
        """See :meth:`CausalDepthwiseConv.initial_state`."""
        return self.conv.initial_state(batch_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x``: ``(B, T, D)``; ``state``: ``(B, kernel_size - 1, D)``. Returns ``(B, T, D)`` and the next state."""
        y, state = self.conv(x, state)
        hidden = self.expand(y.flatten(0, 1))
        hidden = F.hardswish(hidden, inplace=not hidden.requires_grad)
        return x + self.contract(hidden).view_as(x), state
