"""Matrix products with the same result, to the bit, on every machine.

A sum of floats depends on its order, and the order depends on the kernel: on batch shape, threads and processor. A sum
of integers below 2**24 does not: float32 holds every partial sum, so any order, any fused or split kernel, and integer
arithmetic give the same result. Both operands of every product are therefore rounded to *levels*, integers from -127 to
127. Weights have one scale per output; inputs are rounded anew for every row, relative to its largest value. All other
operations are additions, multiplications, divisions, square roots and roundings of single elements, which IEEE 754
defines to the last bit, and maxima, which do not depend on an order.

Products run as int8 where the processor multiplies int8 matrices faster, and otherwise as float32: a choice of speed
alone. Where gradients are needed, inputs and weights are rounded in the same way in floating point, and gradients pass
straight through the rounding (Jacob et al. 2018, arXiv 1712.05877).
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import ConfigError
from speechtok.nn.weight_cache import WeightCache

MAX_LEVEL = 127
FINE_FACTOR = 128
_MAX_SUM = 2**24 // MAX_LEVEL
"""Largest sum of the absolute levels of one output's weights: no sum of products then exceeds 2**24."""
_MAX_INPUTS = 2**16
MIN_PEAK = 1e-30
"""Rows of zeros are scaled as if this was their largest value."""

_forced_int8: bool | None = None


def to_levels(x: Tensor, max_level: int = MAX_LEVEL, floor: float | None = None) -> tuple[Tensor, Tensor]:
    """Round each row of ``x`` to levels, relative to the row's largest absolute value.

    Args:
        x: ``(M, K)``.
        max_level: the largest level.
        floor: lower bound of ``x``, as ``-floor``. Levels are then relative to the row's largest value, or to
            ``floor`` if that is larger.

    Returns:
        The levels, float32 ``(M, K)``, and the scale of each row, ``(M, 1)``: a level times its scale is about ``x``.
    """
    values = x.detach() if x.requires_grad else x
    peak = (values.abs() if floor is None else values).amax(-1, keepdim=True)
    scale = peak.clamp_min_(MIN_PEAK if floor is None else floor).mul_(1 / max_level)
    return _round(x / scale), scale


