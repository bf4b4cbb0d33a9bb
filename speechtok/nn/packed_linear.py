"""Matrix products with weights laid out for the processor once, instead of in every call."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""``(..., K)`` to ``(..., N)``."""


def pack(weight: Tensor, bias: Tensor | None = None) -> Product:
    """A linear layer for inference, ``x @ weight.T + bias`` in float32, as fast as it gets here.

    oneDNN keeps the weights in blocks of its own; for signals of few rows, as a recurrence has, that is several times
    as fast. Where PyTorch has no such product, as on GPUs, it is the usual one.

    Args:
        weight: ``(N, K)``.
        bias: ``(N,)``; none by default.
    """
    weight = weight.float().contiguous()
    bias = None if bias is None else bias.float()

    def usual(x: Tensor) -> Tensor:
        return F.linear(x, weight, bias)

    if weight.device.type != "cpu":
        return usual
    try:
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight)
        product = torch.ops.mkldnn._linear_pointwise.default
        # one row, few and many: a PyTorch without the product says so at the first
        agree = all(
            torch.allclose(product(x, blocked, bias, "none", [], ""), usual(x), rtol=1e-4, atol=1e-4)
            for x in (torch.linspace(-1, 1, rows * weight.shape[1]).view(rows, -1) for rows in (1, 33))
        )
    except (AttributeError, RuntimeError, NotImplementedError):
        return usual
    if not agree:
        return usual

    def blockwise(x: Tensor) -> Tensor:
        y: Tensor = product(x, blocked, bias, "none", [], "")
        return y

    return blockwise
