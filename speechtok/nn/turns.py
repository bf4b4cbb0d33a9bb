"""The network of the turn detector: latents to the probabilities of speech, end of turn and overlap."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from speechtok.nn.convnext import BlockStack, State
from speechtok.nn.exact import ExactLinear

OUTPUTS = 3
"""Speech, end of turn, overlap."""


class TurnNetwork(nn.Module):
    """Latent to scores, frame by frame, without lookahead and exact on every machine.

    The network has the layers of a :class:`~speechtok.nn.convnext.ConvNeXtDecoder` whose patches have three samples and
    do not overlap, so that the compiled decoder computes it.

    Args:
        latent_dim: width ``D`` of the latent.
        dim: width of the blocks.
        depth: number of blocks.
        kernel_size: frames that one block sees, its own included.
        expansion: hidden width of a block, in multiples of its width.
    """

    def __init__(self, latent_dim: int, dim: int, depth: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        self.project = ExactLinear(latent_dim, dim, fine=True)
        self.blocks = BlockStack(dim, depth, kernel_size, expansion)
        self.split = ExactLinear(dim, dim)
        self.head = ExactLinear(dim, OUTPUTS, normed=True, fine=True)

    def initial_state(self, batch_size: int) -> State:
        """State before the first frame. It begins with what a decoder adds to its next patch: here, zeros."""
        tail = torch.zeros(batch_size, OUTPUTS, dtype=torch.float32, device=self.head.weight.device)
        return tail, *self.blocks.initial_state(batch_size)

    def forward(self, latent: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """``latent``: ``(B, T, D)``. Returns scores ``(B, T, 3)`` and the next state."""
        batch, frames, _ = latent.shape
        x = self.project(latent.flatten(0, 1)).view(batch, frames, -1)
        x, blocks = self.blocks(x, state[1:])
        scores = self.head(self.split(x.flatten(0, 1))).view(batch, frames, OUTPUTS)
        return scores, (torch.zeros_like(state[0]), *blocks)


def probabilities(scores: Tensor) -> Tensor:
    """Turn scores ``s`` into probabilities ``(1 + s / (1 + |s|)) / 2``.

    An exponential function differs in its last bits between processors, and a quotient does not. The network learns the
    scores that fit.
    """
    if scores.requires_grad or not scores.is_cpu:
        return (scores / (scores.abs() + 1.0) + 1.0) * 0.5
    values = scores.numpy()  # the same operations, which take a third of the time on a few values
    found = np.abs(values)
    found += 1.0
    np.divide(values, found, out=found)
    found += 1.0
    found *= 0.5
    return torch.from_numpy(found)
