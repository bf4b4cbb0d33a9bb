"""States of streaming modules as one tensor, which is faster to allocate, copy and pass on than a dozen.

Modules take and return a state as a tuple of tensors with the batch first. Packed, it is one float32 tensor ``(B, n)``.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from speechtok.errors import StreamError


class Streaming(Protocol):
    """A module with a state."""

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """State at the start of a signal."""


class Joined(NamedTuple):
    """Two modules whose states follow each other."""

    first: Streaming
    second: Streaming

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """State at the start of a signal."""
        return (*self.first.initial_state(batch_size), *self.second.initial_state(batch_size))


def pack_state(state: tuple[Tensor, ...]) -> Tensor:
    """Join the tensors of a state: ``(B, n)``."""
    return torch.cat([tensor.flatten(1) for tensor in state], 1)


def unpack_state(packed: Tensor, module: Streaming) -> tuple[Tensor, ...]:
    """Undo :func:`pack_state`, for a state of ``module``.

    Raises:
        StreamError: the state belongs to another module.
    """
    shapes = [tensor.shape[1:] for tensor in module.initial_state(0)]
    sizes = [shape.numel() for shape in shapes]
    if packed.shape[1] != sum(sizes):
        raise StreamError(
            f"the state has shape {tuple(packed.shape)}; expected {(packed.shape[0], sum(sizes))}: start anew after "
            "replacing layers of the model"
        )
    parts = torch.split(packed, sizes, 1)
    return tuple(part.reshape(packed.shape[0], *shape) for part, shape in zip(parts, shapes, strict=True))