class ExactLinear(nn.Module):
    """Linear layer that rounds its input and weights to levels; gradients pass straight through the rounding.

    Args:
        in_features: ``K``.
        out_features: ``N``.
        normed: divide each row of the input by its root mean square (RMS norm, Zhang and Sennrich 2019, arXiv
            1910.07467; its gain is part of the weights).
        fine: round the input 128 times as finely, at the cost of two products.
        floor: see :func:`to_levels`.

    Raises:
        ConfigError: the layer has too many inputs for exact sums.
    """

    def __init__(
        self, in_features: int, out_features: int, normed: bool = False, fine: bool = False, floor: float | None = None
    ) -> None:
        super().__init__()
        if in_features > _MAX_INPUTS:
            raise ConfigError(
                f"a layer has {in_features} inputs; exact products have at most {_MAX_INPUTS}: choose smaller widths"
            )
        linear = nn.Linear(in_features, out_features)
        self.weight, self.bias = linear.weight, linear.bias
        self.normed, self.fine, self.floor = normed, fine, floor
        self._operands: WeightCache[tuple[Tensor, Tensor, Tensor]] = WeightCache()

    def forward(self, x: Tensor) -> Tensor:
        """``x``: ``(M, K)``. Returns float32 ``(M, N)``."""
        levels, scale = self._input_levels(x)
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            weight, weight_scale, bias = self._scaled(self.weight, self.bias)
            return self._product(F.linear, levels, weight) * scale * weight_scale + bias
        if is_compiling():  # values cannot be kept beside the program
            weight, weight_scale, bias = self.levels()
            return self._product(F.linear, levels, weight) * scale * weight_scale + bias
        weight, weight_scale, bias = self._operands(self._prepare, self.weight, self.bias)
        return self._product(_float_sums, levels, weight).mul_(scale).mul_(weight_scale).add_(bias)

    def levels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Levels of the weights, ``(N, K)``, their scale for each output, ``(N,)``, and the bias, all float32."""
        return self._scaled(self.weight.float(), self.bias.float())

    def _input_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of the input, and the factor of their products for each row, ``(M, 1)``."""
        levels, scale = to_levels(x, FINE_FACTOR * MAX_LEVEL if self.fine else MAX_LEVEL, self.floor)
        if self.normed:
            # a sum of integers again, exact in float32 up to some width; the scale of the levels cancels out
            wide = self.fine or x.shape[1] * MAX_LEVEL**2 >= 2**24
            squares = (levels.double() if wide else levels).square()
            # PyTorch's float32 square root is not always correctly rounded; a float64 root, rounded, is
            scale = reciprocal(squares.sum(-1, keepdim=True).double().sqrt().float().clamp_min(1.0))
        return levels, scale

    def _product(self, product: Callable[[Tensor, Tensor], Tensor], levels: Tensor, weight: Tensor) -> Tensor:
        if not self.fine:
            return product(levels, weight)
        coarse = _round(levels / FINE_FACTOR)
        rest = levels - FINE_FACTOR * coarse
        if not is_compiling():
            return FINE_FACTOR * product(coarse, weight) + product(rest, weight)
        # one product of both parts: compilers of graphs turn `128 * (a @ w) + b @ w` into sums that begin at
        # 128 * (a @ w), which is above 2**24
        rows = levels.shape[0]
        parts = product(torch.cat([coarse, rest]), weight)
        return FINE_FACTOR * parts[:rows] + parts[rows:]

    def _scaled(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels, scale = weight_levels(weight)
        return levels, scale * weight.shape[1] ** 0.5 if self.normed else scale, bias

    def _prepare(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels, scale, bias = self._scaled(weight.float(), bias.float())
        return prepare(levels), scale, bias


def hard_swish(x: Tensor) -> Tensor:
    """``x * clamp(x + 3, 0, 6) / 6`` on every device. May overwrite ``x``, unless it needs a gradient."""
    if x.requires_grad:
        return F.hardswish(x)
    if x.device.type == "cpu" and not is_compiling():
        return F.hardswish(x, inplace=True)
    return divided_hard_swish(x)


def divided_hard_swish(x: Tensor) -> Tensor:
    """Hard swish in single operations, the last of which is a division on every device.

    The operation of CUDA multiplies by the reciprocal of 6. So does a division by a number or by a tensor on the CPU.
    """
    return x * (x + 3.0).clamp(0.0, 6.0) / _six(x.device)


def reciprocal(x: Tensor) -> Tensor:
    """``1 / x``, correctly rounded."""
    # runtimes of exported programs may approximate reciprocals, not divisions
    return torch.ones_like(x) / x if is_compiling() else x.reciprocal()


def is_compiling() -> bool:
    """Whether a program is being compiled or exported by PyTorch: its tensors may have no values and no memory."""
    return torch.compiler.is_compiling()


def weight_levels(weight: Tensor, one_scale: bool = False) -> tuple[Tensor, Tensor]:
    """Round a matrix to levels whose sums of products are exact.

    Args:
        weight: ``(N, K)``.
        one_scale: use the same scale for all rows.

    Returns:
        The levels, ``(N, K)``, with the gradient of ``weight``, and the scale of each row, ``(N,)``.
    """
    with torch.no_grad():
        levels, scale = to_levels(weight.flatten()[None] if one_scale else weight)
        scale = scale.expand(len(weight), 1)
        # long rows of large weights get coarser levels; rounding them again may add half a level to each
        # a tensor on the device: a number would become a reciprocal there
        largest = torch.full((), float(_MAX_SUM - weight.shape[1]), device=weight.device)
        excess = levels.view_as(weight).abs().sum(1, keepdim=True) / largest
        scale = scale * (excess.amax() if one_scale else excess).ceil().clamp_min(1.0)
    return _round(weight / scale), scale[:, 0]


def prepare(levels: Tensor) -> Tensor:
    """Lay out levels of a matrix ``(N, K)`` as the right operand of :func:`sums`, ``(K, N)``."""
    as_float = levels.float().contiguous().t()
    # for one input, PyTorch's int8 product returns memory that it never wrote, which may hold the right sums by chance
    exact = levels.device.type == "cpu" and levels.shape[1] > 1
    if exact and (int8_is_faster() if _forced_int8 is None else _forced_int8):
        as_int8 = as_float.t().to(torch.int8).t()
        if _agree(as_float, as_int8):
            return as_int8
    return as_float


def sums(levels: Tensor, prepared: Tensor) -> Tensor:
    """Multiply levels ``(M, K)`` with an operand from :func:`prepare`: integers ``(M, N)``, as int32 or float32."""
    if prepared.dtype is torch.int8:
        return torch._int_mm(levels.to(torch.int8), prepared)
    with torch.autocast(levels.device.type, enabled=False):  # a product in bfloat16 would round the sums
        return levels @ prepared


@functools.cache
def int8_is_faster() -> bool:
    """Whether this processor multiplies int8 matrices faster than float32 ones; measured once per process."""
    levels = (torch.arange(64 * 512, device="cpu").view(64, 512) * 89 % 255 - MAX_LEVEL).float()
    try:
        as_int8, as_float = (
            min(_seconds(levels, levels.to(dtype).t()) for _ in range(5)) for dtype in (torch.int8, torch.float32)
        )
    except (AttributeError, RuntimeError):  # this PyTorch has no int8 product, or none for this platform
        return False
    return as_int8 < as_float


@contextlib.contextmanager
def use_int8(int8: bool) -> Iterator[None]:
    """Choose int8 products (where they are exact) or float32 ones, to compare them; affects the whole process.

    Weights that were prepared before keep their dtype.
    """
    global _forced_int8
    before, _forced_int8 = _forced_int8, int8
    try:
        yield
    finally:
        _forced_int8 = before


def _six(device: torch.device) -> Tensor:
    return torch.full((), 6.0, device=device) if is_compiling() else _kept_six(device)


@functools.cache
def _kept_six(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.full((), 6.0, device=device)


def _agree(as_float: Tensor, as_int8: Tensor) -> bool:
    """Whether int8 gives the sums that float32 gives, for the largest inputs of this matrix.

    Processors without VNNI instructions add pairs of products in 16 bits, which may overflow; and a kernel may be wrong
    for a shape.
    """
    signs = as_float.t()[:63].sign()
    largest = MAX_LEVEL * torch.cat([torch.ones_like(signs[:1]), signs])
    largest = torch.cat([largest, -largest])
    # kernels differ for one row, few rows and many rows
    half = len(largest) // 2
    inputs = [largest, largest[:3], largest[:1], largest[1:2], largest[half : half + 1], largest[half + 1 : half + 2]]
    return all(torch.equal(sums(x, as_int8).float(), sums(x, as_float)) for x in inputs)


def _seconds(levels: Tensor, prepared: Tensor) -> float:
    start = time.perf_counter()
    sums(levels, prepared)
    return time.perf_counter() - start


def _float_sums(levels: Tensor, prepared: Tensor) -> Tensor:
    return sums(levels, prepared).float()


def _round(x: Tensor) -> Tensor:
    """Round ``x``, and keep its gradient."""
    return x + (x.detach().round() - x.detach()) if torch.is_grad_enabled() else x.round_()
