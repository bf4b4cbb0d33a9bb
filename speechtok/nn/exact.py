"""Matrix products whose result is the same number everywhere.

A sum of floats depends on its order, and the order on the kernel: on the shape of the batch, the threads, the
processor. A sum of whole numbers that stays below 2**24 does not: float32 holds every partial sum, so any order, any
fused or split kernel, and integer arithmetic too, give the same. Both operands of every product are therefore rounded
to *levels*, whole numbers from -127 to 127: weights once, with one scale for each output; signals anew for every
frame, relative to its largest value. Between products stand only additions, multiplications, divisions, square roots
and roundings, element by element, which IEEE 754 defines to the last bit.

Where the processor multiplies bytes faster than floats, products run as int8, and otherwise as float32: a choice of
speed alone. While training, the same rounding is applied to the masters, with straight-through gradients (Jacob et al.
2018, arXiv 1712.05877).
"""

import functools
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import ConfigError

T = TypeVar("T")

TOP_LEVEL = 127
_LARGEST_SUM = 2**24 // TOP_LEVEL
"""Levels of one output's weights may add up to this: then no sum of products leaves what float32 holds exactly."""
_MOST_INPUTS = 2**16
_LEAST = 1e-30
"""A signal or weight of zeros counts as this large."""


def to_levels(x: Tensor, top: int = TOP_LEVEL, floor: float | None = None) -> tuple[Tensor, Tensor]:
    """Round every row of ``x``, ``(M, K)``, to levels of its largest value.

    Args:
        x: the signal.
        top: the largest level.
        floor: where ``x`` never falls below ``-floor``: levels are then those of the largest positive value, or of
            ``floor`` if that is larger.

    Returns:
        The levels, float32 ``(M, K)``, and the size of a level in each row, ``(M, 1)``.
    """
    with torch.no_grad():
        peak = (x.abs() if floor is None else x).amax(-1, keepdim=True)
        size = peak.float().clamp_min_(_LEAST if floor is None else floor).mul_(1 / top)
    return _round(x / size), size


