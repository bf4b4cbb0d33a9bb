"""Causal convolutions over ``(B, T, D)`` with an explicit state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import InputError
from speechtok.nn.exact import ExactLinear, hard_swish, is_compiling


class CausalDepthwiseConv(nn.Module):
    """One filter per channel over the present frame and the ``kernel_size - 1`` frames before it.

    The filter is computed in transposed form, as a sum of shifted products: the state is the contribution of past
    frames to future outputs. The width is the innermost, contiguous axis, so that linear layers need no transposition.

    Args:
        dim: width ``D``.
        kernel_size: frames that an output frame depends on, its own included, to which ``weight[0]`` applies.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel_size, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)

    def initial_state(self, batch_size: int) -> Tensor:
        """State before the first frame: zeros, ``(B, kernel_size - 1, D)``."""
        if self.weight.ndim != 2 or not len(self.weight):
            raise InputError(
                f"the weight of a convolution has shape {tuple(self.weight.shape)}; expected (kernel_size, D): restore "
                "the layer that was replaced"
            )
        kernel_size, dim = self.weight.shape
        return torch.zeros(batch_size, kernel_size - 1, dim, dtype=torch.float32, device=self.weight.device)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Filter frames.

        Args:
            x: ``(B, T, D)``.
            state: contribution of the frames before ``x`` to the next outputs, ``(B, kernel_size - 1, D)``.

        Returns:
            ``(B, T, D)`` and the next state.
        """
        frames, weight = x.shape[1], self.weight.float()
        kernel_size = len(weight)
        # an output sums its products from the oldest to the newest for any number of frames: the bits depend on it
        y = F.pad(state, (0, 0, 0, frames))
        if is_compiling():
            for lag in range(kernel_size - 1, -1, -1):
                y = y + F.pad(x * weight[lag], (0, 0, lag, kernel_size - 1 - lag))
        elif frames < kernel_size:
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
        kernel_size: frames that an output of the depthwise convolution depends on, its own included.
        expansion: hidden width, in multiples of ``dim``.
    """

    def __init__(self, dim: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        self.conv = CausalDepthwiseConv(dim, kernel_size)
        self.expand = ExactLinear(dim, expansion * dim, normed=True)
        self.contract = ExactLinear(expansion * dim, dim, floor=0.375)  # the minimum of hard swish is -0.375

    def initial_state(self, batch_size: int) -> Tensor:
        """See :meth:`CausalDepthwiseConv.initial_state`."""
        return self.conv.initial_state(batch_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x``: ``(B, T, D)``; ``state``: ``(B, kernel_size - 1, D)``. Returns ``(B, T, D)`` and the next state."""
        y, state = self.conv(x, state)
        hidden = hard_swish(self.expand(y.flatten(0, 1)))
        return x + self.contract(hidden).view_as(x), state
