"""Input of the measurements."""

import torch
from torch import Tensor


def noise(batch: int, samples: int) -> Tensor:
    """Low-level noise, ``(B, S)``."""
    return (torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.05).clamp(-1, 1)