class ExactLinear(nn.Module):
    """A linear layer that rounds its input and weights to levels. In training mode the rounding lets gradients pass.

    Args:
        in_features: ``K``.
        out_features: ``N``.
        normed: scale every row of the input to a root mean square of one (RMS norm, Zhang and Sennrich 2019, arXiv
            1910.07467; its gain is part of the weights).
        fine: round the input 128 times as finely, at the price of two products.
        floor: see :func:`to_levels`.

    Raises:
        ConfigError: there are too many inputs for their sum to be exact.
    """

    def __init__(
        self, in_features: int, out_features: int, normed: bool = False, fine: bool = False, floor: float | None = None
    ) -> None:
        super().__init__()
        if in_features > _MOST_INPUTS:
            raise ConfigError(
                f"a layer has {in_features} inputs; exact products have at most {_MOST_INPUTS}: choose smaller widths"
            )
        linear = nn.Linear(in_features, out_features)
        self.weight, self.bias = linear.weight, linear.bias
        self.normed, self.fine, self.floor = normed, fine, floor
        self._operands = Prepared(self._prepare)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(M, K)``. Returns float32 ``(M, N)``."""
        levels, scale = to_levels(x, 128 * TOP_LEVEL if self.fine else TOP_LEVEL, self.floor)
        if self.normed:
            # a sum of whole numbers again, which float32 holds up to some width; the size of a level does not matter
            wide = self.fine or x.shape[1] * TOP_LEVEL**2 >= 2**24
            norm = torch.linalg.vector_norm(levels, dim=-1, keepdim=True, dtype=torch.float64 if wide else None)
            scale = norm.float().clamp_min(1.0).reciprocal()
        if self.training:
            weight, weight_scale, bias = self._scaled(self.weight, self.bias)
            return self._product(F.linear, levels, weight) * scale * weight_scale + bias
        weight, weight_scale, bias = self._operands(self.weight, self.bias)
        return self._product(_float_sums, levels, weight).mul_(scale).mul_(weight_scale).add_(bias)

    def _product(self, product: Callable[[Tensor, Tensor], Tensor], levels: Tensor, weight: Tensor) -> Tensor:
        if not self.fine:
            return product(levels, weight)
        coarse = _round(levels / 128)
        return 128 * product(coarse, weight) + product(levels - 128 * coarse, weight)

    def _scaled(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels, scale = weight_levels(weight)
        return levels, scale * weight.shape[1] ** 0.5 if self.normed else scale, bias

    def _prepare(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels, scale, bias = self._scaled(weight.float(), bias.float())
        return prepare(levels), scale, bias


def weight_levels(weight: Tensor, one_scale: bool = False) -> tuple[Tensor, Tensor]:
    """Levels of a matrix ``(N, K)``, with the gradient of the matrix, and the size of one level in each row, ``(N,)``.

    Args:
        weight: the matrix.
        one_scale: a level has the same size in all rows.
    """
    peak = weight.detach().abs().amax(1).clamp_min(_LEAST)
    peak = peak.amax().expand_as(peak) if one_scale else peak
    levels = (weight.detach() * (TOP_LEVEL / peak)[:, None]).round()
    # long rows of large weights get coarser levels; rounding again may add half a level each
    excess = (levels.abs().sum(1) / (_LARGEST_SUM - weight.shape[1])).ceil().clamp_min(1.0)
    peak = peak * (excess.amax() if one_scale else excess)
    return _round(weight * (TOP_LEVEL / peak)[:, None]), peak / TOP_LEVEL


def prepare(levels: Tensor) -> Tensor:
    """Levels of a matrix ``(N, K)`` as the right operand of :func:`sums`, ``(K, N)``."""
    as_float = levels.float().contiguous().t()
    if levels.device.type == "cpu" and int8_is_faster():
        as_int8 = as_float.t().to(torch.int8).t()
        if _agree(as_float, as_int8):
            return as_int8
    return as_float


def sums(levels: Tensor, prepared: Tensor) -> Tensor:
    """Levels ``(M, K)`` times what :func:`prepare` gave, ``(K, N)``: whole numbers ``(M, N)``, as int32 or float32."""
    if prepared.dtype is torch.int8:
        return torch._int_mm(levels.to(torch.int8), prepared)
    with torch.autocast(levels.device.type, enabled=False):  # a product in bfloat16 would round the sums
        return levels @ prepared


class Prepared(Generic[T]):
    """What is computed from weights before they can be used, kept until the weights change.

    Args:
        make: computes it from the weights.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: tuple[list[tuple[int, int]] | None, T] | None = None

    def __call__(self, *weights: Tensor) -> T:
        """The result for ``weights``, made now or before."""
        # tensors made in inference mode count no versions: nothing tells of a change
        key = None if weights[0].is_inference() else [(weight.data_ptr(), weight._version) for weight in weights]
        kept = self._kept  # another thread may replace it meanwhile, with an equal one
        if key is None or kept is None or kept[0] != key:
            with torch.no_grad():
                kept = self._kept = key, self._make(*weights)
        return kept[1]


@functools.cache
def int8_is_faster() -> bool:
    """Whether this processor multiplies int8 matrices faster than float32 ones; tried once in a process."""
    levels = (torch.arange(64 * 512).view(64, 512) * 89 % 255 - TOP_LEVEL).float()
    try:
        as_int8, as_float = (
            min(_seconds(levels, levels.to(dtype).t()) for _ in range(5)) for dtype in (torch.int8, torch.float32)
        )
    except (AttributeError, RuntimeError):  # this torch has no such product, or not on this platform
        return False
    return as_int8 < as_float


def _agree(as_float: Tensor, as_int8: Tensor) -> bool:
    """Whether int8 gives the sums that float32 gives, for the largest signals that this matrix can meet.

    Processors without VNNI instructions add pairs of products in 16 bits, which overflow; and a kernel may be wrong
    for a shape, as PyTorch's is for ``K = 1``.
    """
    signs = as_float.t()[:63].sign()
    most = TOP_LEVEL * torch.cat([torch.ones_like(signs[:1]), signs])
    return all(
        torch.equal(sums(signal, as_int8).float(), sums(signal, as_float)) for signal in (most, most[-1:], most[:3])
    )


def _seconds(levels: Tensor, prepared: Tensor) -> float:
    start = time.perf_counter()
    sums(levels, prepared)
    return time.perf_counter() - start


def _float_sums(levels: Tensor, prepared: Tensor) -> Tensor:
    return sums(levels, prepared).float()


def _round(x: Tensor) -> Tensor:
    """``x`` rounded to whole numbers, with the gradient of ``x``."""
    return x + (x.detach().round() - x.detach()) if torch.is_grad_enabled() else x.round_()
