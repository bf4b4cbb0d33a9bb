"""Normal noise from whole numbers alone: the same on every machine, wherever a stream begins."""

import math

import torch
from torch import Tensor

_SUM = 8
"""16-bit numbers whose sum is nearly normal (Irwin-Hall): its excess kurtosis is -0.15."""
_MEAN = _SUM * 65_535 / 2
_SCALE = 1 / math.sqrt(_SUM * (2**32 - 1) / 12)


def normal_noise(seed: int, frame: int, dim: int) -> Tensor:
    """Noise of one frame, about standard normal, float32 ``(dim,)``.

    Element ``d`` sums the four 16-bit parts of the 64-bit hashes of ``2 * d`` and ``2 * d + 1``. The hash is the
    finalizer of SplitMix64 (Steele et al. 2014, Fast splittable pseudorandom number generators), first of the seed,
    then of the frame plus that, then of the element plus that.
    """
    start = _hash(torch.tensor([_wrap(seed)]))
    start = _hash(start + frame)
    hashes = _hash(start + torch.arange(2 * dim))
    parts = torch.stack([(hashes >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]).sum(0)
    return (parts.view(dim, 2).sum(1).double() - _MEAN).float() * _SCALE


def _hash(x: Tensor) -> Tensor:
    """Of int64 numbers, which wrap around."""
    x = x * _wrap(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _wrap(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _wrap(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrap(x: int) -> int:
    """The signed number of 64 bits that is congruent to ``x``."""
    return (x + 2**63) % 2**64 - 2**63
