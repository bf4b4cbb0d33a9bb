"""Matrix products whose result is the same number everywhere.

A sum of floats depends on its order, and the order on the kernel: on the shape of the batch, the threads, the
processor. A sum of whole numbers that stays below 2**24 does not: float32 holds every partial sum, so any order, any
fused or split kernel, and integer arithmetic too, give the same. Both operands of every product are therefore rounded
to *levels*, whole numbers from -127 to 127: weights once, with one scale for each output; signals anew for every
frame, relative to its largest value. Between products stand only additions, multiplications, divisions, square roots
and roundings, element by element, which IEEE 754 defines to the last bit, and largest values, which have no order.

Where the processor multiplies bytes faster than floats, products run as int8, and otherwise as float32: a choice of
speed alone. Where gradients are wanted, the same rounding is applied to signals and weights in floating point, and they
pass straight through it (Jacob et al. 2018, arXiv 1712.05877).
"""

import functools
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import ConfigError

Made = TypeVar("Made")

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
    still = x.detach() if x.requires_grad else x
    peak = (still.abs() if floor is None else still).amax(-1, keepdim=True)
    size = peak.clamp_min_(_LEAST if floor is None else floor).mul_(1 / top)
    return _round(x / size), size


class ExactLinear(nn.Module):
    """A linear layer that rounds its input and weights to levels; gradients pass straight through the rounding.

    Args:
        in_features: ``K``.
        out_features: ``N``.
        normed: divide every row of the input by its root mean square (RMS norm, Zhang and Sennrich 2019, arXiv
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
        self._operands: WeightCache[tuple[Tensor, Tensor, Tensor]] = WeightCache()

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(M, K)``. Returns float32 ``(M, N)``."""
        levels, size = to_levels(x, 128 * TOP_LEVEL if self.fine else TOP_LEVEL, self.floor)
        if self.normed:
            # a sum of whole numbers again, which float32 holds up to some width; the size of a level does not matter
            wide = self.fine or x.shape[1] * TOP_LEVEL**2 >= 2**24
            squares = (levels.double() if wide else levels).square()
            # PyTorch's root of a float is not always the nearest float; that of a double, then rounded, is
            size = squares.sum(-1, keepdim=True).double().sqrt().float().clamp_min(1.0).reciprocal()
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            weight, weight_size, bias = self._scaled(self.weight, self.bias)
            return self._product(F.linear, levels, weight) * size * weight_size + bias
        weight, weight_size, bias = self._operands(self._prepare, self.weight, self.bias)
        return self._product(_float_sums, levels, weight).mul_(size).mul_(weight_size).add_(bias)

    def _product(self, product: Callable[[Tensor, Tensor], Tensor], levels: Tensor, weight: Tensor) -> Tensor:
        if not self.fine:
            return product(levels, weight)
        coarse = _round(levels / 128)
        return 128 * product(coarse, weight) + product(levels - 128 * coarse, weight)

    def _scaled(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels, size = weight_levels(weight)
        return levels, size * weight.shape[1] ** 0.5 if self.normed else size, bias

    def levels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Levels of the weights, ``(N, K)``, what a level is worth in each output, ``(N,)``, and the bias, float32."""
        return self._scaled(self.weight.float(), self.bias.float())

    def _prepare(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels, size, bias = self._scaled(weight.float(), bias.float())
        return prepare(levels), size, bias


def weight_levels(weight: Tensor, one_size: bool = False) -> tuple[Tensor, Tensor]:
    """Levels of a matrix ``(N, K)``, with the gradient of the matrix, and the size of a level in each row, ``(N,)``.

    Args:
        weight: the matrix.
        one_size: a level has the same size in all rows.
    """
    with torch.no_grad():
        levels, size = to_levels(weight.flatten()[None] if one_size else weight)
        size = size.expand(len(weight), 1)
        # long rows of large weights get larger levels; rounding again may add half a level each
        excess = levels.view_as(weight).abs().sum(1, keepdim=True) / (_LARGEST_SUM - weight.shape[1])
        size = size * (excess.amax() if one_size else excess).ceil().clamp_min(1.0)
    return _round(weight / size), size[:, 0]


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


class WeightCache(Generic[Made]):
    """What is computed from weights before they can be used, kept until the weights change.

    Changes that PyTorch counts are seen: optimizers, in-place operations, loading, conversions. What writes behind its
    back, through ``.data`` or a NumPy view, is not.
    """

    def __init__(self) -> None:
        self._kept: tuple[list[tuple[int, int]], Made, list[Tensor]] | None = None

    def __call__(self, make: Callable[..., Made], *weights: Tensor) -> Made:
        """What ``make`` makes of ``weights``, now or before."""
        # tensors made in inference mode count no versions: nothing tells of a change
        uncounted = any(weight.is_inference() for weight in weights)
        key = [] if uncounted else [(weight.data_ptr(), weight._version) for weight in weights]
        kept = self._kept  # another thread may replace it meanwhile, with an equal one
        if uncounted or kept is None or kept[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                # the weights are kept too, lest others take their address
                kept = self._kept = key, make(*weights), [weight.detach() for weight in weights]
        return kept[1]

    def __reduce__(self) -> tuple[type["WeightCache[Made]"], tuple[()]]:
        """Copies and pickles start empty."""
        return WeightCache, ()


@functools.cache
def int8_is_faster() -> bool:
    """Whether this processor multiplies int8 matrices faster than float32 ones; tried once in a process."""
    levels = (torch.arange(64 * 512, device="cpu").view(64, 512) * 89 % 255 - TOP_LEVEL).float()
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
    most = torch.cat([most, -most])
    # kernels differ for one row, few and many
    half = len(most) // 2
    signals = [most, most[:3], most[:1], most[1:2], most[half : half + 1], most[half + 1 : half + 2]]
    return all(torch.equal(sums(signal, as_int8).float(), sums(signal, as_float)) for signal in signals)


def _seconds(levels: Tensor, prepared: Tensor) -> float:
    start = time.perf_counter()
    sums(levels, prepared)
    return time.perf_counter() - start


def _float_sums(levels: Tensor, prepared: Tensor) -> Tensor:
    return sums(levels, prepared).float()


def _round(x: Tensor) -> Tensor:
    """``x`` rounded to whole numbers, with the gradient of ``x``."""
    return x + (x.detach().round() - x.detach()) if torch.is_grad_enabled() else x.round_()
